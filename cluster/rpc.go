package cluster

import (
	"context"
	"fmt"

	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

type (
	addMemberRequest struct {
		Spec      MemberSpec `cbor:"1,keyasint"`
		Forwarded bool       `cbor:"2,keyasint,omitempty"`
	}
	removeMemberRequest struct {
		ID        string `cbor:"1,keyasint"` // of the node
		Forwarded bool   `cbor:"2,keyasint,omitempty"`
		Server    string `cbor:"3,keyasint,omitempty"` // only this incarnation of it
	}
	vouchRequest struct {
		Server string `cbor:"1,keyasint"`
	}
	clusterKeyRequest struct {
		ID fsm.KeyID `cbor:"1,keyasint"`
	}
	clusterKeyAnswer struct {
		Key [32]byte `cbor:"1,keyasint"`
	}
	membershipAnswer struct {
		Leads  bool   `cbor:"1,keyasint,omitempty"` // the answer is a leader's, whose term has started
		Term   uint64 `cbor:"2,keyasint"`
		Member bool   `cbor:"3,keyasint,omitempty"`
	}
)

// handlers returns who answers which kind of request.
func (n *Node) handlers() map[byte]wire.Handler {
	return map[byte]wire.Handler{
		wire.Propose:   n.answerPropose,
		wire.ReadIndex: wire.Handle(n.reads.Answer),
		wire.Affirm:    wire.Handle(n.reads.Affirm),
		wire.Status: wire.Handle(func(context.Context, string, wire.None) (NodeStatus, error) {
			return n.ownStatus(), nil
		}),
		wire.AddMember: wire.Handle(func(ctx context.Context, _ string, r addMemberRequest) (wire.None, error) {
			return wire.None{}, n.addMember(ctx, r)
		}),
		wire.RemoveMember: wire.Handle(func(ctx context.Context, _ string, r removeMemberRequest) (wire.None, error) {
			return wire.None{}, n.removeMember(ctx, r)
		}),
		wire.Membership: wire.Handle(func(_ context.Context, from string, _ wire.None) (membershipAnswer, error) {
			return n.membershipOf(from), nil
		}),
		wire.Digest: wire.Handle(n.replica.Answer),
		wire.Vouch: wire.Handle(func(_ context.Context, _ string, r vouchRequest) (wire.None, error) {
			return wire.None{}, n.vouch(r.Server)
		}),
		wire.ClusterKey: wire.Handle(func(_ context.Context, _ string, r clusterKeyRequest) (clusterKeyAnswer, error) {
			return n.answerClusterKey(r.ID)
		}),
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
	if !n.mayAsk(from, kind) {
		return nil, fmt.Errorf("%w: %s", ErrNotMember, from)
	}
	handler, known := n.table[kind]
	if !known {
		return nil, fmt.Errorf("%w: kind %d", wire.ErrBadRequest, kind)
	}
	return handler(ctx, from, body)
}
