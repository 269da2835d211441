package cluster

import (
	"context"
	"sync"
	"time"
)

// groupsUnderWay is how many requests a node has under way to the leader. While
// they are, proposals gather, so that a busy node sends few large requests.
const groupsUnderWay = 4

// forwarder passes this node's proposals on to the leader. A leader that turns
// out to be none answers so; nobody forwards twice.
type forwarder struct {
	node  *Node
	queue *queue
}

func newForwarder(n *Node) *forwarder { return &forwarder{node: n, queue: newQueue()} }

func (f *forwarder) run() {
	ctx := f.node.ctx
	var underWay sync.WaitGroup
	defer underWay.Wait()
	defer f.queue.close(ErrClosed)
	free := make(chan struct{}, groupsUnderWay)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		group := f.queue.take(ctx)
		if group == nil {
			return
		}
		underWay.Go(func() {
			f.send(ctx, group)
			<-free
		})
	}
}

// send asks the leader for the outcomes of a group. It does not wait for one
// that has been replaced, which may be paused and never answer.
func (f *forwarder) send(ctx context.Context, group []*proposal) {
	state, changed := f.node.state.get()
	if state.leader == "" || state.leader == f.node.config.ID {
		fail(group, errNotLeader)
		return
	}
	ctx, cancel := context.WithDeadline(ctx, lastDeadline(group))
	defer cancel()
	ctx, stop := until(ctx, changed)
	defer stop()
	answer, err := f.node.call(ctx, state.addr, kindPropose, encodeProposals(group))
	if err != nil {
		fail(group, err)
		return
	}
	for i, p := range group {
		o, rest, err := decodeOutcome(answer)
		if err != nil {
			fail(group[i:], err)
			return
		}
		p.settle(o.result, o.err)
		answer = rest
	}
}

func fail(group []*proposal, err error) {
	for _, p := range group {
		p.settle(nil, err)
	}
}

// lastDeadline is until when somebody waits for the group.
func lastDeadline(group []*proposal) time.Time {
	var last time.Time
	for _, p := range group {
		if d, ok := p.ctx.Deadline(); ok && d.After(last) {
			last = d
		}
	}
	return last
}

// until gives a context that ends, too, when done is closed. The function it
// returns must be called.
func until(ctx context.Context, done <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel()
		watcher.Wait()
	}
}
