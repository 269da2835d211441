package cluster

import (
	"errors"
	"fmt"
	"time"

	"lockstep/cluster/internal/link"
)

// What Propose and Read fail with when the cluster cannot serve them. Refusals
// of the domain are results, not errors.
var (
	// ErrNoLeader: no leader was found in time. Nothing was written.
	ErrNoLeader = errors.New("cluster: no leader")

	// ErrUnknownOutcome: time ran out with the answer outstanding. The command
	// may or may not have been applied; repeating it under the same id is safe.
	ErrUnknownOutcome = errors.New("cluster: outcome unknown")

	// ErrNotMember: this node is not, or no longer, part of the cluster.
	ErrNotMember = errors.New("cluster: not a member")

	// ErrOverloaded: a queue is full. Nothing was written.
	ErrOverloaded = errors.New("cluster: overloaded")

	// ErrTooLarge: the command does not fit a log entry. Nothing was written.
	ErrTooLarge = errors.New("cluster: command too large")

	// ErrClosed: the node was closed.
	ErrClosed = errors.New("cluster: node closed")
)

// What Open and changes of the membership fail with.
var (
	// ErrLeft: the data directory belongs to a node that has left its cluster.
	ErrLeft = errors.New("cluster: this node has left its cluster; wipe its data directory to join anew")

	// ErrStateLost: the node ran before, and its log, term and vote are not there
	// any more. It must not go on as the server that it was.
	ErrStateLost = errors.New("cluster: this node's raft state was lost")

	// ErrDamaged: the node's log is not what was written to it. Its disk lies.
	ErrDamaged = errors.New("cluster: this node's log is damaged")

	// ErrSnapshots: no snapshot joins the node's log, which is worthless without.
	ErrSnapshots = errors.New("cluster: this node's snapshots are damaged or missing")

	// ErrTwice: another process runs on a copy of this node's data directory.
	ErrTwice = errors.New("cluster: another process runs on a copy of this data directory")

	// ErrKnownMember: a member has this id, and another log.
	ErrKnownMember = errors.New("cluster: a member has this id already, with another data directory")

	// ErrHasState: bootstrap was asked for where there is a cluster already.
	ErrHasState = errors.New("cluster: the data directory holds a cluster already")

	// ErrUnknownMember: no member has this id.
	ErrUnknownMember = errors.New("cluster: unknown member")

	// ErrAddressTaken: another member has this address.
	ErrAddressTaken = errors.New("cluster: address belongs to another member")

	// ErrUnreachable: the node to be added does not answer, as itself, at its address.
	ErrUnreachable = errors.New("cluster: node does not answer at its internal address")

	// ErrQuorum: the change would leave fewer live voters than a majority.
	ErrQuorum = errors.New("cluster: too few live voters would remain")
)

// RecoveredError is the failure of a node whose cluster was recovered without it:
// what it has is of the past.
type RecoveredError = link.RecoveredError

// Past is a cluster that another one was before it was recovered.
type Past = link.Past

// ErrNotSent is wrapped by a Peers.Call that failed before the request left.
var ErrNotSent = link.ErrNotSent

var (
	errNotLeader  = errors.New("cluster: not the leader") // nothing was written
	errOtherTerm  = errors.New("cluster: another term")
	errBadRequest = errors.New("cluster: request not understood")
	errRemote     = errors.New("cluster: peer failed")
)

// RateLimited is the refusal of a read.
type RateLimited struct {
	RetryAfter time.Duration
}

// Error implements error.
func (e *RateLimited) Error() string {
	return fmt.Sprintf("cluster: rate limit exceeded, try again in %v", e.RetryAfter)
}

// failures are the errors that cross between nodes, each as its place in the
// list: only ever add at the end. An error that matches several is the first.
var failures = []error{
	1:  errRemote,
	2:  ErrUnknownOutcome,
	3:  errNotLeader,
	4:  errOtherTerm,
	5:  errBadRequest,
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
	kind := errRemote
	if c := int(b[0]); c > 0 && c < len(failures) {
		kind = failures[c]
	}
	return &remoteError{kind: kind, text: string(b[1:])}
}
