// Package wire is how members ask each other: the kinds of request, how requests
// and answers are encoded, and the errors that cross between nodes. It knows
// nothing of what is asked.
package wire

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Peers carries requests between members. The node's own implementation is its
// internal port; a simulation has another.
type Peers interface {
	// Addr is the address under which other members reach this one.
	Addr() string

	// Serve sets the handler of incoming requests; from is the server that asks,
	// which nobody else can pass for, and self is this one. It is called once, when
	// the node can answer.
	Serve(self string, handle func(ctx context.Context, from string, kind byte, body []byte) []byte)

	// Call sends a request and waits for the answer: to a server, wherever it is, or
	// to the process at an address. An error that does not wrap ErrNotSent leaves
	// open whether it was handled.
	Call(ctx context.Context, to string, kind byte, body []byte) ([]byte, error)

	// Refused holds a connection to a server until it breaks, and reports whether
	// connecting again was refused, as it is when the process is gone and its host
	// is not.
	Refused(ctx context.Context, server string) bool

	// Close ends what Serve started, all connections, and all calls.
	Close() error
}

// The kinds of request. Never reuse a number; 0 is the link's own.
const (
	Propose      byte = 1
	ReadIndex    byte = 2
	ConfirmTerm  byte = 3
	Status       byte = 4
	AddMember    byte = 5
	RemoveMember byte = 6
	Membership   byte = 7
	Digest       byte = 40
	Recall       byte = 41
	Count        byte = 42
	Vouch        byte = 50
	ClusterKey   byte = 51
	Question     byte = 60

	ProposeTraced byte = 70 // members of before it answer ErrBadRequest
)

// Span names the span of a trace in which something is done: trace, span and flags, as
// W3C Trace Context has them.
type Span [25]byte

// None is a request or an answer that says nothing.
type None struct{}

// An answer begins with succeeded, or with the code of a failure.
const succeeded byte = 0

// A Handler answers the requests of one kind; from is the server that asks.
type Handler func(ctx context.Context, from string, body []byte) ([]byte, error)

// Handle returns a Handler that decodes requests and encodes answers.
func Handle[Request, Answer any](answer func(ctx context.Context, from string, r Request) (Answer, error)) Handler {
	return func(ctx context.Context, from string, body []byte) ([]byte, error) {
		var r Request
		if err := cbor.Unmarshal(body, &r); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
		}
		a, err := answer(ctx, from, r)
		if err != nil {
			return nil, err
		}
		return cbor.Marshal(a)
	}
}

// Answer encodes what a handler returned.
func Answer(body []byte, err error) []byte {
	if err != nil {
		return encodeFailure(err)
	}
	return append([]byte{succeeded}, body...)
}

// Caller sends requests; see Peers.
type Caller interface {
	Call(ctx context.Context, to string, kind byte, body []byte) ([]byte, error)
}

// Call sends a request whose body is encoded already, and returns the answer's.
func Call(ctx context.Context, through Caller, to string, kind byte, body []byte) ([]byte, error) {
	b, err := through.Call(ctx, to, kind, body)
	if err != nil {
		return nil, err
	}
	return DecodeAnswer(b)
}

// DecodeAnswer returns the body of an answer, or the error that it tells.
func DecodeAnswer(b []byte) ([]byte, error) {
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("%w: empty answer", ErrRemote)
	case b[0] != succeeded:
		return nil, decodeFailure(b)
	}
	return b[1:], nil
}

// Ask sends a request and decodes the answer.
func Ask[Response, Request any](ctx context.Context, through Caller, to string, kind byte, r Request) (Response, error) {
	var a Response
	body, err := cbor.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("encode request: %w", err)
	}
	b, err := Call(ctx, through, to, kind, body)
	if err != nil {
		return a, err
	}
	if err := cbor.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("%w: decode answer: %w", ErrRemote, err)
	}
	return a, nil
}

// AppendBytes appends a body behind its length.
func AppendBytes(b, body []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

// AppendAnswer appends what Answer returns behind its length.
func AppendAnswer(b, body []byte, err error) []byte {
	if err != nil {
		return AppendBytes(b, encodeFailure(err))
	}
	b = binary.AppendUvarint(b, uint64(1+len(body)))
	b = append(b, succeeded)
	return append(b, body...)
}

// CutBytes returns the body that AppendBytes appended, and what is behind it.
func CutBytes(b []byte) (body, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, fmt.Errorf("%w: length", ErrBadRequest)
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}
