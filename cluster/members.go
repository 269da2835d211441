package cluster

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/membership"
	"lockstep/cluster/internal/status"
	"lockstep/fsm"
)

// Role is a member's part in the cluster.
type Role = status.Role

// The roles. An unreachable member may be a voter or not.
const (
	RoleLeader      = status.Leader
	RoleFollower    = status.Follower
	RoleNonvoter    = status.Nonvoter
	RoleUnreachable = status.Unreachable
)

// NodeStatus is a member's own account of itself.
type NodeStatus = status.Node

// MemberSpec describes a node to be added.
type MemberSpec = membership.Spec

// Member is what this node knows of a member without asking it.
type Member struct {
	ID           string
	InternalAddr string
	HTTPURL      string // empty while gossip has not brought it
	AdminURL     string // likewise, and if operators come by HTTPURL
	Version      string // likewise
	Role         Role
	Voter        bool // by raft's configuration, whether it answers or not

	server string
}

// Status is the account of all members.
type Status struct {
	ClusterID string
	Leader    string // node id; empty when none is known
	Nodes     []NodeStatus
}

// Members returns the members by raft's configuration, with what gossip knows of
// them, in the order of their ids. While a member is being replaced there are
// two of its id, the new one first.
func (n *Node) Members() []Member {
	state, _ := n.leadership.State()
	var members []Member
	for _, s := range slices.Backward(n.members.All()) {
		m := Member{ID: member.NodeOf(s.ID), server: string(s.ID), InternalAddr: string(s.Address), Role: RoleFollower, Voter: s.Suffrage == raft.Voter}
		switch {
		case m.server == state.Leader:
			m.Role = RoleLeader
		case !m.Voter:
			m.Role = RoleNonvoter
		}
		switch {
		case m.server == n.self:
			m.HTTPURL, m.AdminURL, m.Version = n.config.HTTPURL, n.config.AdminURL, n.config.Version
		case n.gossip != nil:
			meta, alive := n.gossip.lookup(m.server)
			m.HTTPURL, m.AdminURL, m.Version = meta.HTTPURL, meta.AdminURL, meta.Version
			if !alive && m.Role != RoleLeader { // of the leader raft knows better
				m.Role = RoleUnreachable
			}
		}
		members = append(members, m)
	}
	slices.SortStableFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

// Status asks every member for its status, each with a short deadline.
func (n *Node) Status(ctx context.Context) Status {
	state, _ := n.leadership.State()
	members := n.Members()
	status := Status{ClusterID: n.config.ClusterID, Leader: member.NodeOf(raft.ServerID(state.Leader)), Nodes: make([]NodeStatus, len(members))}
	var asking sync.WaitGroup
	for i, m := range members {
		asking.Go(func() {
			s, err := n.survey.Of(ctx, m.server)
			if err != nil {
				s = NodeStatus{Role: RoleUnreachable, HTTP: m.HTTPURL, Version: m.Version}
			}
			s.ID, s.Raft, s.Server, s.Voter = m.ID, m.InternalAddr, m.server, m.Voter
			status.Nodes[i] = s
		})
	}
	asking.Wait()
	return status
}

func (n *Node) ownStatus() NodeStatus {
	state, last := n.leadership.Look(), status.LogEndOf(n.raft)
	s := NodeStatus{
		ID: n.config.ID, HTTP: n.config.HTTPURL, Raft: n.peers.Addr(), Role: RoleNonvoter, Version: n.config.Version,
		AppliedIndex: n.fsm.View().Index(), CommitIndex: n.raft.CommitIndex(), Term: state.Term,
		LastIndex: last.Index, LastTerm: last.Term, Gossip: n.GossipAddr(), Server: n.self, Process: n.process, Candidate: state.Role == raft.Candidate,
	}
	s.Digest = n.fsm.View().Digest()
	s.Level, s.Newest = n.fsm.View().Level(), fsm.Newest
	s.DiskShort = n.diskShort.Load()
	s.Nonvoter, s.Reserve, s.Voter = n.config.Nonvoter, n.config.Reserve, n.Votes()
	s.Clock = n.clock.Now()
	if now, known := n.clock.Read(); known {
		s.ClusterClock = now
	}
	for _, key := range n.keys.All() {
		s.Keys = append(s.Keys, fsm.KeyIDOf(key))
	}
	switch {
	case state.Role == raft.Leader && n.diskError() == nil:
		s.Role = RoleLeader
	case n.Votes():
		s.Role = RoleFollower
	}
	if err := n.Health(); err != nil {
		s.Problem = err.Error()
	}
	return s
}

// Votes reports whether this very incarnation of the node is a voter.
func (n *Node) Votes() bool {
	return slices.ContainsFunc(n.members.Voters(), func(v raft.Server) bool { return string(v.ID) == n.self })
}

// Settled reports whether the node has what it joined for: its vote, or, if it wants
// none, a state that is as new as the leader's. Its addition can not be taken back then.
func (n *Node) Settled() bool {
	return n.Votes() || n.config.Nonvoter && n.members.Has(n.self) && n.changes.Committed() && n.Health() == nil
}

// Replicated reports whether there are other voters, so that another node has
// whatever this one acknowledged.
func (n *Node) Replicated() bool { return len(n.members.Voters()) > 1 }

// AddMember adds a node, which must be running and answer at its address, as a
// nonvoter; called for a member, it changes the member's address. A node with the
// id of a member but another log is refused with ErrKnownMember unless it is to
// replace that member, and a second process of a member with ErrTwice. It may be
// called on any node and returns when the change is committed; without a
// deadline in ctx it gives up after 30 seconds. The leader makes the node a voter
// when it has caught up, unless it wants no vote (Config.Nonvoter).
func (n *Node) AddMember(ctx context.Context, spec MemberSpec) error { return n.changes.Add(ctx, spec) }

// RemoveMember takes a node out of the cluster. It may be called on any node
// and returns when the change is committed. A leader that is to be removed
// hands leadership over first. It refuses, with ErrQuorum, when fewer live
// voters than a majority would remain.
func (n *Node) RemoveMember(ctx context.Context, id string) error {
	return n.changes.Remove(ctx, id, "")
}

// Leave takes this node out of the cluster: leadership is handed over, the
// leader removes the node, and the data directory is marked so that Open refuses
// it from then on. The caller closes the node after that. When it fails the node
// may be out all the same; called again it finds that out.
func (n *Node) Leave(ctx context.Context) error { return n.place.Leave(ctx) }

// Removed is closed when the node learns that it is no longer a member.
func (n *Node) Removed() <-chan struct{} { return n.place.Removed() }

// TransferLeadership hands leadership to the voter whose log is newest among
// those that answer. It succeeds when this node leads no more.
func (n *Node) TransferLeadership(ctx context.Context) error { return n.transfers.Away(ctx) }

// Servers returns the ids of all servers in raft's configuration, for a node that
// enrols (Config.Members).
func (n *Node) Servers() []string {
	var ids []string
	for _, s := range n.members.All() {
		ids = append(ids, string(s.ID))
	}
	return ids
}

// recovered ends this node's part when a member tells that the cluster was
// recovered without it.
func (n *Node) recovered(server string, err *RecoveredError) {
	if n.members.Has(server) {
		n.fail(err)
	}
}
