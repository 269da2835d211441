package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"lockstep/fsm"
)

const (
	// requestTimeout bounds a request whose context has no deadline.
	requestTimeout = 30 * time.Second
	// maxCommand is the size of an encoded command that raft still replicates
	// without unsettling its heartbeats.
	maxCommand = 512 << 10
	// retryPause is the mean pause before an attempt is repeated although no new
	// leader is known.
	retryPause = 20 * time.Millisecond
)

// proposal is one attempt to have a command written.
type proposal struct {
	ctx   context.Context
	body  []byte
	again bool // an earlier attempt may have been written: it is admitted already
	out   chan outcome
}

type outcome struct {
	result *fsm.Result
	err    error
}

func newProposal(ctx context.Context, body []byte, again bool) *proposal {
	return &proposal{ctx: ctx, body: body, again: again, out: make(chan outcome, 1)}
}

// settle gives the attempt's outcome; only the first counts.
func (p *proposal) settle(result *fsm.Result, err error) {
	select {
	case p.out <- outcome{result, err}:
	default:
	}
}

// Propose has a command written, once, and gives its result; it may be called
// on any node. Refusals by the domain are results. An error says that there is
// no answer: ErrNoLeader, ErrOverloaded, ErrNotMember, ErrTooLarge and
// ErrClosed if nothing was written, ErrUnknownOutcome if that is not certain.
//
// The result is shared: it must not be changed.
//
// Without a deadline in ctx it gives up after 30 seconds. If Issued is zero, it
// is set to this store's index, as for an id that was just made.
func (n *Node) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if c.Issued == 0 {
		stamped := *c
		stamped.Issued = n.fsm.View().Index()
		c = &stamped
	}
	body, err := c.Encode()
	if err != nil {
		return nil, err
	}
	if len(body) > maxCommand {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(body))
	}
	w := write{node: n, command: c, body: body}
	// A client's key may be used for two requests at a time, so that an applied
	// id alone does not say whose result it is; the leader's answer does.
	if !c.Keyed {
		w.applied = n.waiters.add(c.ID)
		defer n.waiters.remove(c.ID, w.applied)
	}
	return w.run(ctx)
}

// bounded gives a context that has a deadline.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, requestTimeout)
}

// write is a Propose under way.
type write struct {
	node    *Node
	command *fsm.Command
	body    []byte
	applied chan *fsm.Result // what this node's own store decided; nil: not asked
	again   bool             // some attempt may have been written
}

// run repeats attempts until the outcome is known: that of an attempt, or of
// this node's own store, whichever comes first.
func (w *write) run(ctx context.Context) (*fsm.Result, error) {
	n := w.node
	for first := true; ; first = false {
		if !first {
			if r, ok := w.lookup(); ok {
				return r, nil
			}
		}
		state, changed := n.state.get()
		if state.leader == "" {
			if r, err := w.await(ctx, changed, nil); r != nil || err != nil {
				return r, err
			}
			continue
		}
		p := newProposal(ctx, w.body, w.again)
		n.dispatch(p, w.command, state)
		select {
		case r := <-w.applied:
			return r, nil
		case o := <-p.out:
			if o.err == nil {
				return o.result, nil
			}
			if err := w.judge(o.err); err != nil {
				return nil, err
			}
			if r, err := w.await(ctx, changed, time.After(jitter(retryPause))); r != nil || err != nil {
				return r, err
			}
		case <-changed: // the answer may never come
			w.again = true
		case <-ctx.Done():
			w.again = true
			return nil, w.giveUp(ctx.Err())
		case <-n.ctx.Done():
			w.again = true
			return nil, w.giveUp(ErrClosed)
		}
	}
}

// await waits for a reason to try (again), or for the end.
func (w *write) await(ctx context.Context, changed <-chan struct{}, pause <-chan time.Time) (*fsm.Result, error) {
	select {
	case r := <-w.applied:
		return r, nil
	case <-changed:
	case <-pause:
	case <-ctx.Done():
		return nil, w.giveUp(ctx.Err())
	case <-w.node.ctx.Done():
		return nil, w.giveUp(ErrClosed)
	}
	return nil, nil
}

