// Package readindex makes reads linearizable on any node. A read asks the leader
// for its commit index, which the leader returns only after a majority of voters
// has confirmed its term, and waits until the local store has applied it.
package readindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/objects"
)

const (
	// maxReads is the number of reads that may wait for a round. More are refused
	// with ErrOverloaded.
	maxReads = 65536
	// roundTimeout bounds a round before it is tried again; confirmTimeout,
	// within it, the wait for a voter's term. Both are scaled.
	roundTimeout   = 3 * time.Second
	confirmTimeout = time.Second
)

// Leadership tells reads which server leads.
type Leadership interface {
	// State returns who leads, and a channel that is closed when that changed.
	State() (leadership.State, <-chan struct{})

	// Started waits until the term that this node leads has started.
	Started(ctx context.Context) (*leadership.Term, error)

	// Leads reports whether this node leads a term right now.
	Leads(term uint64) bool
}

// Raft tells reads the state of the log.
type Raft interface {
	CurrentTerm() uint64
	CommitIndex() uint64
}

// Servers knows raft's configuration.
type Servers interface {
	Voters() []raft.Server
	Has(server string) bool
}

// Config is what reads need. Every field but Admit is required.
type Config struct {
	Self       string // this server
	Leadership Leadership
	Raft       Raft
	Servers    Servers
	Peers      wire.Caller
	Store      *fsm.FSM
	Life       *lifetime.Lifetime

	// Scale multiplies the time-outs.
	Scale func(time.Duration) time.Duration

	// Admit is asked on the leader about the reads that share a round, and returns
	// a grant for each charge. Nil: all are admitted.
	Admit func([]Charge) []Grant

	// Asked is told of each round that succeeded: how many reads share it, and how long
	// it took. Nil: nobody is told.
	Asked func(reads int, took time.Duration)
}

// Reads are a node's. Their methods may be called from any goroutine.
type Reads struct {
	Config
	wake chan struct{} // one slot

	mu      sync.Mutex
	waiting []*waitingRead
}

// New returns the reads of a node, which wait until Run runs.
func New(config Config) *Reads {
	if config.Asked == nil {
		config.Asked = func(int, time.Duration) {}
	}
	return &Reads{Config: config, wake: make(chan struct{}, 1)}
}

// Waiting returns how many reads wait for a round.
func (r *Reads) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// Read returns a view that contains everything acknowledged before the call,
// whichever node acknowledged it, and may be called on any node. The read is
// charged to the bucket on the leader, unless that is none; a refusal is a
// *RateLimited. Without a leader it waits and tries again until ctx ends, or 30
// seconds if that has no deadline, and then fails with ErrNoLeader.
func (r *Reads) Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	ctx, cancel := lifetime.Bounded(ctx)
	defer cancel()
	w := &waitingRead{ctx: ctx, bucket: bucket, out: make(chan readOutcome, 1)}
	if err := r.join(w); err != nil {
		return nil, err
	}
	select {
	case o := <-w.out:
		if o.err != nil {
			return nil, o.err
		}
		view, err := r.Store.Wait(ctx, o.index)
		if err != nil {
			return nil, fmt.Errorf("%w: waiting for the store: %w", wire.ErrNoLeader, err)
		}
		return view, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", wire.ErrNoLeader, ctx.Err())
	case <-r.Life.Context().Done():
		return nil, wire.ErrClosed
	}
}

type (
	// Request asks for an index, in the asker's term.
	Request struct {
		Term    uint64   `cbor:"1,keyasint"`
		Charges []Charge `cbor:"2,keyasint,omitempty"`
	}
	// Answer is an index that covers everything acknowledged before the request.
	Answer struct {
		Index  uint64  `cbor:"1,keyasint"`
		Grants []Grant `cbor:"3,keyasint,omitempty"` // one for each charge; none: everything goes on
	}
	// TermAnswer is a voter's own term.
	TermAnswer struct {
		ID   string `cbor:"1,keyasint"` // of the server
		Term uint64 `cbor:"2,keyasint"`
	}
)

