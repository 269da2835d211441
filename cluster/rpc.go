package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"lockstep/fsm"
)

// Peers carries requests between members. The node's own implementation is its
// internal port; a simulation has another.
type Peers interface {
	// Addr is the address under which other members reach this one.
	Addr() string

	// Serve gives the handler of incoming requests; from is the server that asks,
	// which nobody else can pass for, and self is this one. It is called once, when
	// the node can answer.
	Serve(self string, handle func(ctx context.Context, from string, kind byte, body []byte) []byte)

	// Call sends a request to the member at addr and waits for the answer. An
	// error that does not wrap ErrNotSent leaves open whether it was handled.
	Call(ctx context.Context, addr string, kind byte, body []byte) ([]byte, error)

	// Refused holds a connection to the member at addr until it breaks, and
	// reports whether connecting again was refused, as it is when the process is
	// gone and its host is not.
	Refused(ctx context.Context, addr string) bool

	// Close ends what Serve started, all connections, and all calls.
	Close() error
}

// The kinds of request. Never reuse a number; 0 is the link's own.
const (
	kindPropose      byte = 1
	kindReadIndex    byte = 2
	kindAffirm       byte = 3
	kindStatus       byte = 4
	kindAddMember    byte = 5
	kindRemoveMember byte = 6
	kindMembership   byte = 7
	kindVouch        byte = 50
	kindClusterKey   byte = 51
)

// An answer begins with succeeded, or with the code of a failure.
const succeeded byte = 0

type (
	readIndexRequest struct {
		Term    uint64       `cbor:"1,keyasint"`
		Charges []ReadCharge `cbor:"2,keyasint,omitempty"`
	}
	readIndexAnswer struct {
		Index  uint64      `cbor:"1,keyasint"`
		Grants []ReadGrant `cbor:"3,keyasint,omitempty"` // one for each charge; none: everything goes on
	}
	affirmAnswer struct {
		ID   string `cbor:"1,keyasint"` // of the server
		Term uint64 `cbor:"2,keyasint"`
	}
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
	none struct{}
)

// handle answers one request of another node.
func (n *Node) handle(ctx context.Context, from string, kind byte, body []byte) []byte {
	answer, err := n.answer(ctx, from, kind, body)
	if err != nil {
		return encodeFailure(err)
	}
	return append([]byte{succeeded}, answer...)
}

func (n *Node) answer(ctx context.Context, from string, kind byte, body []byte) ([]byte, error) {
	if n.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if !n.mayAsk(from, kind) {
		return nil, fmt.Errorf("%w: %s", ErrNotMember, from)
	}
	switch kind {
	case kindPropose:
		return n.answerPropose(ctx, from, body)
	case kindReadIndex:
		return answerWith(body, func(r readIndexRequest) (readIndexAnswer, error) { return n.answerReadIndex(ctx, from, r) })
	case kindAffirm:
		return answerWith(body, func(none) (affirmAnswer, error) {
			return affirmAnswer{ID: n.self, Term: n.raft.CurrentTerm()}, nil
		})
	case kindStatus:
		return answerWith(body, func(none) (NodeStatus, error) { return n.ownStatus(), nil })
	case kindAddMember:
		return answerWith(body, func(r addMemberRequest) (none, error) { return none{}, n.addMember(ctx, r) })
	case kindRemoveMember:
		return answerWith(body, func(r removeMemberRequest) (none, error) { return none{}, n.removeMember(ctx, r) })
	case kindMembership:
		return answerWith(body, func(none) (membershipAnswer, error) { return n.membershipOf(from), nil })
	case kindVouch:
		return answerWith(body, func(r vouchRequest) (none, error) { return none{}, n.vouch(r.Server) })
	case kindClusterKey:
		return answerWith(body, func(r clusterKeyRequest) (clusterKeyAnswer, error) { return n.answerClusterKey(r.ID) })
	}
	return nil, fmt.Errorf("%w: kind %d", errBadRequest, kind)
}

func answerWith[Request, Answer any](body []byte, answer func(Request) (Answer, error)) ([]byte, error) {
	var r Request
	if err := cbor.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadRequest, err)
	}
	a, err := answer(r)
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(a)
}

// call sends a request whose body is encoded already.
func (n *Node) call(ctx context.Context, addr string, kind byte, body []byte) ([]byte, error) {
	b, err := n.peers.Call(ctx, addr, kind, body)
	switch {
	case err != nil:
		return nil, err
	case len(b) == 0:
		return nil, fmt.Errorf("%w: empty answer", errRemote)
	case b[0] != succeeded:
		return nil, decodeFailure(b)
	}
	return b[1:], nil
}

// ask sends a request and decodes the answer.
func ask[Answer, Request any](ctx context.Context, n *Node, addr string, kind byte, r Request) (Answer, error) {
	var a Answer
	body, err := cbor.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("encode request: %w", err)
	}
	b, err := n.call(ctx, addr, kind, body)
	if err != nil {
		return a, err
	}
	if err := cbor.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("%w: decode answer: %w", errRemote, err)
	}
	return a, nil
}

// Proposals travel in groups: for each whether it was sent before, and its
// bytes. The answer has for each, in the same order, an outcome.

func encodeProposals(group []*proposal) []byte {
	size := 0
	for _, p := range group {
		size += 1 + binary.MaxVarintLen32 + len(p.body)
	}
	b := make([]byte, 0, size)
	for _, p := range group {
		again := byte(0)
		if p.again {
			again = 1
		}
		b = append(b, again)
		b = appendBytes(b, p.body)
	}
	return b
}

func decodeProposals(ctx context.Context, b []byte) ([]*proposal, error) {
	var group []*proposal
	for len(b) > 0 {
		again := b[0] == 1
		body, rest, err := cutBytes(b[1:])
		if err != nil {
			return nil, err
		}
		group = append(group, newProposal(ctx, body, again))
		b = rest
	}
	return group, nil
}

func encodeOutcome(b []byte, o outcome) []byte {
	if o.err != nil {
		return appendBytes(b, encodeFailure(o.err))
	}
	result, err := o.result.Encode()
	if err != nil {
		return appendBytes(b, encodeFailure(fmt.Errorf("%w: encode result: %w", ErrUnknownOutcome, err)))
	}
	b = binary.AppendUvarint(b, uint64(1+len(result)))
	b = append(b, succeeded)
	return append(b, result...)
}

func decodeOutcome(b []byte) (o outcome, rest []byte, err error) {
	body, rest, err := cutBytes(b)
	switch {
	case err != nil:
		return outcome{}, nil, err
	case len(body) == 0:
		return outcome{}, nil, errBadRequest
	case body[0] != succeeded:
		return outcome{err: decodeFailure(body)}, rest, nil
	}
	result, err := fsm.DecodeResult(body[1:])
	return outcome{result: result}, rest, err
}

func appendBytes(b, body []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

func cutBytes(b []byte) (body, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, fmt.Errorf("%w: length", errBadRequest)
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

// notWritten says whether an attempt that failed so has certainly left nothing
// in any log.
func notWritten(err error) bool {
	for _, known := range []error{errNotLeader, errBadRequest, ErrNotSent, ErrNoLeader, ErrNotMember, ErrOverloaded, ErrTooLarge} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
