// Package membership adds nodes to the cluster and removes them, and looks
// after this node's own place in it.
package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

const (
	// changeTimeout bounds the wait for raft to take a configuration change up.
	changeTimeout = 10 * time.Second
	// changePause is the pause before a change is decided anew.
	changePause = 50 * time.Millisecond
)

// Spec describes a node to be added.
type Spec struct {
	ID           string `cbor:"1,keyasint"`
	InternalAddr string `cbor:"2,keyasint"`
	HTTPURL      string `cbor:"3,keyasint,omitempty"`
	Version      string `cbor:"4,keyasint,omitempty"`

	// Replace lets the node take the place of a member with the same id, whose
	// data directory is lost or given up. That member stays, and keeps its vote,
	// until the new one has caught up and votes.
	Replace bool `cbor:"5,keyasint,omitempty"`
}

type (
	// AddRequest and RemoveRequest ask the leader, through any member.
	AddRequest struct {
		Spec      Spec `cbor:"1,keyasint"`
		Forwarded bool `cbor:"2,keyasint,omitempty"`
	}
	RemoveRequest struct {
		ID        string `cbor:"1,keyasint"` // of the node
		Forwarded bool   `cbor:"2,keyasint,omitempty"`
		Server    string `cbor:"3,keyasint,omitempty"` // only this incarnation of it
	}
)

// Config is what the parts of this package need. Every field is required.
type Config struct {
	Self       string // this server
	Leadership *leadership.Leadership
	Raft       *raft.Raft
	Store      *fsm.FSM
	Servers    *member.Configuration
	Survey     *status.Survey
	Peers      wire.Peers
	Life       *lifetime.Lifetime
	Logger     *slog.Logger

	// Configured returns the index of the newest configuration in the log.
	Configured func() uint64

	// Scale multiplies time-outs and pauses.
	Scale func(time.Duration) time.Duration
}

// Committed reports whether the newest configuration in the log is committed, and
// so can not be taken back.
func (c *Config) Committed() bool { return c.Configured() <= c.Raft.CommitIndex() }

// Changes makes changes of the membership, on the leader.
type Changes struct {
	Config
	Transfers *Transfers

	// Refuse returns why a node that is to be added cannot be.
	Refuse func(at status.Node) error

	// KeysMatter says that a node that is added must have the cluster's newest
	// key. Simulations have none.
	KeysMatter bool

	slot chan struct{} // taken while the membership is being changed
}

// NewChanges returns the changes of a node.
func NewChanges(c Changes) *Changes {
	c.slot = make(chan struct{}, 1)
	return &c
}

// AnswerAdd answers AddRequest.
func (c *Changes) AnswerAdd(ctx context.Context, _ string, r AddRequest) (wire.None, error) {
	return wire.None{}, c.add(ctx, r)
}

// AnswerRemove answers RemoveRequest.
func (c *Changes) AnswerRemove(ctx context.Context, _ string, r RemoveRequest) (wire.None, error) {
	return wire.None{}, c.remove(ctx, r)
}

// Add adds a node, which must be running and answer at its address, as a
// nonvoter; called for a member, it changes the member's address. A node with the
// id of a member but another log is refused with wire.ErrKnownMember unless it is to
// replace that member, and a second process of a member with wire.ErrTwice. It may be
// called on any node and returns when the change is committed; without a
// deadline in ctx it gives up after 30 seconds. The leader makes the node a voter
// when it has caught up.
func (c *Changes) Add(ctx context.Context, spec Spec) error {
	return c.add(ctx, AddRequest{Spec: spec})
}

func (c *Changes) add(ctx context.Context, r AddRequest) error {
	return c.onLeader(ctx, r.Forwarded,
		func() error { return c.addOnLeader(ctx, r.Spec) },
		func(leader string) error {
			r.Forwarded = true
			_, err := wire.Ask[wire.None](ctx, c.Peers, leader, wire.AddMember, r)
			return err
		})
}

