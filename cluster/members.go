package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/fsm"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/wire"
)

// Role is a member's part in the cluster.
type Role string

// The roles. An unreachable member may be a voter or not.
const (
	RoleLeader      Role = "leader"
	RoleFollower    Role = "follower"
	RoleNonvoter    Role = "nonvoter"
	RoleUnreachable Role = "unreachable"
)

// Member is what this node knows of a member without asking it.
type Member struct {
	ID           string
	InternalAddr string
	HTTPURL      string // empty while gossip has not brought it
	AdminURL     string // likewise, and if operators come by HTTPURL
	Version      string // likewise
	Role         Role

	server string
}

// MemberSpec describes a node to be added.
type MemberSpec struct {
	ID           string `cbor:"1,keyasint"`
	InternalAddr string `cbor:"2,keyasint"`
	HTTPURL      string `cbor:"3,keyasint,omitempty"`
	Version      string `cbor:"4,keyasint,omitempty"`

	// Replace lets the node take the place of a member with the same id, whose
	// data directory is lost or given up. That member stays, and keeps its vote,
	// until the new one has caught up and votes.
	Replace bool `cbor:"5,keyasint,omitempty"`
}

// NodeStatus is a member's own account of itself.
type NodeStatus struct {
	ID           string `cbor:"1,keyasint"`
	HTTP         string `cbor:"2,keyasint,omitempty"`
	Raft         string `cbor:"3,keyasint"` // address of the internal port
	Role         Role   `cbor:"4,keyasint"`
	AppliedIndex uint64 `cbor:"5,keyasint"`
	CommitIndex  uint64 `cbor:"6,keyasint"`
	Term         uint64 `cbor:"7,keyasint"`
	Version      string `cbor:"8,keyasint,omitempty"`
	LastIndex    uint64 `cbor:"9,keyasint"` // of its log
	Candidate    bool   `cbor:"10,keyasint,omitempty"`
	Server       string `cbor:"11,keyasint"` // the id in raft's configuration
	Process      uint64 `cbor:"12,keyasint"` // different in each process

	// Clock is the machine's, and ClusterClock the cluster's time as the node
	// carries it on, if it does; since 1970.
	Clock        time.Duration `cbor:"30,keyasint"`
	ClusterClock time.Duration `cbor:"31,keyasint,omitempty"`

	Digest fsm.Digest `cbor:"40,keyasint"` // of what it has applied

	Keys []fsm.KeyID `cbor:"13,keyasint,omitempty"` // the cluster's keys that it accepts

	Gossip string `cbor:"45,keyasint,omitempty"` // where it gossips

	// Level is the cluster's format level as the node's state has it, and Newest the
	// highest that its release knows.
	Level  fsm.Level `cbor:"50,keyasint,omitempty"`
	Newest fsm.Level `cbor:"51,keyasint,omitempty"`

	// Problem says why the node does not serve, if it does not (see Node.Health).
	Problem string `cbor:"20,keyasint,omitempty"`
}

// Status is the account of all members.
type Status struct {
	ClusterID string
	Leader    string // node id; empty when none is known
	Nodes     []NodeStatus
}

const (
	// statusTimeout bounds asking a member for its status.
	statusTimeout = 500 * time.Millisecond
	// memberInterval is how often a node looks after its own membership.
	memberInterval = time.Second
	// changeTimeout bounds the wait for raft to take a configuration change up.
	changeTimeout = 10 * time.Second
	// changePause is the pause before a change is decided anew.
	changePause = 50 * time.Millisecond
)

// Members gives the members by raft's configuration, with what gossip knows of
// them, in the order of their ids. While a member is being replaced there are
// two of its id, the new one first.
func (n *Node) Members() []Member {
	state, _ := n.leadership.State()
	var members []Member
	for _, s := range slices.Backward(n.members.All()) {
		m := Member{ID: member.NodeOf(s.ID), server: string(s.ID), InternalAddr: string(s.Address), Role: RoleFollower}
		switch {
		case m.server == state.Leader:
			m.Role = RoleLeader
		case s.Suffrage != raft.Voter:
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
			s, err := n.statusOf(ctx, m.server)
			if err != nil {
				s = NodeStatus{Role: RoleUnreachable, HTTP: m.HTTPURL, Version: m.Version}
			}
			s.ID, s.Raft, s.Server = m.ID, m.InternalAddr, m.server
			status.Nodes[i] = s
		})
	}
	asking.Wait()
	return status
}

