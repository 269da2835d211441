package readindex

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
	"lockstep/objects"
)

// Charge is the number of reads of one round that count against one bucket.
type Charge struct {
	Bucket objects.Bucket `cbor:"1,keyasint"`
	Count  uint32         `cbor:"2,keyasint"`
}

// Grant is how many reads of a charge may go on, and the time after which one of
// the others may try again.
type Grant struct {
	Count      uint32        `cbor:"1,keyasint"`
	RetryAfter time.Duration `cbor:"2,keyasint,omitempty"`
}

// RateLimited is the refusal of a read.
type RateLimited struct {
	Wait time.Duration
}

// RetryAfter returns the time after which the read may pass.
func (e *RateLimited) RetryAfter() time.Duration { return e.Wait }

// Error implements error.
func (e *RateLimited) Error() string {
	return fmt.Sprintf("cluster: rate limit exceeded, try again in %v", e.Wait)
}

type waitingRead struct {
	ctx    context.Context
	bucket objects.Bucket
	out    chan readOutcome // one slot
}

type readOutcome struct {
	index uint64
	err   error
}

func (r *Reads) join(w *waitingRead) error {
	r.mu.Lock()
	if len(r.waiting) >= maxReads {
		r.mu.Unlock()
		return wire.ErrOverloaded
	}
	r.waiting = append(r.waiting, w)
	r.mu.Unlock()
	r.signal()
	return nil
}

func (r *Reads) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run runs, until the node ends, the rounds in which it learns the leader's commit
// index: one at a time, shared by all reads that wait when it begins. A read never
// joins a round that has begun.
func (r *Reads) Run() {
	for {
		select {
		case <-r.wake:
		case <-r.Life.Context().Done():
			return
		}
		r.mu.Lock()
		round := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		round = slices.DeleteFunc(round, func(w *waitingRead) bool { return w.ctx.Err() != nil })
		if len(round) == 0 {
			continue
		}
		state, changed := r.Leadership.State()
		charges := chargesOf(round)
		begun := time.Now()
		answer, err := r.ask(state, changed, charges)
		switch {
		case err == nil:
			r.Asked(len(round), time.Since(begun))
			finish(round, charges, answer)
		case errors.Is(err, wire.ErrNotMember):
			for _, w := range round {
				w.out <- readOutcome{err: err}
			}
		default:
			r.retry(round)
			r.awaitLeader(state, changed)
		}
	}
}

// retry lets the reads of a failed round take part in the next one.
func (r *Reads) retry(round []*waitingRead) {
	r.mu.Lock()
	r.waiting = append(round, r.waiting...)
	r.mu.Unlock()
	r.signal()
}

// awaitLeader waits for a change of leadership; while there is a leader, or
// while this node's term is about to start, only for a moment.
func (r *Reads) awaitLeader(state leadership.State, changed <-chan struct{}) {
	pause := lifetime.Jitter(lifetime.RetryPause)
	if state.Leader == "" {
		pause = time.Second
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-r.Life.Context().Done():
	}
}

// chargesOf counts the reads of a round by bucket.
func chargesOf(round []*waitingRead) []Charge {
	var charges []Charge
	place := make(map[objects.Bucket]int)
	for _, w := range round {
		if w.bucket == (objects.Bucket{}) {
			continue
		}
		i, ok := place[w.bucket]
		if !ok {
			i = len(charges)
			place[w.bucket] = i
			charges = append(charges, Charge{Bucket: w.bucket})
		}
		charges[i].Count++
	}
	return charges
}

// finish lets as many reads of each bucket go on as were granted, in the order in
// which they came.
func finish(round []*waitingRead, charges []Charge, a Answer) {
	limits := make(map[objects.Bucket]*Grant)
	for i, c := range charges {
		if i < len(a.Grants) && a.Grants[i].Count < c.Count {
			limits[c.Bucket] = &a.Grants[i]
		}
	}
	for _, w := range round {
		switch grant := limits[w.bucket]; {
		case grant == nil:
			w.out <- readOutcome{index: a.Index}
		case grant.Count > 0:
			grant.Count--
			w.out <- readOutcome{index: a.Index}
		default:
			w.out <- readOutcome{err: &RateLimited{Wait: grant.RetryAfter}}
		}
	}
}
