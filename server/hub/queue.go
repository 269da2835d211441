package hub

import (
	"context"
	"slices"
	"sync"

	"lockstep/fsm"
	"lockstep/server/cond"
)

// Queue is what waits to be written to one client. All of it is bounded, in
// frames and in bytes, by the hub's Config:
//
//   - A live event that finds no room puts its subscription behind. A message of a
//     stream takes the place of older messages. The notice that a subscription
//     ended is made when it would be its turn to catch up, and takes no room
//     until then.
//   - An answer to the client waits for Room first. Answers that were let in
//     concurrently, and the few that cannot wait, may exceed the bounds once
//     over: as many frames and as many bytes again, on top of what waited when
//     there was room for the last time. (One answer may be large, and is let in
//     whole.) Beyond that the queue is Overrun: it drops what waits, takes no
//     more and ends, and with it the client's session.
type Queue struct {
	hub      *Hub
	identity string
	wake     func(Urgency)

	mu      sync.Mutex
	waking  bool    // wake is called when the lock is released
	urgency Urgency // of that
	waiting backlog
	held    size // changes that wait for the answer to a write of the client
	beyond  size // pushed since there was room for the last time
	closing bool
	overrun bool
	subs    map[string]*Subscription
	due     []*Subscription // behind or ending, in the order of their turns
	leaving []func()        // the leave functions of ended subscriptions, to be called without the lock
	writes  pendingWrites
	moved   cond.Cond // when a subscription has advanced or ended
	room    cond.Cond // when there is room again
}

// size is a number of frames and of their bytes.
type size struct{ length, bytes int }

// Urgency is how soon what was added to a queue is to be written.
type Urgency uint8

const (
	CanWait Urgency = iota // live events, which may wait for more of them
	Enough                 // live events, with which a write is worth its while
	Prompt                 // more than live events
)

// enoughBytes is what a system call carries for hardly more than it costs by itself.
const enoughBytes = 4 << 10

// NewQueue makes the queue of a client of this identity. wake is called when Fill
// may have something to write, by any goroutine, and must not block.
func (h *Hub) NewQueue(identity string, wake func(Urgency)) *Queue {
	return &Queue{hub: h, identity: identity, wake: wake, subs: make(map[string]*Subscription)}
}

// unlock releases the lock and then wakes who calls Fill, once for all that was
// put into the queue meanwhile.
func (q *Queue) unlock() {
	waking, urgency := q.waking, q.urgency
	q.waking, q.urgency = false, CanWait
	q.mu.Unlock()
	if waking {
		q.wake(urgency)
	}
}

// Push appends a frame. Callers that answer the client wait for Room before.
func (q *Queue) Push(frame []byte) {
	q.mu.Lock()
	defer q.unlock()
	q.push(entry{frame: frame})
}

// Room waits until the queue is below its bounds, in frames and in bytes.
func (q *Queue) Room(ctx context.Context) error {
	return q.room.Wait(ctx, &q.mu, q.hasRoom)
}

// Waiting returns the number of frames that wait, and the number of their bytes.
func (q *Queue) Waiting() (frames, bytes int) {
	q.mu.Lock()
	defer q.unlock()
	all := q.size()
	return all.length, all.bytes
}

// Overrun reports whether the queue has ended because more was pushed than its
// bounds allow.
func (q *Queue) Overrun() bool {
	q.mu.Lock()
	defer q.unlock()
	return q.overrun
}

// Close appends last, which may be empty, as the final frame and takes nothing
// more. Only the first call has an effect.
func (q *Queue) Close(last []byte) {
	q.mu.Lock()
	defer q.unlock()
	if q.closing {
		return
	}
	q.waiting.push(entry{frame: last})
	q.closing = true
	q.moved.Broadcast()
	q.signal()
}

// Fill appends the waiting frames to b until b has about size bytes. When nothing
// waits, subscriptions that are behind or ending have their turns. last reports
// whether the queue is closed and this was the final frame.
func (q *Queue) Fill(b []byte, size int) (out []byte, last bool) {
	for {
		var due turn
		var leaving []func()
		b, due, leaving, last = q.fill(b, size)
		for _, leave := range leaving {
			leave()
		}
		if due.sub == nil {
			return b, last
		}
		b = due.sub.catchUp(b, due.view, due.part)
	}
}

// turn is a subscription's turn to catch up: the range that it lacks in a view.
type turn struct {
	sub  *Subscription
	view *fsm.View
	part replayRange
}

// fill is the part of Fill that holds the lock. It stops when a subscription has
// to catch up.
func (q *Queue) fill(b []byte, size int) (out []byte, due turn, leaving []func(), last bool) {
	q.mu.Lock()
	defer q.unlock()
	b = q.drain(b, size)
	for q.waiting.length == 0 && !q.closing && len(b) < size && due.sub == nil {
		sub := q.nextDue()
		if sub == nil {
			break
		}
		switch sub.state {
		case ending:
			b = sub.tellEnd(b)
		case behind:
			// The view is taken under the lock, so none of the client's writes can
			// begin: up to the limit the view contains none without a reply.
			due = turn{sub: sub, view: q.hub.config.View(), part: sub.replayRange()}
		}
	}
	leaving, q.leaving = q.leaving, nil
	return b, due, leaving, q.closing && q.waiting.length == 0
}