// Remove takes a node out of the cluster, or only the incarnation of it that is
// named. It may be called on any node and returns when the change is committed. A
// leader that is to be removed hands leadership over first. It refuses, with
// wire.ErrQuorum, when fewer live voters than a majority would remain.
func (c *Changes) Remove(ctx context.Context, id, server string) error {
	return c.remove(ctx, RemoveRequest{ID: id, Server: server})
}

func (c *Changes) remove(ctx context.Context, r RemoveRequest) error {
	return c.onLeader(ctx, r.Forwarded,
		func() error { return c.removeOnLeader(ctx, r) },
		func(leader string) error {
			r.Forwarded = true
			_, err := wire.Ask[wire.None](ctx, c.Peers, leader, wire.RemoveMember, r)
			return err
		})
}

// onLeader runs a change of the membership where the leader is: here, or by a
// request to it, once. Such changes have the same effect however often they are
// made, so they are tried again while there is no leader or it changes.
func (c *Changes) onLeader(ctx context.Context, forwarded bool, here func() error, there func(leader string) error) error {
	ctx, cancel := lifetime.Bounded(ctx)
	defer cancel()
	for {
		state, changed := c.Leadership.State()
		var err error
		switch {
		case state.Leader == "":
			err = wire.ErrNoLeader
		case state.Leader == c.Self:
			err = c.Exclusively(ctx, here)
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
		case <-c.Life.Context().Done():
			err = wire.ErrClosed
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", err, ctx.Err())
		}
		pause.Stop()
		if ctx.Err() != nil || c.Life.Context().Err() != nil {
			return err
		}
	}
}

