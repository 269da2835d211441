package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lockstep/cluster/internal/status"
)

const (
	// diskInterval is the pause between two checks of the writes under way.
	diskInterval = 200 * time.Millisecond
	// diskHangs is the age from which a write counts as hanging; scaled.
	diskHangs = 2 * time.Second
	// diskGivenUp is the age from which the node no longer waits for a write before
	// it ends; scaled.
	diskGivenUp = 5 * time.Second
	// diskBrokenGrace is how long raft may go on answering when a write has failed;
	// scaled.
	diskBrokenGrace = time.Second
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

// mayServe returns why nothing may be read or written through this node, or nil.
func (n *Node) mayServe() error {
	if err := n.diskError(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	select {
	case <-n.Removed(): // nobody would answer
		return fmt.Errorf("%w: this node is no longer a member", ErrNoLeader)
	default:
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

// unlessDiskHangs waits for the node's end, but not longer than a disk that hangs
// is waited for: then raft ends when the disk goes on, or with the process. Raft
// may answer some requests never when a write has failed.
func (n *Node) unlessDiskHangs(stopped <-chan error) error {
	began := time.Now()
	for {
		select {
		case err := <-stopped:
			return err
		case <-time.After(diskInterval):
			if n.disk.Waiting() > n.config.scaled(diskGivenUp) {
				return fmt.Errorf("%w: %w", ErrHeldUp, errDiskHangs)
			}
			if failure := n.disk.Failure(); failure != nil && time.Since(began) > n.config.scaled(diskGivenUp) {
				return fmt.Errorf("%w: %w", ErrHeldUp, failure)
			}
		}
	}
}

// letRaftAnswer waits until raft has answered all that it was asked, which closes
// the channel. When a write has failed, raft's main goroutine has ended: what waits
// for that one, a snapshot perhaps, is answered only when raft is shut down. What
// it has handed to the store is answered before.
func (n *Node) letRaftAnswer() <-chan struct{} {
	answered := make(chan struct{})
	go func() {
		n.life.WaitForRaft()
		close(answered)
	}()
	select {
	case <-answered:
		return answered
	case <-n.disk.Broken():
	}
	select {
	case <-answered:
	case <-time.After(n.config.scaled(diskBrokenGrace)):
	}
	return answered
}

// handOff has another voter campaign, if this node leads.
func (n *Node) handOff() {
	ctx, cancel := context.WithTimeout(n.life.Context(), n.config.electionTimeout())
	defer cancel()
	if err := n.transfers.WithoutRaft(ctx, n.transport); err != nil {
		n.config.Logger.Warn("leadership not handed over", "error", err)
	}
}

// assessDisks checks whether this node's disk has room, and reports whether the
// voters have enough. They have not if this node's disk is short, or if some
// voter's is and no majority is known to have room. Voters that do not answer do
// not matter while no disk is known to be short.
func (n *Node) assessDisks(others []status.Node) {
	own := n.config.DiskShort()
	n.diskShort.Store(own)
	n.config.DisksFull(own || roomIsShort(len(n.members.Voters()), others))
}

// roomIsShort reports whether too few voters have room, given that this one has.
func roomIsShort(voters int, others []status.Node) bool {
	room, short := 1, 0
	for _, other := range others {
		if other.DiskShort {
			short++
		} else {
			room++
		}
	}
	return short > 0 && room <= voters/2
}
