package cluster

import (
	"context"
	"sync"
)

// A queue holds at most this much; a proposal more is refused as ErrOverloaded.
const (
	maxQueued      = 16384
	maxQueuedBytes = 32 << 20
)

// A group taken from a queue has at most this much, or one large proposal.
const (
	maxGroup      = 256
	maxGroupBytes = 256 << 10
)

// queue gathers proposals for whoever sends them on, in groups.
type queue struct {
	wake chan struct{} // one slot

	mu      sync.Mutex
	closed  error // why nothing more is taken in
	waiting []*proposal
	bytes   int
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) put(p *proposal) error {
	q.mu.Lock()
	switch {
	case q.closed != nil:
		q.mu.Unlock()
		return q.closed
	case len(q.waiting) >= maxQueued || q.bytes+len(p.body) > maxQueuedBytes:
		q.mu.Unlock()
		return ErrOverloaded
	}
	q.waiting = append(q.waiting, p)
	q.bytes += len(p.body)
	q.mu.Unlock()
	q.signal()
	return nil
}

// take waits for proposals and gives a group of what is there; nil when ctx
// ended. Those that nobody waits for any more are left out.
func (q *queue) take(ctx context.Context) []*proposal {
	for {
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

func (q *queue) cut() (group []*proposal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size, taken := 0, 0
	for _, p := range q.waiting {
		if len(group) == maxGroup || (len(group) > 0 && size+len(p.body) > maxGroupBytes) {
			break
		}
		taken++
		q.bytes -= len(p.body)
		if err := p.ctx.Err(); err != nil {
			p.settle(nil, ErrNoLeader) // never sent
			continue
		}
		group = append(group, p)
		size += len(p.body)
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

// close refuses what waits and what is still put in.
func (q *queue) close(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = why
	for _, p := range q.waiting {
		p.settle(nil, why)
	}
	q.waiting, q.bytes = nil, 0
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
