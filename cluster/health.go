package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lockstep/cluster/internal/lifetime"
	"lockstep/objects"
)

const (
	// keepUpInterval is how often a node finds out whether its store keeps up
	// with the leader, and keepUpTimeout how long it waits for that; scaled.
	keepUpInterval = time.Second
	keepUpTimeout  = 10 * time.Second
	// lagsAfter is the age from which a node's state is too old to serve; scaled.
	lagsAfter = 5 * time.Second
)

var (
	errNoLeaderKnown = errors.New("no leader is known")
	errCatchingUp    = errors.New("this node is catching up")
)

// Health returns nil if this node serves, and why it does not otherwise: its disk
// failed or hangs, its state may not be relied upon (see Fault), it has not caught
// up since its start, hears of no leader, or hears its heartbeats and does not
// advance. Nothing but raft and this node's own store is asked.
func (n *Node) Health() error {
	if err := n.diskError(); err != nil {
		return err
	}
	if _, err := n.Fault(); err != nil {
		return err
	}
	select {
	case <-n.ready:
	default:
		return errCatchingUp
	}
	if state, _ := n.leadership.State(); state.Leader == "" {
		return errNoLeaderKnown
	}
	if age := n.Age(); age > n.config.scaled(lagsAfter) {
		return fmt.Errorf("this node does not keep up: for %v its store has not reached what the leader has committed", age.Round(time.Second))
	}
	return nil
}

// Age is how long ago this node's store was last known to hold everything that
// was acknowledged; since the node's start if it never was.
func (n *Node) Age() time.Duration {
	return time.Since(n.opened) - time.Duration(n.current.Load())
}

// keepUp takes a read index of the leader again and again, for as long as the
// node runs. The first one that the store reaches makes the node ready.
func (n *Node) keepUp() {
	ready := false
	for n.life.Context().Err() == nil {
		timeout := n.config.scaled(keepUpTimeout)
		if !ready {
			timeout = lifetime.RequestTimeout // it may have much to catch up on
		}
		began := time.Since(n.opened)
		ctx, cancel := context.WithTimeout(n.life.Context(), timeout)
		_, err := n.reads.Read(ctx, objects.Bucket{})
		cancel()
		if err == nil {
			n.current.Store(int64(began))
		}
		if err == nil && !ready {
			ready = true
			close(n.ready)
		}
		lifetime.Pause(n.life.Context(), keepUpInterval)
	}
}

// Reachable returns the ids of the members that are there: those that answer on
// the internal port, and those that gossip sees. Only a member that is neither
// is gone.
func (n *Node) Reachable(ctx context.Context) []string {
	var there []string
	reports := n.survey.Reports(ctx, n.members.All())
	for _, m := range n.Members() {
		_, answers := reports[m.server]
		if answers || (n.gossip != nil && m.Role != RoleUnreachable) {
			there = append(there, m.ID)
		}
	}
	return there
}
