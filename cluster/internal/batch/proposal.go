package batch

import (
	"context"
	"time"

	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// Proposal is one attempt to have a command written.
type Proposal struct {
	Body  []byte // the command's encoding
	Again bool   // an earlier attempt may have been written: it is admitted already

	Span *wire.Span // the command is followed in; nil: it is not

	tied    bool      // it stays together with the one behind it in the queue
	arrived time.Time // in the queue

	ctx context.Context // of the caller that waits for the outcome
	out chan Outcome
}

// Outcome is the outcome of an attempt: the store's result, which may be a refusal
// by the domain, or an error if there is no result.
type Outcome struct {
	Result *fsm.Result
	Err    error
}

// NewProposal returns an attempt whose outcome is waited for until ctx ends.
func NewProposal(ctx context.Context, body []byte, again bool) *Proposal {
	return &Proposal{Body: body, Again: again, ctx: ctx, out: make(chan Outcome, 1)}
}

// Context returns the context of the caller that waits for the outcome.
func (p *Proposal) Context() context.Context { return p.ctx }

// Outcome returns the channel on which the outcome comes, once.
func (p *Proposal) Outcome() <-chan Outcome { return p.out }

// Resolve passes the outcome on. Only the first call has an effect.
func (p *Proposal) Resolve(result *fsm.Result, err error) {
	select {
	case p.out <- Outcome{result, err}:
	default:
	}
}

// Fail resolves a group of attempts with an error.
func Fail(group []*Proposal, err error) {
	for _, p := range group {
		p.Resolve(nil, err)
	}
}
