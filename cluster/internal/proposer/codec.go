package proposer

import (
	"context"
	"encoding/binary"
	"fmt"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// EncodeProposals encodes a group for the leader: for each whether it was sent
// before, and its bytes. The answer has for each, in the same order, an outcome.
func EncodeProposals(group []*batch.Proposal) []byte {
	size := 0
	for _, p := range group {
		size += 1 + binary.MaxVarintLen32 + len(p.Body)
	}
	b := make([]byte, 0, size)
	for _, p := range group {
		again := byte(0)
		if p.Again {
			again = 1
		}
		b = append(b, again)
		b = wire.AppendBytes(b, p.Body)
	}
	return b
}

func decodeProposals(ctx context.Context, b []byte) ([]*batch.Proposal, error) {
	var group []*batch.Proposal
	for len(b) > 0 {
		again := b[0] == 1
		body, rest, err := wire.CutBytes(b[1:])
		if err != nil {
			return nil, err
		}
		group = append(group, batch.NewProposal(ctx, body, again))
		b = rest
	}
	return group, nil
}

func encodeOutcome(b []byte, o batch.Outcome) []byte {
	if o.Err != nil {
		return wire.AppendAnswer(b, nil, o.Err)
	}
	result, err := o.Result.Encode()
	if err != nil {
		err = fmt.Errorf("%w: encode result: %w", wire.ErrUnknownOutcome, err)
	}
	return wire.AppendAnswer(b, result, err)
}

// DecodeOutcomes decodes the answer to a group. What could be decoded is returned
// with an error, too.
func DecodeOutcomes(b []byte) (outcomes []batch.Outcome, err error) {
	for len(b) > 0 {
		var answer []byte
		if answer, b, err = wire.CutBytes(b); err != nil {
			return outcomes, err
		}
		body, err := wire.DecodeAnswer(answer)
		if err != nil {
			outcomes = append(outcomes, batch.Outcome{Err: err})
			continue
		}
		result, err := fsm.DecodeResult(body)
		if err != nil {
			return outcomes, err
		}
		outcomes = append(outcomes, batch.Outcome{Result: result})
	}
	return outcomes, nil
}

// encodeSpans returns the spans of those of a group that are followed, each behind its
// place, or nil if there are none.
func encodeSpans(group []*batch.Proposal) (b []byte) {
	for i, p := range group {
		if p.Span != nil {
			b = append(binary.AppendUvarint(b, uint64(i)), p.Span[:]...)
		}
	}
	return b
}

func decodeSpans(b []byte, group []*batch.Proposal) error {
	for len(b) > 0 {
		i, n := binary.Uvarint(b)
		if n <= 0 || i >= uint64(len(group)) || len(b) < n+len(wire.Span{}) {
			return fmt.Errorf("%w: spans", wire.ErrBadRequest)
		}
		span := wire.Span(b[n:])
		group[i].Span = &span
		b = b[n+len(span):]
	}
	return nil
}
