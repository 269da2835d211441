package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
)

// removalAnswers is how often in a row a leader must have said that this node
// is no member before the node believes it.
const removalAnswers = 3

// announceTimeout bounds telling the cluster a new address; scaled.
const announceTimeout = 5 * time.Second

// Leave takes this node out of the cluster: leadership is handed over, the
// leader removes the node, and the data directory is marked so that Open refuses
// it from then on. The caller closes the node after that. When it fails the node
// may be out all the same; called again it finds that out.
func (n *Node) Leave(ctx context.Context) error {
	ctx, cancel := lifetime.Bounded(ctx)
	defer cancel()
	for {
		err := n.removeMember(ctx, removeMemberRequest{ID: n.config.ID, Server: n.self})
		switch {
		case err == nil, errors.Is(err, ErrUnknownMember):
			return n.becomeRemoved()
		case !errors.Is(err, ErrNotMember):
			return fmt.Errorf("leave: %w", err)
		}
		// Whoever leads does not have this node in its log's configuration, which may
		// not be committed, and never be.
		if _, others := n.ownEntry(); n.askMembership(others) == answerDenied {
			return n.becomeRemoved()
		}
		lifetime.Pause(ctx, n.config.scaled(memberInterval))
		if ctx.Err() != nil {
			return fmt.Errorf("leave: %w: %w", err, ctx.Err())
		}
	}
}

// HasLeft reports whether the node of a data directory has left its cluster.
func HasLeft(dataDir string) bool {
	_, err := os.Stat(filepath.Join(dataDir, leftMarker))
	return err == nil
}

// becomeRemoved makes removal final for this data directory.
func (n *Node) becomeRemoved() error {
	if n.config.Parts == nil {
		if err := markLeft(n.config.DataDir); err != nil {
			return err
		}
	}
	n.removedOnce.Do(func() { close(n.removed) })
	return nil
}

// hasLeft says whether this node is no longer a member, for good.
func (n *Node) hasLeft() bool {
	select {
	case <-n.removed:
		return true
	default:
		return false
	}
}

// membershipOf answers a server that asks whether it is a member. Only a leader
// whose term has started can tell, and only while its configuration is
// committed: a removal that is not may never be.
func (n *Node) membershipOf(server string) membershipAnswer {
	t := n.leadership.Leading()
	servers := n.members.All()
	committed := n.configurationCommitted()
	return membershipAnswer{
		Leads:  t != nil && committed && n.leadership.Leads(t.Number),
		Term:   n.raft.CurrentTerm(),
		Member: slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == server }),
	}
}

// configurationCommitted reports whether the newest configuration in the log is
// committed, and so can not be taken back.
func (n *Node) configurationCommitted() bool {
	return n.stores.checked.configuration.Load() <= n.raft.CommitIndex()
}

// watchMembership looks after this node's own place in the cluster. A node that
// was removed while it was away never gets the log entry that says so; and one
// that came back under another address is not found by the leader. While such a
// node hears of no leader it asks the members that it knows.
func (n *Node) watchMembership() {
	denied := 0
	for {
		lifetime.Pause(n.life.Context(), n.config.scaled(memberInterval))
		if n.life.Context().Err() != nil || n.hasLeft() {
			return
		}
		self, others := n.ownEntry()
		if self == nil && len(others) == 0 {
			continue // not added yet
		}
		moved := self != nil && string(self.Address) != n.peers.Addr()
		if state, _ := n.leadership.State(); state.Leader != "" && self != nil && !moved {
			denied = 0
			continue
		}
		if moved {
			n.announceAddress(others)
		}
		switch n.askMembership(others) {
		case answerMember:
			denied = 0
		case answerDenied:
			denied++
		}
		if denied >= removalAnswers || (denied > 0 && self == nil) {
			n.removedByOthers()
			return
		}
	}
}

func (n *Node) removedByOthers() {
	n.config.Logger.Warn("this node was removed from the cluster")
	if err := n.becomeRemoved(); err != nil {
		n.config.Logger.Error("data directory not marked as left", "error", err)
	}
}

// ownEntry splits the configuration into this node and the others.
func (n *Node) ownEntry() (self *raft.Server, others []raft.Server) {
	for _, s := range n.members.All() {
		if string(s.ID) == n.self {
			self = &s
		} else {
			others = append(others, s)
		}
	}
	return self, others
}

type membershipVerdict int

const (
	answerNone membershipVerdict = iota
	answerMember
	answerDenied
)

// askMembership asks the members that this node knows, until a leader of a term
// no older than its own answers.
func (n *Node) askMembership(others []raft.Server) membershipVerdict {
	for _, s := range others {
		ctx, cancel := context.WithTimeout(n.life.Context(), n.config.scaled(statusTimeout))
		a, err := wire.Ask[membershipAnswer](ctx, n.peers, string(s.ID), wire.Membership, wire.None{})
		cancel()
		if err != nil || !a.Leads || a.Term < n.raft.CurrentTerm() {
			continue
		}
		if a.Member {
			return answerMember
		}
		return answerDenied
	}
	return answerNone
}

// announceAddress tells the leader, through any member, where this node is now.
func (n *Node) announceAddress(others []raft.Server) {
	spec := MemberSpec{ID: n.config.ID, InternalAddr: n.peers.Addr(), HTTPURL: n.config.HTTPURL, Version: n.config.Version}
	ctx, cancel := context.WithTimeout(n.life.Context(), n.config.scaled(announceTimeout))
	defer cancel()
	err := ErrNoLeader
	if state, _ := n.leadership.State(); state.Leader != "" || len(others) == 0 {
		err = n.AddMember(ctx, spec)
	} else {
		for _, s := range others {
			if _, err = wire.Ask[wire.None](ctx, n.peers, string(s.ID), wire.AddMember, addMemberRequest{Spec: spec}); err == nil || errors.Is(err, ErrTwice) {
				break
			}
		}
	}
	if errors.Is(err, ErrTwice) {
		n.fail(err)
		return
	}
	if err != nil {
		n.config.Logger.Warn("new address not announced", "address", spec.InternalAddr, "error", err)
		return
	}
	n.config.Logger.Info("new address announced", "address", spec.InternalAddr)
}