// drain moves frames from the queue to b.
func (q *Queue) drain(b []byte, size int) []byte {
	for len(b) < size {
		e, ok := q.waiting.pop()
		if !ok {
			break
		}
		if e.sub == nil || e.sub.state != cancelled {
			b = q.join(b, e)
		}
	}
	q.freed()
	return b
}

// The bounds of one frame with several events: as much as one of replayed events has,
// apart from an event that exceeds it.
const (
	joinedLength = 64
	joinedBytes  = 32 << 10
)

// joined are lists of what goes into one frame, until it is written.
var joined = sync.Pool{New: func() any { return new([joinedLength][]byte) }}

// join appends an entry's frame, with the events behind it that go into the same one.
func (q *Queue) join(b []byte, e entry) []byte {
	if next := q.waiting.next(); next == nil || !next.joins(e) {
		return append(b, e.frame...)
	}
	list := joined.Get().(*[joinedLength][]byte)
	events := append(list[:0], e.part.Event)
	for size := len(e.part.Event); len(events) < joinedLength; {
		next := q.waiting.next()
		if next == nil || !next.joins(e) {
			break
		}
		if size += len(next.part.Event); size > joinedBytes {
			break
		}
		events = append(events, next.part.Event)
		q.waiting.pop()
	}
	if len(events) == 1 {
		b = append(b, e.frame...)
	} else {
		b = q.hub.config.Join(b, e.part.Kind, events)
	}
	clear(events)
	joined.Put(list)
	return b
}

// joins reports whether an entry may be written in one frame with an earlier one.
func (e *entry) joins(earlier entry) bool {
	return e.part != nil && earlier.part != nil && e.sub == earlier.sub && e.part.Kind == earlier.part.Kind
}

// push appends an entry.
func (q *Queue) push(e entry) {
	if q.closing {
		return
	}
	if !q.hasRoom() {
		q.beyond.add(1, e.frame)
		if c := q.hub.config; q.beyond.length > c.QueueLength || q.beyond.bytes > c.QueueBytes {
			q.overrun = true
			q.abandon()
			return
		}
	}
	q.waiting.push(e)
	switch {
	case e.sub == nil:
		q.signal()
	case q.waiting.bytes >= enoughBytes:
		q.waking, q.urgency = true, max(q.urgency, Enough)
	default:
		q.waking = true
	}
}

// abandon ends the queue at once and drops what waits.
func (q *Queue) abandon() {
	q.closing = true
	for _, s := range q.writes.holding {
		s.dropHeld()
	}
	q.waiting, q.writes.holding = backlog{}, nil
	q.moved.Broadcast()
	q.freed()
	q.signal()
}

func (s *size) add(sign int, frame []byte) {
	s.length += sign
	s.bytes += sign * len(frame)
}

// size returns the number of all waiting frames and of their bytes.
func (q *Queue) size() size {
	return size{length: q.waiting.length + q.held.length, bytes: q.waiting.bytes + q.held.bytes}
}

// hasRoom does not count held changes: the answer that they wait for must get in
// before them.
func (q *Queue) hasRoom() bool {
	return q.waiting.length < q.hub.config.QueueLength && q.waiting.bytes < q.hub.config.QueueBytes
}

// freed is called when something was taken out of the queue.
func (q *Queue) freed() {
	if q.hasRoom() {
		q.beyond = size{}
		q.room.Broadcast()
	}
}

// signal has whoever calls Fill woken promptly when the lock is released.
func (q *Queue) signal() { q.waking, q.urgency = true, Prompt }

// fits reports whether there is room for one more event.
func (q *Queue) fits(frame []byte) bool {
	return q.fitsBut(frame, size{})
}

// fitsBut reports whether one more event would fit after dropping so much.
func (q *Queue) fitsBut(frame []byte, dropped size) bool {
	all := q.size()
	return all.length-dropped.length < q.hub.config.QueueLength && all.bytes-dropped.bytes+len(frame) <= q.hub.config.QueueBytes
}

// makeRoom drops the oldest stream messages until one more frame fits. If that is
// not enough, it drops nothing and returns false.
func (q *Queue) makeRoom(frame []byte) bool {
	if !q.fitsBut(frame, size{length: q.waiting.lossyLength, bytes: q.waiting.lossyBytes}) {
		return false
	}
	for !q.fits(frame) {
		q.waiting.dropOldest()
		q.hub.config.Dropped.Inc()
	}
	return true
}

// schedule puts a subscription in line to catch up, or to tell the client its end.
func (q *Queue) schedule(s *Subscription) {
	if (s.state == behind || s.state == ending) && !s.due {
		s.due = true
		q.due = append(q.due, s)
		q.signal()
	}
}

// nextDue takes the first subscription that may have its turn now. While the
// client itself is writing to an object, a subscription to that object catches up
// only as far as the event before the write, once that event is known, and then
// keeps its place in line. The reply must come before the echo, and a replay
// cannot tell whose write an event was.
func (q *Queue) nextDue() *Subscription {
	for i := 0; i < len(q.due); {
		s := q.due[i]
		if until, limited := q.writes.limit(s.object); s.state == behind && limited && s.sent >= until {
			i++
			continue
		}
		s.due, s.catchUpAgain = false, false
		if i == 0 {
			q.due[0] = nil
			q.due = q.due[1:]
		} else {
			q.due = slices.Delete(q.due, i, i+1)
		}
		if s.state == behind || s.state == ending {
			return s
		}
	}
	return nil
}
