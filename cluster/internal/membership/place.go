package membership

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/wire"
)

// interval is how often a node looks after its own place; scaled.
const interval = time.Second

// Answer is what a member says to a server that asks whether it is one.
type Answer struct {
	Leads  bool   `cbor:"1,keyasint,omitempty"` // the answer is a leader's, whose term has started
	Term   uint64 `cbor:"2,keyasint"`
	Member bool   `cbor:"3,keyasint,omitempty"`
}

// Place is this node's own place in the cluster. Every field is required.
type Place struct {
	Config
	Changes *Changes
	Spec    Spec            // of this node; its address is looked up
	Joining bool            // nobody may have committed yet that it is a member
	Mark    func() error    // makes the data directory that of a node that has left
	Fail    func(err error) // ends the node

	removed chan struct{}
	once    sync.Once
}

// Init makes the place ready for use, and returns it.
func (p *Place) Init() *Place {
	p.removed = make(chan struct{})
	return p
}

// Removed is closed when the node learns that it is no longer a member.
func (p *Place) Removed() <-chan struct{} { return p.removed }

// removalAnswers is how often in a row a leader must have said that this node
// is no member before the node believes it.
const removalAnswers = 3

// announceTimeout bounds telling the cluster a new address; scaled.
const announceTimeout = 5 * time.Second

// Leave takes this node out of the cluster: leadership is handed over, the
// leader removes the node, and the data directory is marked so that Open
// refuses it from then on. The caller closes the node after that. When it
// fails, the node may have been removed all the same; another call finds that
// out.
func (p *Place) Leave(ctx context.Context) error {
	ctx, cancel := lifetime.Bounded(ctx)
	defer cancel()
	for {
		err := p.Changes.Remove(ctx, p.Spec.ID, p.Self)
		switch {
		case err == nil, errors.Is(err, wire.ErrUnknownMember):
			return p.becomeRemoved()
		case !errors.Is(err, wire.ErrNotMember):
			return fmt.Errorf("leave: %w", err)
		}
		// The leader's configuration lacks this node, but may not be committed yet,
		// or ever.
		if _, others := p.ownEntry(); p.askMembership(others) == answerDenied {
			return p.becomeRemoved()
		}
		lifetime.Pause(ctx, p.Scale(interval))
		if ctx.Err() != nil {
			return fmt.Errorf("leave: %w: %w", err, ctx.Err())
		}
	}
}

// becomeRemoved makes removal final for this data directory.
func (p *Place) becomeRemoved() error {
	if err := p.Mark(); err != nil {
		return err
	}
	p.once.Do(func() { close(p.removed) })
	return nil
}

// HasLeft reports whether this node is no longer a member, for good.
func (p *Place) HasLeft() bool {
	select {
	case <-p.removed:
		return true
	default:
		return false
	}
}

// Answer answers a server that asks whether it is a member. Only a leader whose
// term has started can tell, and only while its configuration is committed: a
// removal that is not committed may never be.
func (p *Place) Answer(_ context.Context, from string, _ wire.None) (Answer, error) {
	t := p.Leadership.Leading()
	known := p.Servers.Has(from) // looked up before it is known to be committed
	committed := p.Committed()
	return Answer{
		Leads:  t != nil && committed && p.Leadership.Leads(t.Number),
		Term:   p.Raft.CurrentTerm(),
		Member: known,
	}, nil
}

// Watch looks after this node's own place in the cluster. A node that was
// removed while it was away never gets the log entry that says so, and the
// leader does not find one that came back under another address. While such a
// node hears from no leader it asks the members that it knows. While it joins it
// asks until one says that it is a member: the change that it has heard of may have
// been given up with the leader that began it.
func (p *Place) Watch() {
	denied, joining := 0, p.Joining
	for {
		lifetime.Pause(p.Life.Context(), p.Scale(interval))
		if p.Life.Context().Err() != nil || p.HasLeft() {
			return
		}
		self, others := p.ownEntry()
		if self == nil && len(others) == 0 {
			continue // not added yet
		}
		if joining {
			joining = p.askMembership(others) != answerMember
			continue
		}
		moved := self != nil && string(self.Address) != p.Peers.Addr()
		if state, _ := p.Leadership.State(); state.Leader != "" && self != nil && !moved {
			denied = 0
			continue
		}
		if moved {
			p.announceAddress(others)
		}
		switch p.askMembership(others) {
		case answerMember:
			denied = 0
		case answerDenied:
			denied++
		}
		if denied >= removalAnswers || (denied > 0 && self == nil) {
			p.removedByOthers()
			return
		}
	}
}

func (p *Place) removedByOthers() {
	p.Logger.Warn("this node was removed from the cluster")
	if err := p.becomeRemoved(); err != nil {
		p.Logger.Error("data directory not marked as left", "error", err)
	}
}

// ownEntry splits the configuration into this node and the others.
func (p *Place) ownEntry() (self *raft.Server, others []raft.Server) {
	for _, s := range p.Servers.All() {
		if string(s.ID) == p.Self {
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

// askMembership asks this node, which may lead, and the members that it knows, until a
// leader of a term no older than its own answers.
func (p *Place) askMembership(others []raft.Server) membershipVerdict {
	if a, _ := p.Answer(p.Life.Context(), p.Self, wire.None{}); a.Leads && a.Member {
		return answerMember
	}
	for _, s := range others {
		ctx, cancel := context.WithTimeout(p.Life.Context(), p.Scale(status.Timeout))
		a, err := wire.Ask[Answer](ctx, p.Peers, string(s.ID), wire.Membership, wire.None{})
		cancel()
		if err != nil || !a.Leads || a.Term < p.Raft.CurrentTerm() {
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
func (p *Place) announceAddress(others []raft.Server) {
	spec := p.Spec
	spec.InternalAddr = p.Peers.Addr()
	ctx, cancel := context.WithTimeout(p.Life.Context(), p.Scale(announceTimeout))
	defer cancel()
	err := wire.ErrNoLeader
	if state, _ := p.Leadership.State(); state.Leader != "" || len(others) == 0 {
		err = p.Changes.Add(ctx, spec)
	} else {
		for _, s := range others {
			if _, err = wire.Ask[wire.None](ctx, p.Peers, string(s.ID), wire.AddMember, AddRequest{Spec: spec}); err == nil || errors.Is(err, wire.ErrTwice) {
				break
			}
		}
	}
	if errors.Is(err, wire.ErrTwice) {
		p.Fail(err)
		return
	}
	if err != nil {
		p.Logger.Warn("new address not announced", "address", spec.InternalAddr, "error", err)
		return
	}
	p.Logger.Info("new address announced", "address", spec.InternalAddr)
}
