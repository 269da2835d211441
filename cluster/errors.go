package cluster

import (
	"errors"

	"lockstep/cluster/internal/disk"
	"lockstep/cluster/internal/link"
	"lockstep/cluster/internal/readindex"
	"lockstep/cluster/internal/replica"
	"lockstep/cluster/internal/wire"
)

// What Propose and Read fail with when the cluster cannot serve them. Refusals
// of the domain are results, not errors.
var (
	// ErrNoLeader: no leader was found in time. Nothing was written.
	ErrNoLeader = wire.ErrNoLeader

	// ErrUnknownOutcome: time ran out with the answer outstanding. The command
	// may or may not have been applied; repeating it under the same id is safe.
	ErrUnknownOutcome = wire.ErrUnknownOutcome

	// ErrNotMember: this node is not, or no longer, part of the cluster.
	ErrNotMember = wire.ErrNotMember

	// ErrOverloaded: a queue is full. Nothing was written.
	ErrOverloaded = wire.ErrOverloaded

	// ErrTooLarge: the command does not fit a log entry. Nothing was written.
	ErrTooLarge = wire.ErrTooLarge

	// ErrClosed: the node was closed.
	ErrClosed = wire.ErrClosed
)

// What Open and changes of the membership fail with.
var (
	// ErrLeft: the data directory belongs to a node that has left its cluster.
	ErrLeft = errors.New("cluster: this node has left its cluster; wipe its data directory to join anew")

	// ErrStateLost: the node ran before, and its log, term and vote are not there
	// any more. It must not go on as the server that it was.
	ErrStateLost = errors.New("cluster: this node's raft state was lost")

	// ErrDamaged: the node's log, term, vote or key is not what was written. Its disk lies.
	ErrDamaged = errors.New("cluster: what this node wrote to its disk is damaged")

	// ErrHeldUp: the node has ended, except for what its disk keeps from ending,
	// which goes on until the disk does, or the process ends. Close returns it.
	ErrHeldUp = errors.New("cluster: this node's disk holds its end up, which is not waited for any longer")

	// ErrDisk: a write to the node's log, term or vote failed. What the disk has of
	// it is not known, so nothing more is written.
	ErrDisk = disk.ErrFailed

	// ErrSnapshots: no snapshot joins the node's log, which is worthless without.
	ErrSnapshots = errors.New("cluster: this node's snapshots are damaged or missing")

	// ErrDiffers: a majority of the voters agrees on another state than this node's.
	ErrDiffers = replica.ErrDiffers

	// ErrOutdated: the node's log, term and vote are an older copy. What it promised
	// after that was made, it does not know.
	ErrOutdated = errors.New("cluster: this node's raft state is a copy of before")

	// ErrDisputed: the voters' states differ, and no majority says whose is right.
	ErrDisputed = replica.ErrDisputed

	// ErrAltered: this node's state in memory is not what it put there. What is on
	// its disk is another matter.
	ErrAltered = replica.ErrAltered

	// ErrUnsure: the sum that was kept of this node's state is not that of its records,
	// and too few nodes have said whether theirs is.
	ErrUnsure = replica.ErrUnsure

	// ErrTwice: another process runs on a copy of this node's data directory.
	ErrTwice = wire.ErrTwice

	// ErrKnownMember: a member has this id, and another log.
	ErrKnownMember = wire.ErrKnownMember

	// ErrHasState: bootstrap was asked for where there is a cluster already.
	ErrHasState = errors.New("cluster: the data directory holds a cluster already")

	// ErrUnknownMember: no member has this id.
	ErrUnknownMember = wire.ErrUnknownMember

	// ErrAddressTaken: another member has this address.
	ErrAddressTaken = wire.ErrAddressTaken

	// ErrUnreachable: the node to be added does not answer, as itself, at its address.
	ErrUnreachable = wire.ErrUnreachable

	// ErrOldRelease: the node to be added cannot read what the cluster writes.
	ErrOldRelease = wire.ErrOldRelease

	// ErrQuorum: the change would leave fewer live voters than a majority.
	ErrQuorum = wire.ErrQuorum
)

// Verification is the outcome of Node.Verify.
type Verification = replica.Verification

// RecoveredError is the failure of a node whose cluster was recovered without it:
// what it has is of the past.
type RecoveredError = link.RecoveredError

// Past is a cluster that another one was before it was recovered.
type Past = link.Past

// ErrNotSent is wrapped by a Peers.Call that failed before the request left.
var ErrNotSent = wire.ErrNotSent

// RateLimited is the refusal of a read.
type RateLimited = readindex.RateLimited
