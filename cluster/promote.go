package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// promoteInterval is how often the leader asks nonvoters how far they are.
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
func nextPromotion(servers []raft.Server, reports map[string]NodeStatus, term, commit uint64, seen progress) (string, progress) {
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

// promote makes voters of nonvoters that have caught up, as long as the term
// lasts. A node becomes a voter only then, since a voter that cannot vote yet
// raises the quorum and gives nothing for it.
func (n *Node) promote(t *term) {
	seen := make(progress)
	for {
		n.pause(t.ctx, promoteInterval)
		if t.ctx.Err() != nil {
			return
		}
		future := n.raft.GetConfiguration()
		servers := future.Configuration().Servers
		nonvoters := slices.DeleteFunc(slices.Clone(servers), func(s raft.Server) bool { return s.Suffrage == raft.Voter })
		if len(nonvoters) == 0 {
			clear(seen)
			continue
		}
		commit := n.raft.CommitIndex()
		var chosen string
		chosen, seen = nextPromotion(servers, n.reports(t.ctx, nonvoters), t.number, commit, seen)
		if chosen == "" {
			continue
		}
		i := slices.IndexFunc(nonvoters, func(s raft.Server) bool { return string(s.ID) == chosen })
		s := nonvoters[i]
		if err := n.wait(t.ctx, n.raft.AddVoter(s.ID, s.Address, future.Index(), changeTimeout)); err != nil {
			n.config.Logger.Warn("member not promoted", "member", chosen, "error", err)
			continue
		}
		n.config.Logger.Info("member promoted to voter", "member", chosen)
	}
}

// reports asks members for their status; those that do not answer are left out.
func (n *Node) reports(ctx context.Context, servers []raft.Server) map[string]NodeStatus {
	out := make(map[string]NodeStatus, len(servers))
	for _, s := range servers {
		if r, err := n.statusOf(ctx, string(s.ID), string(s.Address)); err == nil {
			out[r.ID] = r
		}
	}
	return out
}
