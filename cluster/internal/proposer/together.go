package proposer

import (
	"context"
	"errors"
	"time"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// maxTogether is how many bytes of commands go into one log entry because they
// belong together.
const maxTogether = 256 << 10

// ProposeAll is Propose for commands that take effect in their order, on whichever
// leader. It calls told with the outcome of each, once, as soon as that is known.
//
// Each attempt has all commands without an outcome in one log entry, so that no
// attempt has some of them written and others not; which ones took effect earlier,
// the store remembers. The order is lost to nobody but who is told
// ErrUnknownOutcome: such a command may still take effect, after the others.
func (p *Proposer) ProposeAll(ctx context.Context, commands []*fsm.Command, told func(i int, r *fsm.Result, err error)) {
	ctx, cancel := lifetime.Bounded(ctx)
	defer cancel()
	g, size := group{proposer: p}, 0
	for i, c := range commands {
		w, refusal, err := p.begin(c)
		if w == nil {
			told(i, refusal, err)
			continue
		}
		defer w.end()
		if len(g.open) > 0 && size+len(w.body) > maxTogether {
			g.run(ctx)
			size = 0
		}
		size += len(w.body)
		g.open = append(g.open, member{write: w, told: func(r *fsm.Result, err error) { told(i, r, err) }})
	}
	g.run(ctx)
}

// group is writes that go into one log entry.
type group struct {
	proposer *Proposer
	open     []member // those without an outcome
}

type member struct {
	*write
	told func(*fsm.Result, error)
}

// run repeats attempts until the outcomes of all are known.
func (g *group) run(ctx context.Context) {
	for first := true; ; first = false {
		if !first {
			g.settle(func(m *member) (*fsm.Result, error) { r, _ := m.lookup(); return r, nil })
		}
		if len(g.open) == 0 {
			return
		}
		state, changed := g.proposer.Leadership.State()
		var pause <-chan time.Time
		if state.Leader != "" {
			if !g.attempt(ctx, state, changed) {
				continue
			}
			pause = time.After(lifetime.Jitter(lifetime.RetryPause))
		}
		select {
		case <-changed:
		case <-pause:
		case <-ctx.Done():
			g.giveUp(ctx.Err())
		case <-g.proposer.Life.Context().Done():
			g.giveUp(wire.ErrClosed)
		}
	}
}

// settle takes out the members with an outcome.
func (g *group) settle(outcome func(*member) (*fsm.Result, error)) {
	open := g.open[:0]
	for i := range g.open {
		m := &g.open[i]
		if r, err := outcome(m); r != nil || err != nil {
			m.told(r, err)
		} else {
			open = append(open, *m)
		}
	}
	g.open = open
}

func (g *group) giveUp(cause error) {
	g.settle(func(m *member) (*fsm.Result, error) { return nil, m.giveUp(cause) })
}

// attempt tries once to have all members written; there is at least one. failed
// reports that some were not, and that it is too early for another attempt.
func (g *group) attempt(ctx context.Context, state leadership.State, changed <-chan struct{}) (failed bool) {
	p := g.proposer
	attempts := make([]*batch.Proposal, len(g.open))
	for i, m := range g.open {
		attempts[i] = batch.NewProposal(ctx, m.body, m.again)
		attempts[i].Span = m.span
	}
	p.dispatchAll(attempts, g.open, state)
	left := attempts
	var ended error // the wait for the attempts
	g.settle(func(m *member) (*fsm.Result, error) {
		attempt := left[0]
		left = left[1:]
		if ended == nil {
			select {
			case r := <-m.applied:
				return r, nil
			case o := <-attempt.Outcome():
				if o.Err == nil {
					return o.Result, nil
				}
				failed = true
				return nil, m.classify(o.Err)
			case <-changed: // the answer may never come
				ended = errChanged
			case <-ctx.Done():
				ended = ctx.Err()
			case <-p.Life.Context().Done():
				ended = wire.ErrClosed
			}
		}
		m.again = true
		if ended == errChanged {
			return nil, nil
		}
		return nil, m.giveUp(ended)
	})
	return failed && ended == nil && len(g.open) > 0
}

var errChanged = errors.New("another leader")

// dispatchAll sends attempts to the leader, for one log entry, without waiting for
// their outcomes.
func (p *Proposer) dispatchAll(attempts []*batch.Proposal, members []member, state leadership.State) {
	if state.Leader != p.Self {
		if err := p.forwarded.Put(attempts...); err != nil {
			batch.Fail(attempts, err)
		}
		return
	}
	commands := make([]*fsm.Command, len(members))
	for i, m := range members {
		commands[i] = m.command
	}
	if t := p.Leadership.Leading(); t != nil {
		p.submitAll(t, attempts, commands)
		return
	}
	err := p.Life.Go(func() { // the term is about to start
		t, err := p.Leadership.Started(attempts[0].Context())
		if err != nil {
			batch.Fail(attempts, err)
			return
		}
		p.submitAll(t, attempts, commands)
	})
	if err != nil {
		batch.Fail(attempts, err)
	}
}

// submitAll puts commands into one batch of a term that this node leads.
func (p *Proposer) submitAll(t *leadership.Term, attempts []*batch.Proposal, commands []*fsm.Command) {
	together := make([]*batch.Proposal, 0, len(attempts))
	for i, attempt := range attempts {
		if p.admit(attempt, commands[i]) {
			together = append(together, attempt)
		}
	}
	if err := t.Put(together...); err != nil {
		batch.Fail(together, err)
	}
}
