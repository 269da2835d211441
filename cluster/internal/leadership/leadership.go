// Package leadership follows who leads, and owns the terms that this node leads:
// it begins each one, sees its first command applied, runs the leader's jobs, and
// ends them with the term.
package leadership

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/watch"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// State is what this node believes about leadership.
type State struct {
	Role   raft.RaftState
	Term   uint64
	Leader string // server; empty when none is known
}

// Config is what leadership needs. Every field is required.
type Config struct {
	Store *fsm.FSM
	Life  *lifetime.Lifetime

	// Prepare is called at the beginning of each term, before its first command.
	Prepare func(ctx context.Context)

	// Stamp returns the time for a batch, in Unix milliseconds.
	Stamp func() int64

	// Batches is told of each log entry that this node makes.
	Batches batch.Observer

	Logger *slog.Logger
}

// Leadership is this node's view of who leads. Its methods may be called from any
// goroutine.
type Leadership struct {
	config  Config
	raft    atomic.Pointer[raft.Raft]
	state   watch.Value[State]
	leading watch.Value[*Term] // the term this node leads, once it has started

	mu   sync.Mutex
	jobs []job
	open *Term // as leading, for jobs
}

// New returns the leadership of a node. Nobody leads before Use.
func New(config Config) *Leadership { return &Leadership{config: config} }

// Use has the leadership be that of raft from now on. It is called before Watch and
// Run.
func (l *Leadership) Use(r *raft.Raft) { l.raft.Store(r) }

// Term is a term that this node leads.
type Term struct {
	Number  uint64
	ctx     context.Context
	cancel  context.CancelFunc
	batches *batch.Batcher
	work    sync.WaitGroup
}

// Context returns the context of all work that ends with the term.
func (t *Term) Context() context.Context { return t.ctx }

// Put has commands written in one of the term's next batches, or returns why they
// cannot be.
func (t *Term) Put(together ...*batch.Proposal) error { return t.batches.Put(together...) }

// Waiting returns how many commands wait for one of the term's next batches.
func (t *Term) Waiting() int { return t.batches.Waiting() }

// job is what OnLead registered.
type job struct {
	name string
	run  func(*Term)
}

// State returns what this node believes, and a channel that is closed when that
// has changed.
func (l *Leadership) State() (State, <-chan struct{}) { return l.state.Get() }

// Leading returns the term that this node leads and that has started, or nil.
func (l *Leadership) Leading() *Term {
	t, _ := l.leading.Get()
	return t
}

// Look reads raft's state now, as of one term. Raft gives up leadership before it
// raises the term, so a role of Leader seen within one term is of that term.
func (l *Leadership) Look() State {
	r := l.raft.Load()
	if r == nil {
		return State{}
	}
	for {
		term := r.CurrentTerm()
		role := r.State()
		_, leader := r.LeaderWithID()
		if r.CurrentTerm() == term {
			return State{Role: role, Term: term, Leader: string(leader)}
		}
	}
}

// Leads reports whether this node leads a term right now.
func (l *Leadership) Leads(number uint64) bool {
	s := l.Look()
	return s.Role == raft.Leader && s.Term == number
}

// Watch keeps the state up to date until the node ends. What raft observes is
// only a hint to look: of several hints one is enough.
func (l *Leadership) Watch() {
	hints := make(chan raft.Observation, 1)
	observer := raft.NewObserver(hints, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation:
			return true
		}
		return false
	})
	r := l.raft.Load()
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)
	for {
		l.state.Set(l.Look())
		select {
		case <-hints:
		case <-l.config.Life.Context().Done():
			return
		}
	}
}

// OnLead has run called, in a goroutine of its own, in each term that this node
// leads, once the term has started: then the store contains all that was
// acknowledged before. It must return when the term's context ends; the node
// waits for that before it leads again or closes. If the node leads already, run
// is called at once.
func (l *Leadership) OnLead(name string, run func(*Term)) {
	j := job{name, run}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs = append(l.jobs, j)
	if l.open != nil {
		l.start(l.open, j)
	}
}

func (l *Leadership) start(t *Term, j job) {
	t.work.Go(func() {
		j.run(t)
		l.config.Logger.Debug("leader's job ended", "job", j.name, "term", t.Number)
	})
}

// Run begins each term that this node leads, and ends it, until the node ends.
func (l *Leadership) Run() {
	var current *Term
	for {
		state, changed := l.state.Get()
		leads := state.Role == raft.Leader
		if current != nil && (!leads || current.Number != state.Term) {
			l.end(current)
			current = nil
		}
		if current == nil && leads {
			current = l.begin(state.Term)
		}
		select {
		case <-changed:
		case <-l.config.Life.Context().Done():
			if current != nil {
				l.end(current)
			}
			return
		}
	}
}

func (l *Leadership) begin(number uint64) *Term {
	t := &Term{Number: number}
	t.ctx, t.cancel = context.WithCancel(l.config.Life.Context())
	t.batches = batch.NewBatcher(l.apply, l.config.Stamp, l.config.Batches)
	t.work.Go(func() { l.lead(t) })
	return t
}

func (l *Leadership) apply(entry []byte) raft.ApplyFuture {
	return l.raft.Load().Apply(entry, batch.EnqueueTimeout)
}

func (l *Leadership) end(t *Term) {
	t.cancel()
	t.work.Wait()
	l.config.Logger.Info("no longer leading", "term", t.Number)
}

// lead runs a term from its first command on.
func (l *Leadership) lead(t *Term) {
	l.config.Prepare(t.ctx)
	if err := l.writeFirst(t); err != nil {
		l.config.Logger.Warn("term not started", "term", t.Number, "error", err)
		return
	}
	l.config.Logger.Info("leading", "term", t.Number)
	l.mu.Lock()
	l.open = t
	for _, j := range l.jobs {
		l.start(t, j)
	}
	l.mu.Unlock()

	l.leading.Set(t)
	t.batches.Run(t.ctx)
	l.leading.Set(nil)

	l.mu.Lock()
	l.open = nil
	l.mu.Unlock()
}

// writeFirst writes the term's first command and sees it applied. From then on
// the commit index covers all that earlier terms have acknowledged, which the
// commit index of a leader just elected need not.
func (l *Leadership) writeFirst(t *Term) error {
	command, err := fsm.TermStarted(commandid.New()).Encode()
	if err != nil {
		return err
	}
	for {
		err := l.apply(fsm.EncodeBatch(l.config.Stamp(), [][]byte{command})).Error()
		started := l.config.Store.View().TermStarted()
		switch {
		case err == nil && started == t.Number:
			return nil
		case err == nil:
			err = fmt.Errorf("%w: started in term %d", wire.ErrOtherTerm, started)
		}
		if t.ctx.Err() != nil || !l.Leads(t.Number) {
			return err
		}
		lifetime.Pause(t.ctx, lifetime.RetryPause) // a transfer is under way, perhaps, and may yet fail
	}
}

// Started waits until the term that this node leads has started. It returns
// ErrNotLeader if the node leads none.
func (l *Leadership) Started(ctx context.Context) (*Term, error) {
	for {
		t, started := l.leading.Get()
		if t != nil {
			return t, nil
		}
		state, changed := l.state.Get()
		if state.Role != raft.Leader {
			return nil, wire.ErrNotLeader
		}
		select {
		case <-started:
		case <-changed:
		case <-l.config.Life.Context().Done():
			return nil, wire.ErrClosed
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", wire.ErrNoLeader, ctx.Err())
		}
	}
}