// judge says what a failed attempt means: an error to return, or to try again.
func (w *write) judge(err error) error {
	if !notWritten(err) {
		w.again = true
		return nil
	}
	final := errors.Is(err, ErrOverloaded) || errors.Is(err, ErrNotMember) || errors.Is(err, ErrTooLarge) || errors.Is(err, errBadRequest)
	if final && !w.again {
		return err
	}
	return nil
}

func (w *write) giveUp(cause error) error {
	switch {
	case w.again:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, cause)
	case errors.Is(cause, ErrClosed):
		return cause
	}
	return fmt.Errorf("%w: %w", ErrNoLeader, cause)
}

// lookup finds what became of an earlier attempt when this store learned it
// from a snapshot.
func (w *write) lookup() (*fsm.Result, bool) {
	if w.applied == nil {
		return nil, false
	}
	return w.node.fsm.Lookup(w.command.ID)
}

// dispatch brings an attempt to the leader, without waiting for its outcome.
func (n *Node) dispatch(p *proposal, c *fsm.Command, state raftState) {
	if state.leader != n.self {
		if err := n.forward.queue.put(p); err != nil {
			p.settle(nil, err)
		}
		return
	}
	if t, _ := n.leading.get(); t != nil {
		n.submit(t, p, c)
		return
	}
	// The term is about to start. This is rare, so it may cost a goroutine.
	err := n.spawn(&n.work, func() {
		t, err := n.startedTerm(p.ctx)
		if err != nil {
			p.settle(nil, err)
			return
		}
		n.submit(t, p, c)
	})
	if err != nil {
		p.settle(nil, err)
	}
}

// submit puts a client's command into the batches of a term that this node leads.
func (n *Node) submit(t *term, p *proposal, c *fsm.Command) {
	if n.config.Admit != nil && !p.again {
		if refusal := n.config.Admit(c); refusal != nil {
			p.settle(refusal, nil)
			return
		}
	}
	if err := t.batches.queue.put(p); err != nil {
		p.settle(nil, err)
	}
}

// answerPropose writes the commands that another node forwards.
func (n *Node) answerPropose(ctx context.Context, from string, body []byte) ([]byte, error) {
	t, err := n.startedTerm(ctx)
	if err != nil {
		return nil, err
	}
	group, err := decodeProposals(ctx, body)
	if err != nil {
		return nil, err
	}
	for _, p := range group {
		c, err := fsm.DecodeCommand(p.body)
		if err != nil {
			p.settle(nil, fmt.Errorf("%w: %w", errBadRequest, err))
			continue
		}
		n.submit(t, p, c)
	}
	var answer []byte
	for _, p := range group {
		select {
		case o := <-p.out:
			answer = encodeOutcome(answer, o)
		case <-ctx.Done():
			answer = encodeOutcome(answer, outcome{err: fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())})
		}
	}
	return answer, nil
}

// jitter gives a duration between half and one and a half of d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// waiters are the commands whose result this node's own store may bring.
type waiters struct {
	mu   sync.Mutex
	byID map[fsm.CommandID][]chan *fsm.Result
}

func newWaiters() *waiters { return &waiters{byID: make(map[fsm.CommandID][]chan *fsm.Result)} }

func (w *waiters) add(id fsm.CommandID) chan *fsm.Result {
	c := make(chan *fsm.Result, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byID[id] = append(w.byID[id], c)
	return c
}

func (w *waiters) remove(id fsm.CommandID, c chan *fsm.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.byID[id][:0]
	for _, other := range w.byID[id] {
		if other != c {
			rest = append(rest, other)
		}
	}
	if len(rest) == 0 {
		delete(w.byID, id)
		return
	}
	w.byID[id] = rest
}

// settle runs on the apply goroutine.
func (w *waiters) settle(batch []fsm.Applied) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range batch {
		for _, c := range w.byID[a.ID] {
			select {
			case c <- a.Result:
			default: // it has one
			}
		}
	}
}
