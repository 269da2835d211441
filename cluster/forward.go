package cluster

import (
	"context"
	"sync"
	"time"
)

// groupsUnderWay is how many requests a node has under way to the leader. It is
// no brake: what is proposed while one request is written shares the next one.
const groupsUnderWay = 128

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
	reign := f.newReign()
	defer func() { reign.end() }()
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
		if reign.ctx.Err() != nil {
			reign.end()
			reign = f.newReign()
		}
		current := reign
		underWay.Go(func() {
			f.send(current, group)
			<-free
		})
	}
}

// reign is the time during which one leader is known. Requests to the leader do
// not outlast it: one that has been replaced may be paused and never answer.
type reign struct {
	state raftState
	ctx   context.Context
	end   func()
}

func (f *forwarder) newReign() *reign {
	state, changed := f.node.state.get()
	ctx, end := until(f.node.ctx, changed)
	return &reign{state, ctx, end}
}

// send asks the leader for the outcomes of a group.
func (f *forwarder) send(r *reign, group []*proposal) {
	if r.state.leader == "" || r.state.leader == f.node.self {
		fail(group, errNotLeader)
		return
	}
	ctx, cancel := context.WithDeadline(r.ctx, lastDeadline(group))
	defer cancel()
	answer, err := f.node.call(ctx, r.state.addr, kindPropose, encodeProposals(group))
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
