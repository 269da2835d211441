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

// nextPromotion decides which nonvoter becomes a voter, given what each
// reported just now; "" if none does. A nonvoter that did not report has to
// begin again. At most one is promoted at a time.
func nextPromotion(servers []raft.Server, reports map[string]status.Node, term, commit uint64, seen progress) (string, progress) {
	next := make(progress)
	chosen := ""
	for _, s := range servers {
		id := string(s.ID)
		r, reported := reports[id]
		if s.Suffrage == raft.Voter || !reported || r.Term != term || r.AppliedIndex+caughtUpWithin < commit {
			continue
		}
		next[id] = seen[id] + 1
		if next[id] >= caughtUpTimes && (chosen == "" || id < chosen) {
			chosen = id
		}
	}
	return chosen, next
}

// Promote makes voters of nonvoters that have caught up, as long as the term
// lasts. A node becomes a voter only then, since a voter that cannot vote yet
// raises the quorum for nothing.
func (c *Changes) Promote(t *leadership.Term) {
	seen := make(progress)
	for {
		lifetime.Pause(t.Context(), promoteInterval)
		if t.Context().Err() != nil {
			return
		}
		if err := c.Exclusively(t.Context(), func() (err error) {
			seen, err = c.promoteNext(t, seen)
			return err
		}); err != nil {
			c.Logger.Warn("member not promoted", "error", err)
		}
	}
}

func (c *Changes) promoteNext(t *leadership.Term, seen progress) (progress, error) {
	servers := c.Servers.All()
	if err := c.retire(t.Context(), servers); err != nil {
		return seen, err
	}
	nonvoters := slices.DeleteFunc(slices.Clone(servers), func(s raft.Server) bool {
		return s.Suffrage == raft.Voter || member.Superseded(servers, s.ID, func(raft.Server) bool { return true })
	})
	if len(nonvoters) == 0 {
		return nil, nil
	}
	commit := c.Raft.CommitIndex()
	chosen, seen := nextPromotion(nonvoters, c.Survey.Reports(t.Context(), nonvoters), t.Number, commit, seen)
	i := slices.IndexFunc(nonvoters, func(s raft.Server) bool { return string(s.ID) == chosen })
	if i < 0 {
		return seen, nil
	}
	if err := c.Life.Await(t.Context(), c.Raft.AddVoter(nonvoters[i].ID, nonvoters[i].Address, 0, changeTimeout)); err != nil {
		return seen, fmt.Errorf("promote %s: %w", chosen, err)
	}
	c.Logger.Info("member promoted to voter", "member", chosen)
	return seen, nil
}

// retire removes servers whose successors vote. Until then they keep their
// vote: one that turns out to be alive knows what was acknowledged.
func (c *Changes) retire(ctx context.Context, servers []raft.Server) error {
	for _, s := range servers {
		if !member.Superseded(servers, s.ID, func(by raft.Server) bool { return by.Suffrage == raft.Voter }) {
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
