// Package proposer has commands written, once each, on whichever node is asked. It
// sends each command to the leader, again and again until its outcome is known.
package proposer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/objects"
)

// maxCommand is the size of an encoded command that raft still replicates
// without unsettling its heartbeats.
const maxCommand = 512 << 10

// Leadership tells a proposer which server leads.
type Leadership interface {
	// State returns who leads, and a channel that is closed when that changed.
	State() (leadership.State, <-chan struct{})

	// Leading returns the term that this node leads and that has started, or nil.
	Leading() *leadership.Term

	// Started waits until the term that this node leads has started.
	Started(ctx context.Context) (*leadership.Term, error)
}

// Config is what a proposer needs. Every field but Admit is required.
type Config struct {
	Self       string // this server
	Leadership Leadership
	Peers      wire.Caller
	Store      *fsm.FSM
	Waiters    *Waiters // which the store tells what it has applied
	Life       *lifetime.Lifetime

	// Admit is asked on the leader about each command before it is written; known
	// reports that the store remembers it as applied. A result other than nil is
	// the answer.
	Admit func(v *fsm.View, c *fsm.Command, known bool) *fsm.Result

	// Forwarded is told how long a group of commands took to the leader and its answer
	// back. Nil: nobody is told.
	Forwarded func(time.Duration)

	// Follows returns the span in which a command is followed, or nil, and Record notes
	// another one within it. Nil: nothing is followed.
	Follows func(id fsm.CommandID) *wire.Span
	Record  func(within *wire.Span, name string, begun, ended time.Time)
}

// Proposer has commands written for one node. Its methods may be called from any
// goroutine.
type Proposer struct {
	Config
	forwarded *batch.Queue
}

// New returns a proposer, which forwards nothing before Run.
func New(config Config) *Proposer {
	if config.Forwarded == nil {
		config.Forwarded = func(time.Duration) {}
	}
	return &Proposer{Config: config, forwarded: batch.NewQueue()}
}

// Waiting returns how many commands wait to be sent to the leader.
func (p *Proposer) Waiting() int { return p.forwarded.Len() }

// Propose has a command written, once, and returns its result; it may be called
// on any node. Refusals by the domain are results. An error says that there is
// no answer: ErrNoLeader, ErrOverloaded, ErrNotMember, ErrTooLarge and
// ErrClosed if nothing was written, ErrUnknownOutcome if that is not certain.
//
// An operation that the cluster's format level does not have yet is refused
// (objects.ErrLevel). This store may be behind the cluster's level, never ahead.
//
// The result is shared: it must not be changed.
//
// Without a deadline in ctx it gives up after 30 seconds. If Issued is zero, it
// is set to this store's index, as for an id that was just made.
func (p *Proposer) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	ctx, cancel := lifetime.Bounded(ctx)
	defer cancel()
	w, refusal, err := p.begin(c)
	if w == nil {
		return refusal, err
	}
	defer w.end()
	return w.run(ctx)
}

// begin begins a write, or returns with what it ends at once.
func (p *Proposer) begin(c *fsm.Command) (w *write, refusal *fsm.Result, err error) {
	if fsm.Needs(c.Op) > p.Store.View().Level() {
		return nil, &fsm.Result{Err: objects.ErrLevel}, nil
	}
	if c.Issued == 0 {
		stamped := *c
		stamped.Issued = p.Store.View().Index()
		c = &stamped
	}
	body, err := c.Encode()
	if err != nil {
		return nil, nil, err
	}
	if len(body) > maxCommand {
		return nil, nil, fmt.Errorf("%w: %d bytes", wire.ErrTooLarge, len(body))
	}
	w = &write{proposer: p, command: c, body: body}
	if p.Follows != nil {
		w.span = p.Follows(c.ID)
	}
	// A client's key may be used for two requests at a time, so that an applied
	// id alone does not say whose result it is; the leader's answer does.
	if !c.ClientChosen {
		w.applied = p.Waiters.add(c.ID)
	}
	return w, nil, nil
}

func (w *write) end() {
	if w.applied != nil {
		w.proposer.Waiters.remove(w.command.ID, w.applied)
	}
}

// write is a Propose under way.
type write struct {
	proposer *Proposer
	command  *fsm.Command
	body     []byte
	span     *wire.Span       // it is followed in
	applied  chan *fsm.Result // the result of this node's own store; nil: not asked
	again    bool             // some attempt may have been written
}

