package cluster

import (
	"context"
	"fmt"

	"lockstep/cluster/internal/wire"
)

// handlers returns the handler of each kind of request.
func (n *Node) handlers() map[byte]wire.Handler {
	return map[byte]wire.Handler{
		wire.Propose:       n.unlessWrong(n.proposer.Answer),
		wire.ProposeTraced: n.unlessWrong(n.proposer.AnswerTraced),
		wire.ReadIndex:     wire.Handle(n.reads.Answer),
		wire.ConfirmTerm:   wire.Handle(n.reads.AnswerTerm),
		wire.Status: wire.Handle(func(context.Context, string, wire.None) (NodeStatus, error) {
			return n.ownStatus(), nil
		}),
		wire.AddMember:    wire.Handle(n.changes.AnswerAdd),
		wire.RemoveMember: wire.Handle(n.changes.AnswerRemove),
		wire.Membership:   wire.Handle(n.place.Answer),
		wire.Vouch:        wire.Handle(n.admission.AnswerVouch),
		wire.ClusterKey:   wire.Handle(n.keys.Answer),
		wire.Digest:       wire.Handle(n.replica.Answer),
		wire.Count:        wire.Handle(n.replica.AnswerCount),
		wire.Recall:       wire.Handle(n.recall.Answer),
		wire.Question:     n.answerAsk,
	}
}

// handle answers one request of another node.
func (n *Node) serve(ctx context.Context, from string, kind byte, body []byte) []byte {
	return wire.Answer(n.answer(ctx, from, kind, body))
}

func (n *Node) answer(ctx context.Context, from string, kind byte, body []byte) ([]byte, error) {
	if n.life.Ended() {
		return nil, ErrClosed
	}
	if !n.admission.MayAsk(from, kind) {
		return nil, fmt.Errorf("%w: %s", ErrNotMember, from)
	}
	handler, known := n.table[kind]
	if !known {
		return nil, fmt.Errorf("%w: kind %d", wire.ErrBadRequest, kind)
	}
	return handler(ctx, from, body)
}
