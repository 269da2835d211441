package batch

import (
	"context"
	"runtime"
	"sync"
	"time"

	"lockstep/cluster/internal/wire"
)

// A queue holds at most this much; a proposal more is refused as wire.ErrOverloaded.
const (
	maxQueued      = 16384
	maxQueuedBytes = 32 << 20
)

// A group taken from a queue has at most this much, or what was put in together.
const (
	maxGroup      = 256
	maxGroupBytes = 256 << 10
)

// Queue gathers proposals, which are taken from it in groups.
type Queue struct {
	wake chan struct{} // one slot

	mu      sync.Mutex
	closed  error // why nothing more is taken in
	waiting []*Proposal
	bytes   int
}

// NewQueue returns an empty queue.
func NewQueue() *Queue { return &Queue{wake: make(chan struct{}, 1)} }

// Put adds proposals, which stay together: the group that has one of them has all,
// in this order. It returns why it cannot.
func (q *Queue) Put(together ...*Proposal) error {
	size, now := 0, time.Now()
	for i, p := range together {
		size += len(p.Body)
		p.arrived, p.tied = now, i < len(together)-1
	}
	q.mu.Lock()
	switch {
	case q.closed != nil:
		q.mu.Unlock()
		return q.closed
	case len(q.waiting)+len(together) > maxQueued || q.bytes+size > maxQueuedBytes:
		q.mu.Unlock()
		return wire.ErrOverloaded
	}
	q.waiting = append(q.waiting, together...)
	q.bytes += size
	q.mu.Unlock()
	q.signal()
	return nil
}

// Take waits for proposals and returns a group of them, or nil when ctx ends. It
// leaves out those whose caller no longer waits.
func (q *Queue) Take(ctx context.Context) []*Proposal {
	for {
		// Whoever is about to put something in goes first: under load that makes a
		// group of many, and nobody waits when there is nothing else to do.
		runtime.Gosched()
		if group := q.cut(); len(group) > 0 {
			return group
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (q *Queue) cut() (group []*Proposal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size, taken := 0, 0
	for i, p := range q.waiting {
		if first := i == 0 || !q.waiting[i-1].tied; first && len(group) > 0 {
			if length, bytes := together(q.waiting[i:]); len(group)+length > maxGroup || size+bytes > maxGroupBytes {
				break
			}
		}
		taken++
		q.bytes -= len(p.Body)
		if err := p.ctx.Err(); err != nil {
			p.Resolve(nil, wire.ErrNoLeader) // never sent
			continue
		}
		group = append(group, p)
		size += len(p.Body)
	}
	clear(q.waiting[:taken])
	q.waiting = q.waiting[taken:]
	if len(q.waiting) == 0 {
		q.waiting = nil
		return group
	}
	q.signal()
	return group
}

// together measures the proposals that stay together, beginning with the first.
func together(waiting []*Proposal) (length, bytes int) {
	for _, p := range waiting {
		length++
		bytes += len(p.Body)
		if !p.tied {
			break
		}
	}
	return length, bytes
}

// Len returns how many proposals wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Close refuses the proposals that wait, and all that are put in later.
func (q *Queue) Close(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = why
	Fail(q.waiting, why)
	q.waiting, q.bytes = nil, 0
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
