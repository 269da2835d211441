package wire

import (
	"errors"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/link"
)

// What requests fail with. Package cluster exports those that its callers see,
// and documents them.
var (
	ErrNoLeader       = errors.New("cluster: no leader")
	ErrUnknownOutcome = errors.New("cluster: outcome unknown")
	ErrNotMember      = errors.New("cluster: not a member")
	ErrOverloaded     = errors.New("cluster: overloaded")
	ErrTooLarge       = errors.New("cluster: command too large")
	ErrClosed         = lifetime.ErrClosed
	ErrNotSent        = link.ErrNotSent

	ErrTwice         = errors.New("cluster: another process runs on a copy of this data directory")
	ErrKnownMember   = errors.New("cluster: a member has this id already, with another data directory")
	ErrUnknownMember = errors.New("cluster: unknown member")
	ErrAddressTaken  = errors.New("cluster: address belongs to another member")
	ErrUnreachable   = errors.New("cluster: node does not answer at its internal address")
	ErrQuorum        = errors.New("cluster: too few live voters would remain")
	ErrOldRelease    = errors.New("cluster: the node's release is too old")

	ErrNotLeader  = errors.New("cluster: not the leader") // nothing was written
	ErrOtherTerm  = errors.New("cluster: another term")
	ErrBadRequest = errors.New("cluster: request not understood")
	ErrRemote     = errors.New("cluster: peer failed")
)

// failures are the errors that cross between nodes, each as its place in the
// list: only ever add at the end. An error that matches several is the first.
var failures = []error{
	1:  ErrRemote,
	2:  ErrUnknownOutcome,
	3:  ErrNotLeader,
	4:  ErrOtherTerm,
	5:  ErrBadRequest,
	6:  ErrNoLeader,
	7:  ErrNotMember,
	8:  ErrOverloaded,
	9:  ErrTooLarge,
	10: ErrClosed,
	11: ErrUnknownMember,
	12: ErrAddressTaken,
	13: ErrUnreachable,
	14: ErrQuorum,
	15: ErrKnownMember,
	16: ErrTwice,
	17: ErrOldRelease,
}

// NotWritten reports whether an attempt to write that failed so has certainly
// left nothing in any log.
func NotWritten(err error) bool {
	for _, known := range []error{ErrNotLeader, ErrBadRequest, ErrNotSent, ErrNoLeader, ErrNotMember, ErrOverloaded, ErrTooLarge} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// remoteError is an error of another node. It matches what it was there.
type remoteError struct {
	kind error
	text string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func encodeFailure(err error) []byte {
	code := byte(1)
	for c, known := range failures {
		if known != nil && errors.Is(err, known) {
			code = byte(c)
			break
		}
	}
	return append([]byte{code}, err.Error()...)
}

func decodeFailure(b []byte) error {
	kind := ErrRemote
	if c := int(b[0]); c > 0 && c < len(failures) {
		kind = failures[c]
	}
	return &remoteError{kind: kind, text: string(b[1:])}
}
