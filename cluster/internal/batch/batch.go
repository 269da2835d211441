// Package batch makes log entries of proposed commands: proposals wait in a queue,
// and whoever takes them takes a group. Its Batcher is the leader's; a node that
// forwards to the leader has a queue of its own.
package batch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

const (
	// batchesUnderWay is how many log entries are waited for at a time. With two,
	// the next one is on its way to disk while the last one is being applied;
	// more make the entries smaller, and each waits behind the other's fsync.
	batchesUnderWay = 2
	// EnqueueTimeout bounds the wait for raft's main loop to take an entry.
	EnqueueTimeout = 2 * time.Second
)

// Batcher makes log entries of the commands that wait on the leader, for one term.
type Batcher struct {
	queue *Queue
	apply func(entry []byte) raft.ApplyFuture
	stamp func() int64
}

// NewBatcher returns a batcher that hands entries to apply, with the time that stamp
// returns, in Unix milliseconds.
func NewBatcher(apply func([]byte) raft.ApplyFuture, stamp func() int64) *Batcher {
	return &Batcher{queue: NewQueue(), apply: apply, stamp: stamp}
}

// Put adds a proposal to what waits, or returns why it cannot.
func (b *Batcher) Put(p *Proposal) error { return b.queue.Put(p) }

// Run sends batches until ctx ends, and waits for those under way.
func (b *Batcher) Run(ctx context.Context) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	defer b.queue.Close(wire.ErrNotLeader)
	free := make(chan struct{}, batchesUnderWay)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		group := b.queue.Take(ctx)
		if group == nil {
			return
		}
		future := b.apply(b.entry(group))
		underWay.Go(func() {
			answerGroup(group, future)
			<-free
		})
	}
}

func (b *Batcher) entry(group []*Proposal) []byte {
	commands := make([][]byte, len(group))
	for i, p := range group {
		commands[i] = p.Body
	}
	return fsm.EncodeBatch(b.stamp(), commands)
}

// settleGroup waits for raft's answer and passes it on. Domain refusals are
// among the results; an error is raft's own.
func answerGroup(group []*Proposal, future raft.ApplyFuture) {
	if err := future.Error(); err != nil {
		Fail(group, applyError(err))
		return
	}
	for i, r := range future.Response().([]*fsm.Result) {
		group[i].Settle(r, nil)
	}
}

// applyError sorts raft's errors into those after which nothing was appended
// and those that leave it open.
func applyError(err error) error {
	for _, known := range []error{raft.ErrNotLeader, raft.ErrLeadershipTransferInProgress, raft.ErrEnqueueTimeout} {
		if errors.Is(err, known) {
			return fmt.Errorf("%w: %w", wire.ErrNotLeader, err)
		}
	}
	return fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, err)
}