// run repeats attempts until the outcome is known: that of an attempt, or of
// this node's own store, whichever comes first.
func (w *write) run(ctx context.Context) (*fsm.Result, error) {
	p := w.proposer
	for first := true; ; first = false {
		if !first {
			if r, ok := w.lookup(); ok {
				return r, nil
			}
		}
		state, changed := p.Leadership.State()
		if state.Leader == "" {
			if r, err := w.await(ctx, changed, nil); r != nil || err != nil {
				return r, err
			}
			continue
		}
		attempt := batch.NewProposal(ctx, w.body, w.again)
		attempt.Span = w.span
		p.dispatch(attempt, w.command, state)
		select {
		case r := <-w.applied:
			return r, nil
		case o := <-attempt.Outcome():
			if o.Err == nil {
				return o.Result, nil
			}
			if err := w.classify(o.Err); err != nil {
				return nil, err
			}
			if r, err := w.await(ctx, changed, time.After(lifetime.Jitter(lifetime.RetryPause))); r != nil || err != nil {
				return r, err
			}
		case <-changed: // the answer may never come
			w.again = true
		case <-ctx.Done():
			w.again = true
			return nil, w.giveUp(ctx.Err())
		case <-p.Life.Context().Done():
			w.again = true
			return nil, w.giveUp(wire.ErrClosed)
		}
	}
}

// await waits until there is a reason to try (again), or none to go on.
func (w *write) await(ctx context.Context, changed <-chan struct{}, pause <-chan time.Time) (*fsm.Result, error) {
	select {
	case r := <-w.applied:
		return r, nil
	case <-changed:
	case <-pause:
	case <-ctx.Done():
		return nil, w.giveUp(ctx.Err())
	case <-w.proposer.Life.Context().Done():
		return nil, w.giveUp(wire.ErrClosed)
	}
	return nil, nil
}

// classify returns the error that a failed attempt ends the write with, or nil if
// it is to be tried again.
func (w *write) classify(err error) error {
	if !wire.NotWritten(err) {
		w.again = true
		return nil
	}
	final := errors.Is(err, wire.ErrOverloaded) || errors.Is(err, wire.ErrNotMember) || errors.Is(err, wire.ErrTooLarge) || errors.Is(err, wire.ErrBadRequest)
	if final && !w.again {
		return err
	}
	return nil
}

func (w *write) giveUp(cause error) error {
	switch {
	case w.again:
		return fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, cause)
	case errors.Is(cause, wire.ErrClosed):
		return cause
	}
	return fmt.Errorf("%w: %w", wire.ErrNoLeader, cause)
}

// lookup finds the result of an earlier attempt that this store has from a snapshot.
func (w *write) lookup() (*fsm.Result, bool) {
	if w.applied == nil {
		return nil, false
	}
	return w.proposer.Store.Lookup(w.command.ID)
}

// dispatch sends an attempt to the leader without waiting for its outcome.
func (p *Proposer) dispatch(attempt *batch.Proposal, c *fsm.Command, state leadership.State) {
	if state.Leader != p.Self {
		if err := p.forwarded.Put(attempt); err != nil {
			attempt.Resolve(nil, err)
		}
		return
	}
	if t := p.Leadership.Leading(); t != nil {
		p.submit(t, attempt, c)
		return
	}
	// The term is about to start. This is rare, so it may cost a goroutine.
	err := p.Life.Go(func() {
		t, err := p.Leadership.Started(attempt.Context())
		if err != nil {
			attempt.Resolve(nil, err)
			return
		}
		p.submit(t, attempt, c)
	})
	if err != nil {
		attempt.Resolve(nil, err)
	}
}

// submit puts a client's command into the batches of a term that this node leads.
func (p *Proposer) submit(t *leadership.Term, attempt *batch.Proposal, c *fsm.Command) {
	if !p.admit(attempt, c) {
		return
	}
	if err := t.Put(attempt); err != nil {
		attempt.Resolve(nil, err)
	}
}

// admit resolves an attempt that is not to be written.
func (p *Proposer) admit(attempt *batch.Proposal, c *fsm.Command) (ok bool) {
	if p.Admit != nil && !attempt.Again {
		_, known := p.Store.Lookup(c.ID)
		if refusal := p.Admit(p.Store.View(), c, known); refusal != nil {
			attempt.Resolve(refusal, nil)
			return false
		}
	}
	return true
}
