package api

import (
	"context"
	"errors"

	"lockstep/fsm"
	"lockstep/objects"
)

// Part is one operation of a transaction. A caller that has one (Caller.Part) gets no
// write carried out: the first call of an operation notes what it would do and
// returns ErrUndecided, and the same call after Transact returns its outcome.
type Part struct {
	op     fsm.Op
	result *fsm.Result
}

// ErrUndecided is the error of an operation that waits for its transaction.
var ErrUndecided = errors.New("api: part of a transaction that is not decided yet")

func (p *Part) decided(op fsm.Op) (*fsm.Result, error) {
	if p.result != nil {
		return p.result, nil
	}
	p.op = op
	return nil, ErrUndecided
}

// Transact has the noted operations carried out, all or none, in one log entry. If
// one of them is refused, part is its number, from 0 on, and otherwise -1.
func (a *API) Transact(ctx context.Context, c Caller, parts []*Part) (part int, err error) {
	service, err := a.ServiceSID(ctx, c.Service)
	if err != nil {
		return -1, err
	}
	op := &fsm.Transact{Parts: make([]fsm.Part, len(parts))}
	for i, p := range parts {
		op.Parts[i].Op = p.op
	}
	result, err := a.decide(ctx, c, service, op)
	switch {
	case err != nil:
		return -1, err
	case result.Err != nil:
		return int(result.RefusedPart) - 1, result.Err
	case len(result.Parts) != len(parts):
		return -1, objects.ErrInternal
	}
	for i, p := range parts {
		p.result = &result.Parts[i]
	}
	return -1, nil
}
