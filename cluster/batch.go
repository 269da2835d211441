package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/fsm"
)

const (
	// batchesUnderWay is how many log entries are waited for at a time. With two,
	// the next one is on its way to disk while the last one is being applied;
	// more make the entries smaller, and each waits behind the other's fsync.
	batchesUnderWay = 2
	// enqueueTimeout bounds the wait for raft's main loop to take an entry.
	enqueueTimeout = 10 * time.Second
)

// batcher makes log entries of the commands that wait on the leader, for one term.
type batcher struct {
	queue *queue
	apply func(entry []byte) raft.ApplyFuture
	stamp func() int64
}

func newBatcher(apply func([]byte) raft.ApplyFuture, stamp func() int64) *batcher {
	return &batcher{queue: newQueue(), apply: apply, stamp: stamp}
}

// run sends batches until ctx ends, and waits for those under way.
func (b *batcher) run(ctx context.Context) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	defer b.queue.close(errNotLeader)
	free := make(chan struct{}, batchesUnderWay)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		group := b.queue.take(ctx)
		if group == nil {
			return
		}
		future := b.apply(b.entry(group))
		underWay.Go(func() {
			settleGroup(group, future)
			<-free
		})
	}
}

func (b *batcher) entry(group []*proposal) []byte {
	commands := make([][]byte, len(group))
	for i, p := range group {
		commands[i] = p.body
	}
	return fsm.EncodeBatch(b.stamp(), commands)
}

// settleGroup waits for raft's answer and passes it on. Domain refusals are
// among the results; an error is raft's own.
func settleGroup(group []*proposal, future raft.ApplyFuture) {
	if err := future.Error(); err != nil {
		err = applyError(err)
		for _, p := range group {
			p.settle(nil, err)
		}
		return
	}
	for i, r := range future.Response().([]*fsm.Result) {
		group[i].settle(r, nil)
	}
}

// applyError sorts raft's errors into those after which nothing was appended
// and those that leave it open.
func applyError(err error) error {
	for _, known := range []error{raft.ErrNotLeader, raft.ErrLeadershipTransferInProgress, raft.ErrEnqueueTimeout} {
		if errors.Is(err, known) {
			return fmt.Errorf("%w: %w", errNotLeader, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}
