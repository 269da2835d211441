package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/fsm"
)

const (
	// maxReads is how many reads may wait for a round; one more is refused as
	// ErrOverloaded.
	maxReads = 65536
	// roundTimeout bounds a round before it is tried again; affirmTimeout,
	// within it, the wait for a voter's term. Both are scaled.
	roundTimeout  = 3 * time.Second
	affirmTimeout = time.Second
)

// Read gives a view that contains everything acknowledged before the call,
// whichever node acknowledged it, and may be called on any node. The read is
// charged to bucket on the leader, unless that is empty; a refusal is a
// *RateLimited. Without a leader it waits and tries again until ctx ends, or 30
// seconds if that has no deadline, and then fails with ErrNoLeader.
func (n *Node) Read(ctx context.Context, bucket string) (*fsm.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	w := &waitingRead{ctx: ctx, bucket: bucket, out: make(chan readOutcome, 1)}
	if err := n.reader.join(w); err != nil {
		return nil, err
	}
	select {
	case o := <-w.out:
		if o.err != nil {
			return nil, o.err
		}
		view, err := n.fsm.Wait(ctx, o.index)
		if err != nil {
			return nil, fmt.Errorf("%w: waiting for the store: %w", ErrNoLeader, err)
		}
		return view, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
	case <-n.ctx.Done():
		return nil, ErrClosed
	}
}

// reader runs the rounds in which this node learns the leader's commit index:
// one at a time, shared by all reads that wait when it begins. A read never
// joins a round that has begun.
type reader struct {
	node *Node
	wake chan struct{} // one slot

	mu      sync.Mutex
	waiting []*waitingRead
}

type waitingRead struct {
	ctx    context.Context
	bucket string
	out    chan readOutcome // one slot
}

type readOutcome struct {
	index uint64
	err   error
}

func newReader(n *Node) *reader { return &reader{node: n, wake: make(chan struct{}, 1)} }

