package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/fsm"
)

// raftState is what this node believes about leadership.
type raftState struct {
	role   raft.RaftState
	term   uint64
	leader string // server; empty when none is known
	addr   string // of the leader's internal port
}

// look reads raft's state as of one term. Raft gives up leadership before it
// raises the term, so a role of Leader seen within one term is of that term.
func look(r *raft.Raft) raftState {
	for {
		term := r.CurrentTerm()
		role := r.State()
		addr, leader := r.LeaderWithID()
		if r.CurrentTerm() == term {
			return raftState{role: role, term: term, leader: string(leader), addr: string(addr)}
		}
	}
}

// leads says whether this node leads a term right now.
func (n *Node) leads(number uint64) bool {
	s := look(n.raft)
	return s.role == raft.Leader && s.term == number
}

// watchRaft keeps state up to date. What raft observes is only a hint to look:
// of several hints one is enough.
func (n *Node) watchRaft() {
	hints := make(chan raft.Observation, 1)
	observer := raft.NewObserver(hints, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	defer n.raft.DeregisterObserver(observer)
	for {
		n.state.set(look(n.raft))
		select {
		case <-hints:
		case <-n.ctx.Done():
			return
		}
	}
}

// term is a term that this node leads, and the context of all work that ends
// with it.
type term struct {
	number  uint64
	ctx     context.Context
	cancel  context.CancelFunc
	batches *batcher
	work    sync.WaitGroup
}

// job is what OnLead registered.
type job struct {
	name string
	run  func(context.Context)
}

// OnLead has run called, in a goroutine of its own, in each term that this node
// leads, once the term has started: then the store contains all that was
// acknowledged before. Its context ends with the term, and the node waits for
// it to return before it leads again or closes. If the node leads already, run
// is called at once.
func (n *Node) OnLead(name string, run func(ctx context.Context)) {
	j := job{name, run}
	n.jobsMu.Lock()
	defer n.jobsMu.Unlock()
	n.jobs = append(n.jobs, j)
	if n.open != nil {
		n.runJob(n.open, j)
	}
}

func (n *Node) runJob(t *term, j job) {
	t.work.Go(func() {
		j.run(t.ctx)
		n.config.Logger.Debug("leader's job ended", "job", j.name, "term", t.number)
	})
}

// terms owns leadership: it begins each term that this node leads, and ends it.
func (n *Node) terms() {
	var current *term
	for {
		state, changed := n.state.get()
		leads := state.role == raft.Leader
		if current != nil && (!leads || current.number != state.term) {
			n.endTerm(current)
			current = nil
		}
		if current == nil && leads {
			current = n.beginTerm(state.term)
		}
		select {
		case <-changed:
		case <-n.ctx.Done():
			if current != nil {
				n.endTerm(current)
			}
			return
		}
	}
}

func (n *Node) beginTerm(number uint64) *term {
	t := &term{number: number}
	t.ctx, t.cancel = context.WithCancel(n.ctx)
	t.batches = newBatcher(
		func(entry []byte) raft.ApplyFuture { return n.raft.Apply(entry, enqueueTimeout) },
		n.stamp,
	)
	t.work.Go(func() { n.lead(t) })
	return t
}

func (n *Node) endTerm(t *term) {
	t.cancel()
	t.work.Wait()
	n.config.Logger.Info("no longer leading", "term", t.number)
}

// lead runs a term from its first command on.
func (n *Node) lead(t *term) {
	if err := n.startTerm(t); err != nil {
		n.config.Logger.Warn("term not started", "term", t.number, "error", err)
		return
	}
	n.config.Logger.Info("leading", "term", t.number)
	for _, part := range []func(*term){n.expire, n.promote, n.nudge} {
		t.work.Go(func() { part(t) })
	}
	n.jobsMu.Lock()
	n.open = t
	for _, j := range n.jobs {
		n.runJob(t, j)
	}
	n.jobsMu.Unlock()

	n.leading.set(t)
	t.batches.run(t.ctx)
	n.leading.set(nil)

	n.jobsMu.Lock()
	n.open = nil
	n.jobsMu.Unlock()
}

// startTerm writes the term's first command and sees it applied. From then on
// the commit index covers all that earlier terms have acknowledged, which the
// commit index of a leader just elected need not.
func (n *Node) startTerm(t *term) error {
	n.startClock(t.ctx)
	command, err := fsm.TermStarted(fsm.NewID()).Encode()
	if err != nil {
		return err
	}
	for {
		err := n.raft.Apply(fsm.EncodeBatch(n.stamp(), [][]byte{command}), enqueueTimeout).Error()
		started := n.fsm.View().TermStarted()
		switch {
		case err == nil && started == t.number:
			return nil
		case err == nil:
			err = fmt.Errorf("%w: started in term %d", errOtherTerm, started)
		}
		if t.ctx.Err() != nil || !n.leads(t.number) {
			return err
		}
		n.pause(t.ctx, retryPause) // a transfer is under way, perhaps, and may yet fail
	}
}

// startedTerm waits until the term that this node leads has started.
func (n *Node) startedTerm(ctx context.Context) (*term, error) {
	for {
		t, started := n.leading.get()
		if t != nil {
			return t, nil
		}
		state, changed := n.state.get()
		if state.role != raft.Leader {
			return nil, errNotLeader
		}
		select {
		case <-started:
		case <-changed:
		case <-n.ctx.Done():
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
		}
	}
}

// expirePause bounds how often things that fall due one by one are expired.
const expirePause = 20 * time.Millisecond

// expire has what is due removed: the next due time or a new view wakes it.
func (n *Node) expire(t *term) {
	for t.ctx.Err() == nil {
		view := n.fsm.View()
		due, ok := view.NextExpiry()
		switch now := n.stamp(); {
		case ok && due <= now:
			n.expireNow(t)
		case ok:
			ctx, cancel := context.WithTimeout(t.ctx, time.Duration(due-now)*time.Millisecond)
			n.fsm.Wait(ctx, view.Index()+1)
			cancel()
		default:
			n.fsm.Wait(t.ctx, view.Index()+1)
		}
	}
}

func (n *Node) expireNow(t *term) {
	body, err := fsm.Expire(fsm.NewID()).Encode()
	if err != nil {
		n.config.Logger.Error("expiry not encoded", "error", err)
		n.pause(t.ctx, time.Second)
		return
	}
	p := newProposal(t.ctx, body, true)
	if err := t.batches.queue.put(p); err != nil {
		p.settle(nil, err)
	}
	select {
	case o := <-p.out:
		if o.err == nil && o.result.More {
			return
		}
	case <-t.ctx.Done():
	}
	n.pause(t.ctx, expirePause)
}
