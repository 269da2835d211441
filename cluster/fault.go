package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/replica"
	"lockstep/cluster/internal/transport"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// giveWayInterval is how often a node whose state is wrong looks whether it leads.
const giveWayInterval = 200 * time.Millisecond

// yieldPause is the pause before leadership is handed over again when that failed.
const yieldPause = 2 * transport.RequestTimeout

// Fault returns why this node's state may not be relied upon: ErrDiffers or
// ErrAltered for good, ErrDisputed until a majority has one state, and ErrUnsure
// until a majority says what it has; nil if there is no reason. Nothing is served
// from the state then, and while it is wrong for good this node does not lead. It
// votes on, and keeps the log, which has checksums of its own. The channel is closed
// when the fault has changed.
func (n *Node) Fault() (<-chan struct{}, error) { return n.replica.Fault() }

// Verify has all members add up their states anew, and compares them as of one
// log index.
func (n *Node) Verify(ctx context.Context) Verification { return n.replica.Verify(ctx) }

// newReplica makes what compares this node's state with the others'.
func (n *Node) newReplica() (*replica.Replica, error) {
	drift, err := n.keptDrift()
	if err != nil {
		return nil, err
	}
	return replica.New(replica.Config{
		Self: n.self, Store: n.fsm, Servers: &n.members, Peers: n.peers, Life: n.life, Scale: n.config.scaled,
		Mark: func() error { return markDiffers(n.config) }, Logger: n.config.Logger,
		Drift: drift, KeepDrift: n.keepDrift, Ready: n.ready, Leads: n.IsLeader,
		Recount: func(ctx context.Context) error { // whatever this node serves meanwhile
			_, err := n.proposer.Propose(ctx, fsm.RecountState(commandid.New()))
			return err
		},
	}), nil
}

// driftKey is where the stable store keeps by how much the sum of the state was
// wrong when the process before this one stopped serving.
var driftKey = []byte("Drift")

func (n *Node) keptDrift() (uint64, error) {
	drift, err := storedValue(n.stores.stable, driftKey)
	switch {
	case err != nil:
		return 0, fmt.Errorf("read how far the sum of the state was off: %w", err)
	case len(drift) == 0:
		return 0, nil
	case len(drift) != 8:
		return 0, fmt.Errorf("%w: how far the sum of the state was off has %d bytes", ErrDamaged, len(drift))
	}
	return binary.BigEndian.Uint64(drift), nil
}

func (n *Node) keepDrift(drift uint64) error {
	return n.stores.stable.Set(driftKey, binary.BigEndian.AppendUint64(nil, drift))
}

// noteAltered is told of snapshots whose content is not the state that they are
// of. Those that others send are refused, and asked for again.
func (n *Node) noteAltered(restoring bool, err error) {
	switch {
	case !restoring:
		n.replica.Suspect()
	case len(n.members.All()) == 0: // as raft starts
		err = fmt.Errorf("%w: %w", ErrSnapshots, err)
		n.altered.Store(&err)
	}
}

// prepareTerm is the beginning of a term that this node leads. One whose state is
// wrong begins none, and hands leadership over.
func (n *Node) prepareTerm(ctx context.Context) {
	if n.replica.Wrong() {
		<-ctx.Done()
		return
	}
	n.keeper.Prepare(ctx)
}

// unlessWrong is a handler of commands that another node forwards, which answers
// nothing when what this node's store says of them may not be passed on.
func (n *Node) unlessWrong(answer wire.Handler) wire.Handler {
	return func(ctx context.Context, from string, body []byte) ([]byte, error) {
		if n.replica.Wrong() {
			return nil, wire.ErrNotLeader
		}
		return answer(ctx, from, body)
	}
}

// unfit reports whether this node must not stand for election.
func (n *Node) unfit() bool { return n.clock.FarOff() || n.replica.Wrong() }

// giveWay hands leadership over while this node's state is wrong, or may be.
func (n *Node) giveWay() {
	life := n.life.Context()
	var yielded time.Time
	for life.Err() == nil {
		lifetime.Pause(life, giveWayInterval)
		if !n.replica.Wrong() && !n.replica.Doubted() || n.raft.State() != raft.Leader || time.Since(yielded) < yieldPause {
			continue
		}
		yielded = time.Now()
		ctx, cancel := context.WithTimeout(life, 2*n.config.electionTimeout())
		if err := n.TransferLeadership(ctx); err != nil && life.Err() == nil {
			n.config.Logger.Warn("leadership not handed over", "error", err)
		}
		cancel()
	}
}
