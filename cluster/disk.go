package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// diskInterval is how often the writes under way are looked at.
	diskInterval = 200 * time.Millisecond
	// diskHangs is the age from which a write hangs; scaled.
	diskHangs = 2 * time.Second
)

var errDiskHangs = errors.New("this node's disk hangs: a write to it does not end")

// diskError returns why this node's disk keeps it from taking part, if it does.
func (n *Node) diskError() error {
	if err := n.disk.Failure(); err != nil {
		return err
	}
	if n.disk.Waiting() > n.config.scaled(diskHangs) {
		return errDiskHangs
	}
	return nil
}

// mayServe returns why nothing is to be read or written through this node, if that
// is so.
func (n *Node) mayServe() error {
	if err := n.diskError(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	_, err := n.Fault()
	return err
}

// diskHolds reports whether the disk keeps this node from taking part.
func (n *Node) diskHolds() bool { return n.diskError() != nil }

// watchDisk ends the node's part in the cluster when a write has failed. While one
// hangs, so does raft, but for its heartbeats, which keep the others from choosing
// another leader: they are held back, and leadership is handed over. When the disk
// goes on, so does the node.
func (n *Node) watchDisk() {
	hung := false
	for n.life.Context().Err() == nil {
		select {
		case <-n.disk.Broken():
			n.handOff()
			n.fail(n.disk.Failure())
			return
		case <-n.life.Context().Done():
			return
		case <-time.After(diskInterval):
		}
		hangs := n.diskError() != nil
		switch {
		case hangs && !hung:
			n.config.Logger.Error("this node's disk hangs; it leads and serves no more until it goes on")
			n.handOff()
		case hung && !hangs:
			n.config.Logger.Warn("this node's disk goes on")
		}
		hung = hangs
	}
}

// handOff has another voter stand for election, if this node leads.
func (n *Node) handOff() {
	ctx, cancel := context.WithTimeout(n.life.Context(), n.config.electionTimeout())
	defer cancel()
	if err := n.transfers.WithoutRaft(ctx, n.transport); err != nil {
		n.config.Logger.Warn("leadership not handed over", "error", err)
	}
}
