// Package batch makes log entries of proposed commands. Proposals wait in a queue
// and are taken from it in groups. The Batcher runs on the leader; a node that
// forwards to the leader has a queue, too.
package batch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// EnqueueTimeout bounds the wait for raft's main loop to take an entry.
const EnqueueTimeout = 2 * time.Second

// Batcher makes log entries of the commands that wait on the leader, for one term.
type Batcher struct {
	queue *Queue
	apply func(entry []byte) raft.ApplyFuture
	stamp func() int64
	Observer
}

// Observer is told of each log entry: what went into it, and how long the oldest of
// its commands has waited; and, when it is applied, when raft was given it.
type Observer struct {
	Made    func(commands, bytes int, waited time.Duration)
	Applied func(handed time.Time)

	// Traced is told of each command that is followed when it was applied: when it came,
	// and when raft was given it.
	Traced func(span *wire.Span, arrived, handed time.Time)
}

// NewBatcher returns a batcher that hands entries to apply, with the time that stamp
// returns, in Unix milliseconds.
func NewBatcher(apply func([]byte) raft.ApplyFuture, stamp func() int64, told Observer) *Batcher {
	return &Batcher{queue: NewQueue(), apply: apply, stamp: stamp, Observer: told}
}

// Put adds proposals to the queue, for one log entry, or returns why it cannot.
func (b *Batcher) Put(together ...*Proposal) error { return b.queue.Put(together...) }

// Waiting returns how many commands wait.
func (b *Batcher) Waiting() int { return b.queue.Len() }

// Run sends one batch after the other until ctx ends, and waits for the last. Two
// under way would make the log entries smaller, of which each costs the disks and
// the network about the same, and each would wait for the fsync of the other.
func (b *Batcher) Run(ctx context.Context) {
	defer b.queue.Close(wire.ErrNotLeader)
	for {
		group := b.queue.Take(ctx)
		if group == nil {
			return
		}
		b.write(group)
	}
}

func (b *Batcher) write(group []*Proposal) {
	entry := b.entry(group)
	handed := time.Now()
	b.Made(len(group), len(entry), handed.Sub(group[0].arrived))
	future := b.apply(entry)
	if answerGroup(group, future) {
		b.Applied(handed)
		for _, p := range group {
			if p.Span != nil {
				b.Traced(p.Span, p.arrived, handed)
			}
		}
	}
}

func (b *Batcher) entry(group []*Proposal) []byte {
	commands := make([][]byte, len(group))
	for i, p := range group {
		commands[i] = p.Body
	}
	return fsm.EncodeBatch(b.stamp(), commands)
}

// answerGroup waits for raft's answer and passes it on. Refusals by the domain are
// results; an error is raft's own. It reports whether the entry was applied.
func answerGroup(group []*Proposal, future raft.ApplyFuture) (applied bool) {
	if err := future.Error(); err != nil {
		Fail(group, applyError(err))
		return false
	}
	results, ok := future.Response().([]*fsm.Result)
	if !ok { // the store did not take it
		Fail(group, wire.ErrUnknownOutcome)
		return false
	}
	for i, r := range results {
		group[i].Resolve(r, nil)
	}
	return true
}

// applyError tells raft's errors after which nothing was appended from those that
// leave it open.
func applyError(err error) error {
	for _, known := range []error{raft.ErrNotLeader, raft.ErrLeadershipTransferInProgress, raft.ErrEnqueueTimeout} {
		if errors.Is(err, known) {
			return fmt.Errorf("%w: %w", wire.ErrNotLeader, err)
		}
	}
	return fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, err)
}
