package hub

import (
	"context"
	"slices"

	"lockstep/fsm"
	"lockstep/objects"
)

// maxMuted bounds the muted echoes that a queue remembers. An echo follows its
// reply within moments; were more forgotten, a client would hear of its own
// change a second time.
const maxMuted = 256

// Mute names an event that the client whose write it was shall not hear,
// because the reply told it: the removal of an item by object and event id, a
// message of a stream by its own SID. The zero value names none.
type Mute struct {
	SID objects.SID
	ID  objects.EventID
}

// muteOf returns the name under which an event may be muted.
func muteOf(e *objects.Event) Mute {
	switch e.Type {
	case objects.ItemRemoved:
		return Mute{SID: e.Object.SID, ID: e.ID}
	case objects.MessagePublished:
		return Mute{SID: e.Message.SID}
	}
	return Mute{}
}

// own is what a queue knows of its client's own writes.
type own struct {
	pending map[fsm.CommandID]*write // proposed, not yet answered
	holding []*Subscription          // with changes that wait for an answer
	muted   []Mute                   // oldest first
}

// write is a command under way.
type write struct {
	object   objects.SID // zero if that is not known
	requests int         // that wait for its result: a client may repeat one

	decided bool
	after   objects.EventID // if so: the last event in front of the answer
}

// limit returns the last event of an object that the client may hear of while
// its own writes to it are under way. limited reports whether there are any.
func (w *own) limit(object objects.SID) (until objects.EventID, limited bool) {
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

func (w *own) isPending(id fsm.CommandID) bool {
	if len(w.pending) == 0 {
		return false
	}
	_, ok := w.pending[id]
	return ok
}

func (w *own) isMuted(m Mute) bool {
	return len(w.muted) > 0 && m != Mute{} && slices.Contains(w.muted, m)
}

func (w *own) mute(m Mute) {
	if m == (Mute{}) {
		return
	}
	if len(w.muted) == maxMuted {
		w.muted = slices.Delete(w.muted, 0, 1)
	}
	w.muted = append(w.muted, m)
}

// Begin says that the client is about to write under this command id, to this
// object if that is known. Its echo waits for Finish, and so does what follows
// it on the same object.
func (q *Queue) Begin(id fsm.CommandID, object objects.SID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.own.pending == nil {
		q.own.pending = make(map[fsm.CommandID]*write)
	}
	if q.own.pending[id] == nil {
		q.own.pending[id] = &write{object: object}
	}
	q.own.pending[id].requests++
}

// Decided says that the result of the write is known, and waits until the
// client has been told of what happened before: its answer may follow after.
func (q *Queue) Decided(ctx context.Context, id fsm.CommandID, after Point) error {
	q.mu.Lock()
	if p := q.own.pending[id]; p != nil {
		p.object, p.decided, p.after = after.Object, true, after.Event
		if len(q.due) > 0 {
			q.signal()
		}
	}
	q.mu.Unlock()
	return q.Told(ctx, after)
}

// Finish appends the answer to the write, and then what waited for it. mute is
// the echo that the client shall not hear.
func (q *Queue) Finish(id fsm.CommandID, answer []byte, mute Mute) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.push(entry{frame: answer})
	q.own.mute(mute)
	if p := q.own.pending[id]; p != nil {
		if p.requests--; p.requests > 0 {
			return
		}
		delete(q.own.pending, id)
	}
	holding := q.own.holding
	q.own.holding = nil
	for _, s := range holding {
		s.release()
	}
	if len(q.due) > 0 {
		q.signal()
	}
}

// Muted reports whether the client shall not hear an event. Replays ask for it;
// live events are muted by the queue.
func (q *Queue) Muted(e *objects.Event) bool {
	m := muteOf(e)
	if m == (Mute{}) {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.own.isMuted(m)
}