func (r *reader) join(w *waitingRead) error {
	r.mu.Lock()
	if len(r.waiting) >= maxReads {
		r.mu.Unlock()
		return ErrOverloaded
	}
	r.waiting = append(r.waiting, w)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

func (r *reader) run() {
	n := r.node
	for {
		select {
		case <-r.wake:
		case <-n.ctx.Done():
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
		state, changed := n.state.get()
		charges := chargesOf(round)
		answer, err := n.readIndex(state, changed, charges)
		switch {
		case err == nil:
			finish(round, charges, answer)
		case errors.Is(err, ErrNotMember):
			for _, w := range round {
				w.out <- readOutcome{err: err}
			}
		default:
			r.retry(round)
			n.awaitLeader(state, changed)
		}
	}
}

// retry lets the reads of a failed round take part in the next one.
func (r *reader) retry(round []*waitingRead) {
	r.mu.Lock()
	r.waiting = append(round, r.waiting...)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// awaitLeader waits for a change of leadership; while there is a leader, or
// while this node's term is about to start, only for a moment.
func (n *Node) awaitLeader(state raftState, changed <-chan struct{}) {
	pause := jitter(retryPause)
	if state.leader == "" {
		pause = time.Second
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-n.ctx.Done():
	}
}

// chargesOf counts the reads of a round by bucket.
func chargesOf(round []*waitingRead) []ReadCharge {
	var charges []ReadCharge
	place := make(map[string]int)
	for _, w := range round {
		if w.bucket == "" {
			continue
		}
		i, ok := place[w.bucket]
		if !ok {
			i = len(charges)
			place[w.bucket] = i
			charges = append(charges, ReadCharge{Bucket: w.bucket})
		}
		charges[i].Count++
	}
	return charges
}

// finish lets go on, of each bucket's reads, as many as were granted, in the
// order in which they came.
func finish(round []*waitingRead, charges []ReadCharge, answer readIndexAnswer) {
	limits := make(map[string]*ReadGrant)
	for i, c := range charges {
		if i < len(answer.Grants) && answer.Grants[i].Count < c.Count {
			limits[c.Bucket] = &answer.Grants[i]
		}
	}
	for _, w := range round {
		switch grant := limits[w.bucket]; {
		case grant == nil:
			w.out <- readOutcome{index: answer.Index}
		case grant.Count > 0:
			grant.Count--
			w.out <- readOutcome{index: answer.Index}
		default:
			w.out <- readOutcome{err: &RateLimited{RetryAfter: grant.RetryAfter}}
		}
	}
}

// readIndex learns, from whoever leads, an index that covers everything
// acknowledged before the call. The wait ends with the leader's reign.
func (n *Node) readIndex(state raftState, changed <-chan struct{}, charges []ReadCharge) (readIndexAnswer, error) {
	if state.leader == "" {
		return readIndexAnswer{}, ErrNoLeader
	}
	ctx, cancel := context.WithTimeout(n.ctx, n.config.scaled(roundTimeout))
	defer cancel()
	ctx, stop := until(ctx, changed)
	defer stop()
	// This node's term is read after the round began: by sending it, a voter
	// affirms it.
	request := readIndexRequest{Term: n.raft.CurrentTerm(), Charges: charges}
	if state.leader == n.self {
		return n.answerReadIndex(ctx, n.self, request)
	}
	return ask[readIndexAnswer](ctx, n, state.addr, kindReadIndex, request)
}

// answerReadIndex gives the commit index if this node leads the asker's term,
// if that term has started, and if a majority of voters has affirmed it since
// the asker's round began: the leader itself, the asker by its request, and as
// many others as are needed.
//
// A node persists a term before it votes in it. So if a majority was still in
// this term when it was asked, no later term had a leader by then, and nothing
// newer than the commit index was acknowledged before the round began. The
// commit index is read before the affirmations are asked for, and the state
// once more after them, so that no pause in between can hide a newer leader.
func (n *Node) answerReadIndex(ctx context.Context, from string, r readIndexRequest) (readIndexAnswer, error) {
	t, err := n.startedTerm(ctx)
	if err != nil {
		return readIndexAnswer{}, err
	}
	if r.Term != t.number {
		return readIndexAnswer{}, fmt.Errorf("%w: %d leads in %d", errOtherTerm, r.Term, t.number)
	}
	if !n.isServer(from) {
		return readIndexAnswer{}, fmt.Errorf("%w: %s", ErrNotMember, from)
	}
	index := n.raft.CommitIndex()
	if !n.leads(t.number) {
		return readIndexAnswer{}, errNotLeader
	}
	if err := n.affirm(ctx, t.number, from); err != nil {
		return readIndexAnswer{}, err
	}
	if !n.leads(t.number) {
		return readIndexAnswer{}, errNotLeader
	}
	answer := readIndexAnswer{Index: index}
	if n.config.AdmitReads != nil && len(r.Charges) > 0 {
		answer.Grants = n.config.AdmitReads(r.Charges)
	}
	return answer, nil
}

// affirm sees to it that a majority of voters is in the term. Only voters
// count: a node that is joining has no say in who leads.
func (n *Node) affirm(ctx context.Context, number uint64, asker string) error {
	voters := n.voters()
	missing := len(voters)/2 + 1
	others := voters[:0]
	for _, v := range voters {
		if id := string(v.ID); id == n.self || id == asker {
			missing--
		} else {
			others = append(others, v)
		}
	}
	if missing <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.scaled(affirmTimeout))
	answers := make(chan error, len(others))
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for _, v := range others {
		asking.Go(func() { answers <- n.askAffirm(ctx, v, number) })
	}
	var errs []error
	for range others {
		if err := <-answers; err != nil {
			errs = append(errs, err)
		} else if missing--; missing == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: term %d not affirmed: %w", ErrNoLeader, number, cmp.Or(errors.Join(errs...), errNotLeader))
}

func (n *Node) askAffirm(ctx context.Context, v raft.Server, number uint64) error {
	a, err := ask[affirmAnswer](ctx, n, string(v.Address), kindAffirm, none{})
	switch {
	case err != nil:
		return err
	case a.ID != string(v.ID) || a.Term != number:
		return fmt.Errorf("%w: %s is in term %d", errOtherTerm, a.ID, a.Term)
	}
	return nil
}
