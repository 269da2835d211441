package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/wire"
)

const (
	// promoteInterval is how often the leader asks nonvoters how far they have
	// come.
	promoteInterval = 250 * time.Millisecond
	// caughtUpWithin is how many entries behind the commit index counts as caught up.
	caughtUpWithin = 100
	// caughtUpTimes is how many reports in a row must say so.
	caughtUpTimes = 2
)

// progress is what the leader knows of its nonvoters: how many reports in a
// row said that they have caught up.
type progress map[string]int

// update counts what each nonvoter reported just now. One that did not report has
// to begin again.
func (p progress) update(servers []raft.Server, reports map[string]status.Node, term, commit uint64) progress {
	next := make(progress)
	for _, s := range servers {
		id := string(s.ID)
		r, reported := reports[id]
		if s.Suffrage != raft.Voter && reported && r.Term == term && r.AppliedIndex+caughtUpWithin >= commit {
			next[id] = p[id] + 1
		}
	}
	return next
}

// nextPromotion returns the nonvoter that becomes a voter next, of those that
// have caught up and that are wanted; "" if there is none.
func (p progress) nextPromotion(wanted func(id string) bool) string {
	chosen := ""
	for id, times := range p {
		if times >= caughtUpTimes && wanted(id) && (chosen == "" || id < chosen) {
			chosen = id
		}
	}
	return chosen
}

// Promote makes voters of nonvoters that have caught up and want a vote, and of
// those in reserve when a voter is silent for too long, as long as the term lasts.
// A node becomes a voter only then, since a voter that cannot vote yet raises the
// quorum for nothing.
func (c *Changes) Promote(t *leadership.Term) {
	seen, silent := make(progress), make(silence)
	for {
		lifetime.Pause(t.Context(), promoteInterval)
		if t.Context().Err() != nil {
			return
		}
		if err := c.Exclusively(t.Context(), func() (err error) {
			seen, err = c.promoteNext(t, seen, silent)
			return err
		}); err != nil {
			c.Logger.Warn("votes not changed", "error", err)
		}
	}
}

// promoteNext changes at most one server's vote.
func (c *Changes) promoteNext(t *leadership.Term, seen progress, silent silence) (progress, error) {
	servers := c.Servers.All()
	if err := c.retire(t.Context(), servers); err != nil {
		return seen, err
	}
	servers = slices.DeleteFunc(slices.Clone(servers), func(s raft.Server) bool {
		return member.Superseded(servers, s.ID, func(raft.Server) bool { return true })
	})
	if voters := countVoters(servers); voters == len(servers) && voters%2 == 1 {
		clear(silent)
		return nil, nil // nobody waits for a vote, and no reserve votes beside those it stands in for
	}
	commit := c.Raft.CommitIndex()
	reports := c.Survey.Reports(t.Context(), servers)
	silent.update(servers, reports, time.Now())
	seen = seen.update(servers, reports, t.Number, commit)
	promote := seen.nextPromotion(func(id string) bool { return !reports[id].Nonvoter })
	demote := ""
	if promote == "" {
		if demote = surplus(servers, reports, silent, time.Now()); demote == "" {
			promote = seen.nextPromotion(func(id string) bool { return silent.any(reports[id].Reserve, time.Now()) })
		}
	}
	switch {
	case promote != "":
		return seen, c.promote(t.Context(), servers, promote)
	case demote != "":
		return seen, c.demote(t.Context(), demote)
	}
	return seen, nil
}

func (c *Changes) promote(ctx context.Context, servers []raft.Server, id string) error {
	i := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == id })
	if err := c.Life.Await(ctx, c.Raft.AddVoter(servers[i].ID, servers[i].Address, 0, changeTimeout)); err != nil {
		return fmt.Errorf("promote %s: %w", id, err)
	}
	c.Logger.Info("member promoted to voter", "member", id)
	return nil
}

func (c *Changes) demote(ctx context.Context, id string) error {
	if id == c.Self {
		return c.Transfers.Away(ctx) // the next leader goes on
	}
	if err := c.Life.Await(ctx, c.Raft.DemoteVoter(raft.ServerID(id), 0, changeTimeout)); err != nil {
		return fmt.Errorf("demote %s: %w", id, err)
	}
	c.Logger.Info("member made a nonvoter: others vote in its place", "member", id)
	return nil
}

// retire removes servers whose successors vote, and those that have no vote to keep
// until then: one that is alive after all knows what was acknowledged.
func (c *Changes) retire(ctx context.Context, servers []raft.Server) error {
	for _, s := range servers {
		if !member.Superseded(servers, s.ID, func(by raft.Server) bool {
			return by.Suffrage == raft.Voter || s.Suffrage != raft.Voter
		}) {
			continue
		}
		err := c.removeServer(ctx, s.ID)
		if err == nil || errors.Is(err, wire.ErrNotLeader) { // if it was this one, the next leader goes on
			return nil
		}
		return fmt.Errorf("remove replaced %s: %w", s.ID, err)
	}
	return nil
}

func countVoters(servers []raft.Server) (n int) {
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			n++
		}
	}
	return n
}
