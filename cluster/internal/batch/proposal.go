package batch

import (
	"context"

	"lockstep/fsm"
)

// Proposal is one attempt to have a command written.
type Proposal struct {
	Body  []byte // the command's encoding
	Again bool   // an earlier attempt may have been written: it is admitted already

	ctx context.Context // of who waits for the outcome
	out chan Outcome
}

// Outcome is what became of an attempt: the store's result, which may be a refusal
// of the domain's, or an error when there is none.
type Outcome struct {
	Result *fsm.Result
	Err    error
}

// NewProposal returns an attempt whose outcome is waited for until ctx ends.
func NewProposal(ctx context.Context, body []byte, again bool) *Proposal {
	return &Proposal{Body: body, Again: again, ctx: ctx, out: make(chan Outcome, 1)}
}

// Context returns the context of who waits for the outcome.
func (p *Proposal) Context() context.Context { return p.ctx }

// Outcome returns where the outcome comes, once.
func (p *Proposal) Outcome() <-chan Outcome { return p.out }

// Settle tells the outcome; only the first counts.
func (p *Proposal) Settle(result *fsm.Result, err error) {
	select {
	case p.out <- Outcome{result, err}:
	default:
	}
}

// Fail settles a group of attempts.
func Fail(group []*Proposal, err error) {
	for _, p := range group {
		p.Settle(nil, err)
	}
}
