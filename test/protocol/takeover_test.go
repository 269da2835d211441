package protocol

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Takeover (cluster/internal/takeover) has a follower stand at once when the
// leader's process is gone, past raft's pre-vote and its loyalty to a leader.
// In the model any node stands whenever it likes: so a node that is mistaken
// about the leader's death does no harm, as long as votes are given as raft
// gives them.
func TestTakeoverIsSafeWheneverANodeStands(t *testing.T) {
	states, err := Explore(Model[raft]{Next: raft.steps, Wrong: raft.wrong})
	require.NoError(t, err)
	t.Logf("%d states", states)
}

// What a node gives its vote for is what takeover rests upon: without the rule
// about logs, one that stands out of turn loses what was acknowledged.
func TestTakeoverNeedsTheRuleAboutLogs(t *testing.T) {
	_, err := Explore(Model[raft]{
		Next: func(r raft, step func(string, raft)) {
			r.steps(step)
			for i := range nodes {
				for j := range nodes {
					if next, ok := careless(r, i, j); ok && i != j {
						step(fmt.Sprintf("%d votes for %d, whatever its log", j, i), next)
					}
				}
			}
		},
		Wrong: raft.wrong,
	})
	require.ErrorContains(t, err, "committed another entry")
}

func careless(r raft, candidate, voter int) (raft, bool) {
	log, length := r.nodes[voter].log, r.nodes[voter].length
	r.nodes[voter].length = 0
	next, ok := r.vote(candidate, voter)
	next.nodes[voter].log, next.nodes[voter].length = log, length
	return next, ok
}

// Of the nodes that remain when a leader is gone, the first in line can win: no
// log ends in a later term, and of those that end in its term none is longer.
func TestFirstInLineCanWin(t *testing.T) {
	states, err := Explore(Model[raft]{Next: raft.steps, Wrong: func(r raft) string {
		for dead := range nodes {
			first := -1
			for i := range nodes {
				if i == dead {
					continue
				}
				if first < 0 || r.nodes[i].newerThan(r.nodes[first]) {
					first = i
				}
			}
			if !canWin(r, first, dead) {
				return fmt.Sprintf("%d is gone, and %d cannot win", dead, first)
			}
		}
		return ""
	}})
	require.NoError(t, err)
	t.Logf("%d states", states)
}

// canWin has a node stand again and again while another one is gone.
func canWin(r raft, candidate, dead int) bool {
	for range maxTerm + 1 {
		c := &r.nodes[candidate]
		c.enter(c.term + 1)
		c.voted, c.votes = int8(candidate+1), 1<<candidate
		for i := range nodes {
			if i == dead || i == candidate {
				continue
			}
			c.enter(r.nodes[i].term) // it is refused, and told the newer term
			if next, ok := r.vote(candidate, i); ok {
				return next.nodes[candidate].leads
			}
		}
	}
	return false
}