// statusOf asks a server, or whoever is at an address.
func (n *Node) statusOf(ctx context.Context, to string) (NodeStatus, error) {
	if to == n.self || to == n.peers.Addr() {
		return n.ownStatus(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.scaled(statusTimeout))
	defer cancel()
	s, err := wire.Ask[NodeStatus](ctx, n.peers, to, wire.Status, wire.None{})
	if err == nil {
		n.refuseNewer(s)
	}
	return s, err
}

func (n *Node) ownStatus() NodeStatus {
	state := n.leadership.Look()
	s := NodeStatus{
		ID: n.config.ID, HTTP: n.config.HTTPURL, Raft: n.peers.Addr(), Role: RoleNonvoter, Version: n.config.Version,
		AppliedIndex: n.fsm.View().Index(), CommitIndex: n.raft.CommitIndex(), Term: state.Term,
		LastIndex: n.raft.LastIndex(), Gossip: n.GossipAddr(), Server: n.self, Process: n.process, Candidate: state.Role == raft.Candidate,
	}
	s.Digest = n.fsm.View().Digest()
	s.Level, s.Newest = n.fsm.View().Level(), fsm.Newest
	s.Clock = n.clock.now()
	if now, known := n.clock.read(); known {
		s.ClusterClock = now
	}
	for _, key := range n.keys.all() {
		s.Keys = append(s.Keys, fsm.KeyIDOf(key))
	}
	switch {
	case state.Role == raft.Leader:
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

// AddMember adds a node, which must be running and answer at its address, as a
// nonvoter; called for a member, it changes the member's address. A node with the
// id of a member but another log is refused with ErrKnownMember unless it is to
// replace that member, and a second process of a member with ErrTwice. It may be
// called on any node and returns when the change is committed; without a
// deadline in ctx it gives up after 30 seconds. The leader makes the node a voter
// when it has caught up.
func (n *Node) AddMember(ctx context.Context, spec MemberSpec) error {
	return n.addMember(ctx, addMemberRequest{Spec: spec})
}

func (n *Node) addMember(ctx context.Context, r addMemberRequest) error {
	return n.onLeader(ctx, r.Forwarded,
		func() error { return n.addOnLeader(ctx, r.Spec) },
		func(leader string) error {
			r.Forwarded = true
			_, err := wire.Ask[wire.None](ctx, n.peers, leader, wire.AddMember, r)
			return err
		})
}

// RemoveMember takes a node out of the cluster. It may be called on any node
// and returns when the change is committed. A leader that is to be removed
// hands leadership over first. It refuses, with ErrQuorum, when fewer live
// voters than a majority would remain.
func (n *Node) RemoveMember(ctx context.Context, id string) error {
	return n.removeMember(ctx, removeMemberRequest{ID: id})
}

func (n *Node) removeMember(ctx context.Context, r removeMemberRequest) error {
	return n.onLeader(ctx, r.Forwarded,
		func() error { return n.removeOnLeader(ctx, r) },
		func(leader string) error {
			r.Forwarded = true
			_, err := wire.Ask[wire.None](ctx, n.peers, leader, wire.RemoveMember, r)
			return err
		})
}

// onLeader runs a change of the membership where the leader is: here, or by a
// request to it, once. Such changes have the same effect however often they are
// made, so they are tried again while there is no leader or it changes.
func (n *Node) onLeader(ctx context.Context, forwarded bool, here func() error, there func(leader string) error) error {
	ctx, cancel := lifetime.Bounded(ctx)
	defer cancel()
	for {
		state, changed := n.leadership.State()
		var err error
		switch {
		case state.Leader == "":
			err = ErrNoLeader
		case state.Leader == n.self:
			err = n.changing(ctx, here)
		case forwarded:
			return wire.ErrNotLeader
		default:
			err = there(state.Leader)
		}
		if err == nil || !worthRetrying(err) {
			return err
		}
		pause := time.NewTimer(lifetime.Jitter(changePause))
		select {
		case <-changed:
		case <-pause.C:
		case <-n.life.Context().Done():
			err = ErrClosed
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", err, ctx.Err())
		}
		pause.Stop()
		if ctx.Err() != nil || n.life.Context().Err() != nil {
			return err
		}
	}
}

// changing runs one change of the membership at a time. What a change was
// decided on then still holds when raft takes it up: raft accepts it only while
// this node leads, and a leader's configuration changes only through here.
func (n *Node) changing(ctx context.Context, change func() error) error {
	select {
	case n.changes <- struct{}{}:
		defer func() { <-n.changes }()
		return change()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// worthRetrying is what a change of leader or of configuration may mend.
func worthRetrying(err error) bool {
	for _, final := range []error{ErrUnknownMember, ErrAddressTaken, ErrUnreachable, ErrQuorum, ErrNotMember, ErrClosed, ErrKnownMember, ErrTwice, ErrOldRelease, wire.ErrBadRequest} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

func (n *Node) addOnLeader(ctx context.Context, spec MemberSpec) error {
	at, err := n.statusOf(ctx, spec.InternalAddr)
	if err == nil && at.ID != spec.ID {
		err = fmt.Errorf("%s answers as %q", spec.InternalAddr, at.ID)
	}
	id, addr := raft.ServerID(at.Server), raft.ServerAddress(spec.InternalAddr)
	servers := n.members.All()
	holder := slices.IndexFunc(servers, func(s raft.Server) bool { return s.Address == addr })
	switch {
	case err != nil && holder >= 0 && member.NodeOf(servers[holder].ID) != spec.ID:
		return fmt.Errorf("%w: %s is %s", ErrAddressTaken, spec.InternalAddr, member.NodeOf(servers[holder].ID))
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case holder >= 0 && servers[holder].ID == id:
		return nil
	}
	if err := n.refuseOld(at); err != nil {
		return err
	}
	if r := n.fsm.View().KeyRotation(); r != nil && !slices.Contains(at.Keys, r.Key) && n.port != nil && !n.members.Has(at.Server) {
		return fmt.Errorf("%w: %s enrolled with a cluster key that is being changed; let it enrol again", ErrUnreachable, spec.ID)
	}
	for _, s := range servers {
		switch {
		case s.ID == id:
			if err := n.refuseCopy(ctx, s, at); err != nil {
				return err
			}
		case member.NodeOf(s.ID) == spec.ID && !spec.Replace && !n.members.Has(at.Server):
			return fmt.Errorf("%w: %s", ErrKnownMember, spec.ID)
		}
	}
	// Raft wants addresses to be different. Whoever had this one, an earlier
	// incarnation or a member that has moved, too, does not answer there any more.
	if holder >= 0 {
		if err := n.addNonvoter(ctx, servers[holder].ID, nowhere(servers[holder].ID)); err != nil {
			return err
		}
	}
	if err := n.addNonvoter(ctx, id, addr); err != nil {
		return err
	}
	n.config.Logger.Info("member added", "member", spec.ID, "server", id, "address", spec.InternalAddr, "url", spec.HTTPURL, "version", spec.Version, "replaces", spec.Replace)
	return nil
}

// addNonvoter adds a server, or changes the address of one that is a member.
func (n *Node) addNonvoter(ctx context.Context, id raft.ServerID, addr raft.ServerAddress) error {
	if err := n.life.Await(ctx, n.raft.AddNonvoter(id, addr, 0, changeTimeout)); err != nil {
		return fmt.Errorf("add member: %w", err)
	}
	return nil
}

// refuseCopy refuses a new address for a server that still answers at its old
// one: its data directory was copied, and two would vote as one.
func (n *Node) refuseCopy(ctx context.Context, s raft.Server, at NodeStatus) error {
	old, err := n.statusOf(ctx, string(s.Address))
	if err == nil && old.Server == at.Server && old.Process != at.Process {
		return fmt.Errorf("%w: %s answers at %s", ErrTwice, member.NodeOf(s.ID), s.Address)
	}
	return nil
}

// removeOnLeader removes all incarnations of a node, or the one that is named.
func (n *Node) removeOnLeader(ctx context.Context, r removeMemberRequest) error {
	found := false
	for _, s := range slices.Backward(n.members.All()) {
		if member.NodeOf(s.ID) != r.ID || (r.Server != "" && string(s.ID) != r.Server) {
			continue
		}
		found = true
		if err := n.removeServer(ctx, s.ID); err != nil {
			return err
		}
	}
	if !found && !n.configurationCommitted() {
		return errUnderWay
	}
	if !found {
		return fmt.Errorf("%w: %s", ErrUnknownMember, r.ID)
	}
	return nil
}

// errUnderWay: the removal is in the log, and may yet be taken back.
var errUnderWay = errors.New("cluster: a change of the membership is not committed yet")

func (n *Node) removeServer(ctx context.Context, id raft.ServerID) error {
	servers := n.members.All()
	if !removalKeepsQuorum(servers, string(id), n.reports(ctx, servers)) {
		return ErrQuorum
	}
	if string(id) == n.self {
		if err := n.TransferLeadership(ctx); err != nil {
			return err
		}
		return wire.ErrNotLeader // the caller finds the new leader
	}
	if err := n.life.Await(ctx, n.raft.RemoveServer(id, 0, changeTimeout)); err != nil {
		return fmt.Errorf("remove member: %w", err)
	}
	n.config.Logger.Info("member removed", "member", member.NodeOf(id), "server", id)
	return nil
}

// reports asks members for their status, and returns it by server; those that do
// not answer are left out.
func (n *Node) reports(ctx context.Context, servers []raft.Server) map[string]NodeStatus {
	answers := make([]NodeStatus, len(servers))
	var asking sync.WaitGroup
	for i, s := range servers {
		asking.Go(func() {
			if r, err := n.statusOf(ctx, string(s.ID)); err == nil {
				answers[i] = r
			}
		})
	}
	asking.Wait()
	reports := make(map[string]NodeStatus, len(servers))
	for _, r := range answers {
		if r.Server != "" {
			reports[r.Server] = r
		}
	}
	return reports
}

// removalKeepsQuorum reports whether, without a server, a majority of the voters
// would be alive, judged by who has reported. Whoever is no voter can always go.
func removalKeepsQuorum(servers []raft.Server, id string, reports map[string]NodeStatus) bool {
	voters, live := 0, 0
	for _, s := range servers {
		switch {
		case string(s.ID) == id:
			if s.Suffrage != raft.Voter {
				return true
			}
		case s.Suffrage == raft.Voter:
			voters++
			if _, alive := reports[string(s.ID)]; alive {
				live++
			}
		}
	}
	return live > voters/2
}
