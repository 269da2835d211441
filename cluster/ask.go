package cluster

import (
	"context"
	"fmt"

	"lockstep/cluster/internal/wire"
)

// Answerer answers what other members ask this node. Neither question nor answer
// means anything to this package.
type Answerer func(ctx context.Context, question []byte) ([]byte, error)

// OnAsk has questions answered from now on.
func (n *Node) OnAsk(answer Answerer) { n.asked.Store(&answer) }

// Ask asks a member, which may be this node, and returns its answer. The context
// bounds the wait.
func (n *Node) Ask(ctx context.Context, id string, question []byte) ([]byte, error) {
	for _, m := range n.Members() {
		switch {
		case m.ID != id:
		case m.server == n.self:
			return n.answerAsk(ctx, n.self, question)
		default:
			return wire.Call(ctx, n.peers, m.server, wire.Question, question)
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknownMember, id)
}

func (n *Node) answerAsk(ctx context.Context, _ string, question []byte) ([]byte, error) {
	answer := n.asked.Load()
	if answer == nil {
		return nil, fmt.Errorf("%w: this node answers no questions yet", wire.ErrBadRequest)
	}
	return (*answer)(ctx, question)
}