// Exclusively runs one change of the membership at a time. What a change was
// decided on then still holds when raft takes it up: raft accepts it only while
// this node leads, and a leader's configuration changes only through here.
func (c *Changes) Exclusively(ctx context.Context, change func() error) error {
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
		return change()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// worthRetrying reports whether a change of leader or of configuration may mend
// an error.
func worthRetrying(err error) bool {
	for _, final := range []error{wire.ErrUnknownMember, wire.ErrAddressTaken, wire.ErrUnreachable, wire.ErrQuorum, wire.ErrNotMember, wire.ErrClosed, wire.ErrKnownMember, wire.ErrTwice, wire.ErrOldRelease, wire.ErrBadRequest} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

func (c *Changes) addOnLeader(ctx context.Context, spec Spec) error {
	at, err := c.Survey.Of(ctx, spec.InternalAddr)
	if err == nil && at.ID != spec.ID {
		err = fmt.Errorf("%s answers as %q", spec.InternalAddr, at.ID)
	}
	id, addr := raft.ServerID(at.Server), raft.ServerAddress(spec.InternalAddr)
	servers := c.Servers.All()
	holder := slices.IndexFunc(servers, func(s raft.Server) bool { return s.Address == addr })
	switch {
	case err != nil && holder >= 0 && member.NodeOf(servers[holder].ID) != spec.ID:
		return fmt.Errorf("%w: %s is %s", wire.ErrAddressTaken, spec.InternalAddr, member.NodeOf(servers[holder].ID))
	case err != nil:
		return fmt.Errorf("%w: %w", wire.ErrUnreachable, err)
	case holder >= 0 && servers[holder].ID == id:
		return nil
	}
	if err := c.Refuse(at); err != nil {
		return err
	}
	if r := c.Store.View().KeyRotation(); r != nil && !slices.Contains(at.Keys, r.Key) && c.KeysMatter && !c.Servers.Has(at.Server) {
		return fmt.Errorf("%w: %s enrolled with a cluster key that is being changed; let it enrol again", wire.ErrUnreachable, spec.ID)
	}
	for _, s := range servers {
		switch {
		case s.ID == id:
			if err := c.refuseCopy(ctx, s, at); err != nil {
				return err
			}
		case member.NodeOf(s.ID) != spec.ID || c.Servers.Has(at.Server):
		case !spec.Replace:
			return fmt.Errorf("%w: %s", wire.ErrKnownMember, spec.ID)
		case at.Nonvoter && s.Suffrage == raft.Voter:
			return fmt.Errorf("%w: %s votes, and its place cannot be taken by a node that wants no vote; remove it first", wire.ErrKnownMember, spec.ID)
		}
	}
	// Raft wants distinct addresses. The one that had this address, an earlier
	// incarnation or a member that has moved, too, does not answer there any more.
	if holder >= 0 {
		if err := c.addNonvoter(ctx, servers[holder].ID, Nowhere(servers[holder].ID)); err != nil {
			return err
		}
	}
	if err := c.addNonvoter(ctx, id, addr); err != nil {
		return err
	}
	c.Logger.Info("member added", "member", spec.ID, "server", id, "address", spec.InternalAddr, "url", spec.HTTPURL, "version", spec.Version, "replaces", spec.Replace)
	return nil
}

// addNonvoter adds a server, or changes the address of one that is a member.
func (c *Changes) addNonvoter(ctx context.Context, id raft.ServerID, addr raft.ServerAddress) error {
	if err := c.Life.Await(ctx, c.Raft.AddNonvoter(id, addr, 0, changeTimeout)); err != nil {
		return fmt.Errorf("add member: %w", err)
	}
	return nil
}

// refuseCopy refuses a new address for a server that still answers at its old
// one: its data directory was copied, and two would vote as one.
func (c *Changes) refuseCopy(ctx context.Context, s raft.Server, at status.Node) error {
	old, err := c.Survey.Of(ctx, string(s.Address))
	if err == nil && old.Server == at.Server && old.Process != at.Process {
		return fmt.Errorf("%w: %s answers at %s", wire.ErrTwice, member.NodeOf(s.ID), s.Address)
	}
	return nil
}

// removeOnLeader removes all incarnations of a node, or the one that is named.
func (c *Changes) removeOnLeader(ctx context.Context, r RemoveRequest) error {
	found := false
	for _, s := range slices.Backward(c.Servers.All()) {
		if member.NodeOf(s.ID) != r.ID || (r.Server != "" && string(s.ID) != r.Server) {
			continue
		}
		found = true
		if err := c.removeServer(ctx, s.ID); err != nil {
			return err
		}
	}
	if !found && !c.Committed() {
		return errUnderWay
	}
	if !found {
		return fmt.Errorf("%w: %s", wire.ErrUnknownMember, r.ID)
	}
	return nil
}

// errUnderWay says that the removal is in the log, and may yet be taken back.
var errUnderWay = errors.New("cluster: a change of the membership is not committed yet")

func (c *Changes) removeServer(ctx context.Context, id raft.ServerID) error {
	servers := c.Servers.All()
	if !removalKeepsQuorum(servers, string(id), c.Survey.Reports(ctx, servers)) {
		return wire.ErrQuorum
	}
	if string(id) == c.Self {
		if err := c.Transfers.Away(ctx); err != nil {
			return err
		}
		return wire.ErrNotLeader // the caller finds the new leader
	}
	if err := c.Life.Await(ctx, c.Raft.RemoveServer(id, 0, changeTimeout)); err != nil {
		return fmt.Errorf("remove member: %w", err)
	}
	c.Logger.Info("member removed", "member", member.NodeOf(id), "server", id)
	return nil
}

// removalKeepsQuorum reports whether, without a server, a majority of the
// voters would be alive, which those that have reported are. A nonvoter can
// always go.
func removalKeepsQuorum(servers []raft.Server, id string, reports map[string]status.Node) bool {
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

// Nowhere returns the address that the configuration has for a server when
// another one has taken its address.
func Nowhere(id raft.ServerID) raft.ServerAddress { return raft.ServerAddress("nowhere/" + id) }
