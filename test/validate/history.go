package validate

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// Call is one request to one object that holds one value: the input of the
// model. Values are unique, so that a read says which write it saw. An object
// holds 0 at first.
type Call struct {
	Object   string
	Kind     Kind
	Value    int // to write
	Expected int // CompareAndSet: the value that it must replace
}

// Kind is what a call does.
type Kind string

// The kinds of calls.
const (
	Read          Kind = "read"
	Set           Kind = "set"
	CompareAndSet Kind = "compare and set"
)

// Outcome is what the client was told.
type Outcome struct {
	Value   int  // that was read
	Refused bool // the value was not the expected one
	Unknown bool // no answer: it happened, at some time, or not
}

// never is when a call returns whose outcome is unknown.
const never = int64(1) << 62

// register is an object as a client may expect it to be: one place, one order.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byObject := map[string][]porcupine.Operation{}
		for _, op := range history {
			object := op.Input.(Call).Object
			byObject[object] = append(byObject[object], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byObject {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		value, in, out := state.(int), input.(Call), output.(Outcome)
		switch {
		case in.Kind == Read:
			return out.Unknown || out.Value == value, value
		case in.Kind == Set:
			return true, in.Value
		case !out.Refused && value == in.Expected:
			return true, in.Value
		case out.Unknown, out.Refused && value != in.Expected:
			return true, value
		}
		return false, value
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprint(state) },
}

// History is the calls of all clients. The zero value is an empty one; its
// methods may be called from any goroutine.
//
// Calls are ordered by when they begin and end in this process, not by a clock:
// two clocks differ, and a clock that stands still in between orders nothing.
type History struct {
	clock atomic.Int64

	mu    sync.Mutex
	calls []porcupine.Operation
}

// Begin returns the time of a call that is about to be made.
func (h *History) Begin() int64 { return h.clock.Add(1) }

// End notes a call that has ended, or been given up.
func (h *History) End(client int, call Call, began int64, out Outcome) {
	op := porcupine.Operation{ClientId: client, Input: call, Call: began, Output: out, Return: h.clock.Add(1)}
	if out.Unknown {
		op.Return = never
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, op)
}

// Len returns the number of calls that have ended.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.calls)
}

// Linearizable returns an error unless there is an order of the calls that
// explains all outcomes; then a picture of the history is in the file that it
// names. limit bounds the search: an order that is not found in time is an error.
func (h *History) Linearizable(limit time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	result, info := porcupine.CheckOperationsVerbose(register, h.calls, limit)
	if result == porcupine.Ok {
		return nil
	}
	f, err := os.CreateTemp("", "lockstep-history-*.html")
	if err != nil {
		return fmt.Errorf("validate: the history of %d calls is %s; no picture of it: %w", len(h.calls), result, err)
	}
	defer f.Close()
	if err := porcupine.Visualize(register, info, f); err != nil {
		return fmt.Errorf("validate: the history of %d calls is %s; no picture of it: %w", len(h.calls), result, err)
	}
	return fmt.Errorf("validate: the history of %d calls is %s: see %s", len(h.calls), result, f.Name())
}
