package durablestreams

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"lockstep/objects"
)

// An offset is the number of the object and the id of an event, after which reading
// goes on. The number tells a stream that was deleted and made anew from the one
// before, and is greater: offsets sort as they were given.

const offsetDigits = 16 // of each number, hexadecimal

func offset(o *objects.Object, at objects.EventID) string {
	return fmt.Sprintf("%0*x_%0*x", offsetDigits, o.Num, offsetDigits, uint64(at))
}

// position is where a reader wants to go on.
type position struct {
	now    bool // behind everything that is there
	object uint64
	after  objects.EventID // of the object; 0 with object 0: the beginning
}

var errOffset = objects.ErrParameter.With("offset must be -1, now, or one that Stream-Next-Offset told")

// parsePosition reads the parameter offset. given says whether there is one.
func parsePosition(query url.Values) (p position, given bool, err error) {
	values, given := query["offset"]
	if !given {
		return position{}, false, nil
	}
	if len(values) > 1 {
		return position{}, true, objects.ErrParameter.With("offset is there twice")
	}
	p, err = parseOffset(values[0])
	return p, true, err
}

func parseOffset(text string) (position, error) {
	switch text {
	case "-1":
		return position{}, nil
	case "now":
		return position{now: true}, nil
	}
	num, after, _ := strings.Cut(text, "_")
	object, err1 := parseDigits(num)
	event, err2 := parseDigits(after)
	if err1 != nil || err2 != nil {
		return position{}, errOffset
	}
	return position{object: object, after: objects.EventID(event)}, nil
}

func parseDigits(text string) (uint64, error) {
	if len(text) != offsetDigits || strings.ToLower(text) != text {
		return 0, errOffset
	}
	return strconv.ParseUint(text, 16, 64)
}

// in returns the event of an object after which a reader goes on.
func (p position) in(o *objects.Object) (objects.EventID, error) {
	switch {
	case p.now:
		return o.EventID, nil
	case p.object == 0 && p.after == 0:
		return 0, nil
	case p.object != o.Num || p.after > o.EventID:
		return 0, objects.ErrOffset
	}
	return p.after, nil
}
