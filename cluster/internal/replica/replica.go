// Package replica compares this node's state with that of the voters, by the
// digests of what was applied, and decides whether it may be relied upon.
//
// Of several states that of a majority is right, and a node that has another one
// says so for good. Without a majority nobody guesses: every node that differs
// from another one serves nothing until there is one.
//
// Each node adds its state up anew now and then. If that gives another sum than the
// one that was kept, either its memory was altered, or a fault of the store itself
// has changed records without the sum. The latter happens on all nodes alike, so the
// others are asked: see recount.go.
package replica

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/watch"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// Why a state may not be relied upon. Package cluster documents them.
var (
	ErrDiffers  = errors.New("cluster: this node's state differs from that of the others")
	ErrDisputed = errors.New("cluster: the nodes' states differ and no majority says whose is right")
	ErrAltered  = errors.New("cluster: this node's state was altered in memory; start it again")
	ErrUnsure   = errors.New("cluster: this node's state does not have the sum that was kept of it, and too few nodes say whether theirs does")
)

const (
	// compareInterval is how often the state is compared with those of the voters.
	compareInterval = time.Second
	// warnPause is the pause before the difference of another node is logged again.
	warnPause = time.Minute
	// recountInterval is how often the whole state is added up anew, about.
	recountInterval = 10 * time.Minute
	// recountPause is the pause before a state that has another sum than the one that
	// was kept is added up again.
	recountPause = time.Second
	// doubtAfter is how long the others' sums are waited for before nothing is served;
	// scaled.
	doubtAfter = 2 * time.Second
	// askTimeout bounds asking a member for a digest, and verifyTimeout for one that
	// it first has to reach and to add up; scaled.
	askTimeout    = 500 * time.Millisecond
	verifyTimeout = 15 * time.Second
)

// Servers knows raft's configuration.
type Servers interface {
	All() []raft.Server
	Voters() []raft.Server
}

// Config is what a replica needs. Every field is required.
type Config struct {
	Self    string // this server
	Store   *fsm.FSM
	Servers Servers
	Peers   wire.Caller
	Life    *lifetime.Lifetime

	// Scale multiplies the time-outs.
	Scale func(time.Duration) time.Duration

	// Mark makes the node remember over its end that its state is not that of the
	// others.
	Mark func() error

	// Drift is what the process before this one kept with KeepDrift, if not 0.
	Drift uint64
	// KeepDrift makes the node remember over its end by how much the sum of its state
	// is wrong; 0: by nothing.
	KeepDrift func(drift uint64) error

	// Ready is closed when the store has caught up since the node's start.
	Ready <-chan struct{}
	// Leads reports whether this node leads.
	Leads func() bool
	// Recount has every node make the sum of its state anew, by the log.
	Recount func(context.Context) error

	Logger *slog.Logger
}

// Replica is this node's state among those of the others. Its methods may be
// called from any goroutine.
type Replica struct {
	Config
	fault      watch.Value[fault]
	recounting chan struct{} // one slot, taken while the state is added up
	suspected  chan struct{} // one slot, filled to have the state added up
	judging    chan struct{} // one slot, taken while what that came to is judged
	kept       uint64        // by KeepDrift; who judges may look
	noticed    int           // recounts that were told of; Run's own
}

// fault is why the state may not be relied upon.
type fault struct {
	err   error
	final bool // whatever the others say from now on
	sum   bool // it is about this node's own sum, not about the others' states
}

// New returns the replica, which compares nothing before Run.
func New(config Config) *Replica {
	r := &Replica{Config: config, recounting: make(chan struct{}, 1), suspected: make(chan struct{}, 1), judging: make(chan struct{}, 1), kept: config.Drift}
	if r.kept != 0 { // until it is known whether what is on the disk leads there again
		r.fault.Update(func(fault) fault { return fault{err: ErrUnsure, sum: true} })
		r.Suspect()
	}
	return r
}

// Fault returns why the state may not be relied upon, or nil, and a channel that
// is closed when that has changed.
func (r *Replica) Fault() (<-chan struct{}, error) {
	f, changed := r.fault.Get()
	return changed, f.err
}

// Doubted reports whether nobody knows yet what this node's sum is worth.
func (r *Replica) Doubted() bool {
	f, _ := r.fault.Get()
	return f.sum
}

// Wrong reports whether the state is wrong for good.
func (r *Replica) Wrong() bool {
	f, _ := r.fault.Get()
	return f.final
}

// disown ends all service from this state.
func (r *Replica) disown(err error) {
	was := r.fault.Update(func(was fault) fault {
		if was.final {
			return was
		}
		return fault{err: err, final: true}
	})
	if was.final {
		return
	}
	r.Logger.Error("this node serves and leads no more", "error", err)
	if !errors.Is(err, ErrDiffers) {
		return
	}
	if err := r.Mark(); err != nil {
		r.Logger.Error("that the state differs is not kept for the next start", "error", err)
	}
}

// dispute notes that voters are at odds without a majority for either side, or,
// with nil, that a majority has this state.
func (r *Replica) dispute(err error) {
	was := r.fault.Update(func(was fault) fault {
		if was.final || was.sum || (was.err == nil) == (err == nil) {
			return was
		}
		return fault{err: err}
	})
	switch {
	case was.final || was.sum:
	case was.err == nil && err != nil:
		r.Logger.Error("this node serves no more until a majority has one state", "error", err)
	case was.err != nil && err == nil:
		r.Logger.Info("this node serves again: a majority has its state")
	}
}

// FSM is the store as raft has it: what its snapshots show of the state is noticed.
type FSM struct {
	*fsm.FSM
	Life *lifetime.Lifetime

	// Altered is told, on one of raft's goroutines, of a snapshot whose content is
	// not what was put into the store that wrote it: this one, or, as raft restores
	// it, the one that it came from.
	Altered func(restoring bool, err error)
}

// Restore implements raft.FSM.
func (f FSM) Restore(content io.ReadCloser) error {
	err := patiently(f.Life, func() error { return f.FSM.Restore(content) })
	if errors.Is(err, fsm.ErrAltered) {
		f.Altered(true, err)
	}
	return err
}

// Snapshot implements raft.FSM.
func (f FSM) Snapshot() (raft.FSMSnapshot, error) {
	s, err := f.FSM.Snapshot()
	return snapshot{s, f}, err
}

type snapshot struct {
	raft.FSMSnapshot
	of FSM
}

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	err := s.FSMSnapshot.Persist(sink)
	if errors.Is(err, fsm.ErrAltered) {
		s.of.Altered(false, err)
	}
	return err
}