// ask asks the leader for an index that covers everything acknowledged before the
// call. The wait ends when there is another leader.
func (r *Reads) ask(state leadership.State, changed <-chan struct{}, charges []Charge) (Answer, error) {
	if state.Leader == "" {
		return Answer{}, wire.ErrNoLeader
	}
	ctx, cancel := context.WithTimeout(r.Life.Context(), r.Scale(roundTimeout))
	defer cancel()
	ctx, stop := lifetime.Until(ctx, changed)
	defer stop()
	// This node's term is read after the round began, so a voter confirms the term
	// by sending it.
	asked := Request{Term: r.Raft.CurrentTerm(), Charges: charges}
	if state.Leader == r.Self {
		return r.Answer(ctx, r.Self, asked)
	}
	return wire.Ask[Answer](ctx, r.Peers, state.Leader, wire.ReadIndex, asked)
}

// Answer returns the commit index if this node leads the asker's term, if that
// term has started, and if a majority of voters has confirmed it since the asker's
// round began: the leader itself, the asker by its request, and as many others as
// are needed.
//
// A node persists a term before it votes in it. So if a majority was still in
// this term when it was asked, no later term had a leader by then, and nothing
// newer than the commit index was acknowledged before the round began. The
// commit index is read before the confirmations are asked for, and the state once
// more after them, so that no pause in between can hide a newer leader.
func (r *Reads) Answer(ctx context.Context, from string, asked Request) (Answer, error) {
	t, err := r.Leadership.Started(ctx)
	if err != nil {
		return Answer{}, err
	}
	if asked.Term != t.Number {
		return Answer{}, fmt.Errorf("%w: %d leads in %d", wire.ErrOtherTerm, asked.Term, t.Number)
	}
	if !r.Servers.Has(from) {
		return Answer{}, fmt.Errorf("%w: %s", wire.ErrNotMember, from)
	}
	index := r.Raft.CommitIndex()
	if !r.Leadership.Leads(t.Number) {
		return Answer{}, wire.ErrNotLeader
	}
	if err := r.confirmTerm(ctx, t.Number, from); err != nil {
		return Answer{}, err
	}
	if !r.Leadership.Leads(t.Number) {
		return Answer{}, wire.ErrNotLeader
	}
	a := Answer{Index: index}
	if r.Admit != nil && len(asked.Charges) > 0 {
		a.Grants = r.Admit(asked.Charges)
	}
	return a, nil
}

// AnswerTerm tells the leader which term this node is in.
func (r *Reads) AnswerTerm(context.Context, string, wire.None) (TermAnswer, error) {
	return TermAnswer{ID: r.Self, Term: r.Raft.CurrentTerm()}, nil
}

// confirmTerm checks that a majority of voters is in the term. Only voters count,
// because a node that is joining has no vote.
func (r *Reads) confirmTerm(ctx context.Context, term uint64, asker string) error {
	voters := r.Servers.Voters()
	missing := len(voters)/2 + 1
	others := voters[:0]
	for _, v := range voters {
		if id := string(v.ID); id == r.Self || id == asker {
			missing--
		} else {
			others = append(others, v)
		}
	}
	if missing <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.Scale(confirmTimeout))
	answers := make(chan error, len(others))
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for _, v := range others {
		asking.Go(func() { answers <- r.askTerm(ctx, v, term) })
	}
	var errs []error
	for range others {
		if err := <-answers; err != nil {
			errs = append(errs, err)
		} else if missing--; missing == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: term %d not confirmed: %w", wire.ErrNoLeader, term, cmp.Or(errors.Join(errs...), wire.ErrNotLeader))
}

func (r *Reads) askTerm(ctx context.Context, v raft.Server, term uint64) error {
	a, err := wire.Ask[TermAnswer](ctx, r.Peers, string(v.ID), wire.ConfirmTerm, wire.None{})
	switch {
	case err != nil:
		return err
	case a.ID != string(v.ID) || a.Term != term:
		return fmt.Errorf("%w: %s is in term %d", wire.ErrOtherTerm, a.ID, a.Term)
	}
	return nil
}
