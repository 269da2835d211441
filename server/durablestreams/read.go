package durablestreams

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
)

// A part of a stream has at most so many items, and about so many bytes.
const (
	partItems = 1000
	partBytes = 256 << 10
)

// part is a stretch of a stream.
type part struct {
	durable fsm.Durable
	object  *objects.Object
	from    objects.EventID // what comes after it is in the part
	to      objects.EventID // reading goes on after it
	items   []*objects.Item
	whole   bool // it reaches to the end
}

// read returns the part of a stream after an event.
func read(view *fsm.View, o *objects.Object, after objects.EventID) part {
	p := part{durable: view.Durable(o), object: o, from: after}
	items := view.ItemsAfter(o, after, partItems)
	size := 0
	for n, i := range items {
		if size += len(i.Data); size > partBytes && n > 0 {
			items = items[:n]
			p.items, p.to = items, items[n-1].EventID
			return p
		}
	}
	p.items, p.to, p.whole = items, o.EventID, len(items) < partItems
	if !p.whole {
		p.to = items[len(items)-1].EventID
	}
	return p
}

// encoding is that of the stream's items.
func (p *part) encoding() encoding { return encodingOf(p.durable.ContentType) }

// ended reports whether nothing can follow the part.
func (p *part) ended() bool { return p.whole && p.durable.Closed }

// tag is the ETag. No item can come to be between two events that are past, and one
// that goes makes them fewer: the ends of a part and the number of its items tell one
// content from every other.
func (p *part) tag() string {
	tag := fmt.Sprintf(`"%x-%x-%x-%x`, p.object.Num, p.from, p.to, len(p.items))
	if p.ended() {
		tag += "-c"
	}
	return tag + `"`
}

func contentType(d *fsm.Durable) string { return cmp.Or(d.ContentType, objects.JSONType) }

// setPlace sets the headers that say where in its stream an answer ends.
func (p *part) setPlace(h http.Header) {
	h.Set("Content-Type", contentType(&p.durable))
	h.Set("Stream-Next-Offset", offset(p.object, p.to))
	if p.whole {
		h.Set("Stream-Up-To-Date", "true")
	}
	if p.ended() {
		h.Set("Stream-Closed", "true")
	}
}

func (q *request) find(ctx context.Context) (api.Found, error) {
	return q.config.API.FetchObject(ctx, q.caller, q.kind, q.ref)
}

// goOn finds the stream, which is read now, and the event after which reading goes on.
func (q *request) goOn(ctx context.Context, at position) (found api.Found, after objects.EventID, err error) {
	if found, err = q.find(ctx); err != nil {
		return found, 0, err
	}
	if err := q.config.API.TouchDurable(ctx, q.caller, found); err != nil {
		return found, 0, err
	}
	after, err = at.in(found.Object)
	return found, after, err
}

// get answers with what comes after an offset.
func (q *request) get(ctx context.Context) error {
	query := q.r.URL.Query()
	if query.Has("live") {
		return q.live(ctx, query)
	}
	at, _, err := parsePosition(query)
	if err != nil {
		return q.config.API.Refuse(ctx, q.caller, q.kind, q.ref, objects.Read, err)
	}
	found, after, err := q.goOn(ctx, at)
	if err != nil {
		return err
	}
	p := read(found.View, found.Object, after)
	p.setPlace(q.w.Header())
	switch {
	case at.now:
		q.w.Header().Set("Cache-Control", "no-store")
	case p.whole:
		q.w.Header().Set("Cache-Control", "private, no-cache")
	default:
		q.w.Header().Set("Cache-Control", "private, max-age=60, stale-while-revalidate=300")
	}
	if !at.now {
		q.w.Header().Set("ETag", p.tag())
		if matches(q.r.Header.Values("If-None-Match"), p.tag()) {
			q.w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	q.answer(http.StatusOK, p.encoding().body(nil, p.items))
	return nil
}

// matches reports whether one of the tags of an If-None-Match is a tag.
func matches(given []string, tag string) bool {
	for _, line := range given {
		for one := range strings.SplitSeq(line, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}

// answer sends a whole body.
func (q *request) answer(status int, body []byte) {
	q.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	q.w.WriteHeader(status)
	// That the client is gone is no news, and nothing is left to be done.
	_, _ = q.w.Write(body)
}

// head answers with what is known of a stream.
func (q *request) head(ctx context.Context) error {
	found, err := q.find(ctx)
	if err != nil {
		return err
	}
	d, header := found.View.Durable(found.Object), q.w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", contentType(&d))
	header.Set("Stream-Next-Offset", offset(found.Object, found.Object.EventID))
	switch {
	case d.TTL > 0:
		header.Set("Stream-TTL", strconv.FormatInt(d.TTL, 10))
	case found.Object.Expires > 0:
		header.Set("Stream-Expires-At", time.UnixMilli(found.Object.Expires).UTC().Format("2006-01-02T15:04:05.999Z07:00"))
	}
	if d.Closed {
		header.Set("Stream-Closed", "true")
	}
	q.w.WriteHeader(http.StatusOK)
	return nil
}
