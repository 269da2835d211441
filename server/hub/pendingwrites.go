package hub

import (
	"context"
	"slices"

	"lockstep/fsm"
	"lockstep/objects"
)

// maxSuppressed bounds how many echoes a queue remembers to suppress. An echo
// follows its reply within moments. If one were forgotten too early, the client
// would be told of its own change a second time.
const maxSuppressed = 256

// EchoKey names an event that its own writer is not told of, because the reply
// already said it. The removal of an item is named by object and event id, a
// message of a stream by its own SID. The zero value names no event.
type EchoKey struct {
	SID objects.SID
	ID  objects.EventID
}

// echoKeyOf returns the key under which an event may be suppressed.
func echoKeyOf(e *objects.Event) EchoKey {
	switch e.Type {
	case objects.ItemRemoved:
		return EchoKey{SID: e.Object.SID, ID: e.ID}
	case objects.MessagePublished:
		return EchoKey{SID: e.Message.SID}
	}
	return EchoKey{}
}

// pendingWrites is what a queue knows about its client's own writes.
type pendingWrites struct {
	pending    map[fsm.CommandID]*write // proposed, not yet answered
	holding    []*Subscription          // with changes that wait for an answer
	suppressed []EchoKey                // oldest first
}

// write is a command under way.
type write struct {
	object   objects.SID // zero if that is not known
	requests int         // how many wait for its result: a client may repeat a request

	decided bool
	after   objects.EventID // once decided: the last event that precedes the answer
}

// limit returns the last event of an object that the client may be told of while
// its own writes to that object are under way. limited reports whether any are.
func (w *pendingWrites) limit(object objects.SID) (until objects.EventID, limited bool) {
	if object.IsZero() {
		return 0, false
	}
	for _, p := range w.pending {
		switch {
		case p.object != object:
		case !p.decided:
			return 0, true
		case !limited || p.after < until:
			until, limited = p.after, true
		}
	}
	return until, limited
}

func (w *pendingWrites) isPending(id fsm.CommandID) bool {
	if len(w.pending) == 0 {
		return false
	}
	_, ok := w.pending[id]
	return ok
}

func (w *pendingWrites) isSuppressed(key EchoKey) bool {
	return len(w.suppressed) > 0 && key != EchoKey{} && slices.Contains(w.suppressed, key)
}

func (w *pendingWrites) suppress(key EchoKey) {
	if key == (EchoKey{}) {
		return
	}
	if len(w.suppressed) == maxSuppressed {
		w.suppressed = slices.Delete(w.suppressed, 0, 1)
	}
	w.suppressed = append(w.suppressed, key)
}

// Begin announces a write of the client under this command id, to this object if
// the object is known. The echo of the write, and every later event of the same
// object, waits for Finish.
func (q *Queue) Begin(id fsm.CommandID, object objects.SID) {
	q.mu.Lock()
	defer q.unlock()
	if q.writes.pending == nil {
		q.writes.pending = make(map[fsm.CommandID]*write)
	}
	if q.writes.pending[id] == nil {
		q.writes.pending[id] = &write{object: object}
	}
	q.writes.pending[id].requests++
}

// Decided announces that the result of the write is known. It waits until the
// client has been told of everything before the write, so the answer may follow.
func (q *Queue) Decided(ctx context.Context, id fsm.CommandID, after Point) error {
	q.mu.Lock()
	if p := q.writes.pending[id]; p != nil {
		p.object, p.decided, p.after = after.Object, true, after.Event
		if len(q.due) > 0 {
			q.signal()
		}
	}
	q.unlock()
	return q.AwaitTold(ctx, after)
}

// Finish appends the answer to the write, and then the events that waited for
// it. The client is not told of the event that echo names.
func (q *Queue) Finish(id fsm.CommandID, answer []byte, echo EchoKey) {
	q.mu.Lock()
	defer q.unlock()
	q.push(entry{frame: answer})
	q.writes.suppress(echo)
	if p := q.writes.pending[id]; p != nil {
		if p.requests--; p.requests > 0 {
			return
		}
		delete(q.writes.pending, id)
	}
	holding := q.writes.holding
	q.writes.holding = nil
	for _, s := range holding {
		s.release()
	}
	if len(q.due) > 0 {
		q.signal()
	}
}

// Suppressed reports whether the client must not be told of an event. Replays
// have to ask; the queue itself suppresses live events.
func (q *Queue) Suppressed(e *objects.Event) bool {
	m := echoKeyOf(e)
	if m == (EchoKey{}) {
		return false
	}
	q.mu.Lock()
	defer q.unlock()
	return q.writes.isSuppressed(m)
}
