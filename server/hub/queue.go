package hub

import (
	"context"
	"slices"
	"sync"

	"lockstep/fsm"
	"lockstep/objects"
)

// Queue is what waits to be written to one client.
//
// Live events are bounded, in frames and in bytes, by the hub's Config. An
// event that finds no room puts its subscription behind; a message of a stream
// takes the place of older ones. What the client itself asked for is taken in
// always, and whoever answers it bounds that: by the number of requests under
// way, and by Room.
type Queue struct {
	hub      *Hub
	identity string
	wake     chan struct{} // one slot: there may be something to write
	room     chan struct{} // one slot: there may be room

	mu      sync.Mutex
	entries []entry
	length  int // entries and held changes
	bytes   int // their frames
	lossy   int // entries that may be dropped
	closing bool
	subs    map[string]*Subscription
	due     []*Subscription // behind, in the order in which they catch up
	leaving []func()        // what is to be called without the lock, for subscriptions that ended
	own     own
}

type entry struct {
	frame []byte
	sub   *Subscription // whose event it is; nil: not an event
	lossy bool
}

// NewQueue makes the queue of a client of this identity.
func (h *Hub) NewQueue(identity string) *Queue {
	return &Queue{
		hub: h, identity: identity,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
		subs: make(map[string]*Subscription),
	}
}

// Wake gives the channel that tells when Fill may have something to give.
func (q *Queue) Wake() <-chan struct{} { return q.wake }

// Push appends a frame, whatever waits already.
func (q *Queue) Push(frame []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.push(entry{frame: frame})
}

// Room waits until less than the bound in bytes waits.
func (q *Queue) Room(ctx context.Context) error {
	for {
		q.mu.Lock()
		free := q.bytes < q.hub.config.QueueBytes
		q.mu.Unlock()
		if free {
			signal(q.room) // for the next one who waits
			return nil
		}
		select {
		case <-q.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close lets nothing more in: behind what waits, last is the end (it may be
// empty). Only the first call has an effect.
func (q *Queue) Close(last []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing {
		return
	}
	q.push(entry{frame: last})
	q.closing = true
}

// Fill appends what waits to b, until b has some size bytes, and lets those
// catch up that are behind when nothing else waits. last says that the queue
// is closed and this was the end.
func (q *Queue) Fill(b []byte, size int) (out []byte, last bool) {
	for {
		q.mu.Lock()
		b = q.drain(b, size)
		empty := len(q.entries) == 0
		last = q.closing && empty
		var view *fsm.View
		var sub *Subscription
		var known, after objects.EventID
		if empty && !q.closing && len(b) < size {
			// The view is taken while the lock keeps own writes from beginning:
			// it contains none whose reply is still to come.
			if sub = q.nextDue(); sub != nil {
				view, known, after = q.hub.config.View(), sub.known, sub.sent
			}
		}
		leaving := q.leaving
		q.leaving = nil
		q.mu.Unlock()

		for _, leave := range leaving {
			leave()
		}
		if sub == nil {
			return b, last
		}
		b = sub.catchUp(b, view, known, after)
	}
}

// drain moves frames from the queue to b.
func (q *Queue) drain(b []byte, size int) []byte {
	n := 0
	for ; n < len(q.entries) && len(b) < size; n++ {
		e := q.entries[n]
		q.forget(e)
		if e.sub == nil || e.sub.state != void {
			b = append(b, e.frame...)
		}
	}
	if n == len(q.entries) && cap(q.entries) > 32 {
		q.entries = nil // an idle client keeps no large buffer
		return b
	}
	rest := copy(q.entries, q.entries[n:])
	clear(q.entries[rest:])
	q.entries = q.entries[:rest]
	return b
}

// push appends an entry and wakes who fills.
func (q *Queue) push(e entry) {
	if q.closing {
		return
	}
	q.entries = append(q.entries, e)
	q.count(e.frame)
	if e.lossy {
		q.lossy++
	}
	q.signal()
}

func (q *Queue) forget(e entry) {
	q.uncount(e.frame)
	if e.lossy {
		q.lossy--
	}
}

func (q *Queue) count(frame []byte) {
	q.length++
	q.bytes += len(frame)
}

func (q *Queue) uncount(frame []byte) {
	q.length--
	q.bytes -= len(frame)
	if q.bytes < q.hub.config.QueueBytes {
		signal(q.room)
	}
}

func (q *Queue) signal() { signal(q.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fits says whether there is room for one more event.
func (q *Queue) fits(frame []byte) bool {
	return q.length < q.hub.config.QueueLength && q.bytes+len(frame) <= q.hub.config.QueueBytes
}

// makeRoom drops the oldest stream messages until one more frame fits. It
// gives false, and drops nothing, if that cannot be had.
func (q *Queue) makeRoom(frame []byte) bool {
	if q.lossy == 0 || q.bytes-q.lossyBytes()+len(frame) > q.hub.config.QueueBytes {
		return q.fits(frame)
	}
	for at := 0; !q.fits(frame); {
		for !q.entries[at].lossy {
			at++
		}
		q.forget(q.entries[at])
		q.entries = slices.Delete(q.entries, at, at+1)
		q.hub.config.Dropped.Inc()
	}
	return true
}

func (q *Queue) lossyBytes() (sum int) {
	for _, e := range q.entries {
		if e.lossy {
			sum += len(e.frame)
		}
	}
	return sum
}

// schedule has a subscription catch up in its turn.
func (q *Queue) schedule(s *Subscription) {
	if s.state == behind && !s.due {
		s.due = true
		q.due = append(q.due, s)
		q.signal()
	}
}

// nextDue takes the first subscription that may catch up now. One on an object
// that the client itself is writing to keeps its turn: the reply must come
// before the echo, and a replay cannot tell whose write it was.
func (q *Queue) nextDue() *Subscription {
	for i := 0; i < len(q.due); {
		s := q.due[i]
		if s.state == behind && q.own.writes(s.object) {
			i++
			continue
		}
		s.due, s.again = false, false
		q.due = slices.Delete(q.due, i, i+1)
		if s.state == behind {
			return s
		}
	}
	return nil
}
