package protocol

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// nudge is a message of cluster/internal/nudge that is under way, perhaps for ever,
// and may arrive more than once: an AppendEntries without entries that names the
// last one that its sender has applied, and says that it is committed.
type nudge struct {
	term, prev, prevTerm int8
}

type nudging struct {
	raft raft
	sent nudge
}

// nudges has any leader nudge, once. With check, a follower that has not the entry
// refuses, as raft does.
func nudges(check bool) Model[nudging] {
	return Model[nudging]{
		Next: func(s nudging, step func(string, nudging)) {
			s.raft.steps(func(what string, next raft) { step(what, nudging{next, s.sent}) })
			for i, l := range s.raft.nodes {
				if l.leads && l.commit > 0 && s.sent == (nudge{}) {
					step(fmt.Sprintf("%d nudges up to %d in term %d", i, l.commit, l.term), nudging{s.raft, nudge{l.term, l.commit, l.log[l.commit-1]}})
				}
			}
			for i := range s.raft.nodes {
				next := s.raft
				f := &next.nodes[i]
				if s.sent.prev == 0 || s.sent.term < f.term || f.leads && f.term == s.sent.term {
					continue
				}
				f.enter(s.sent.term)
				f.votes = 0
				if check && (f.length < s.sent.prev || f.log[s.sent.prev-1] != s.sent.prevTerm) {
					step(fmt.Sprintf("%d refuses the nudge", i), nudging{next, s.sent})
					continue
				}
				f.commit = max(f.commit, min(s.sent.prev, f.length))
				step(fmt.Sprintf("%d takes the nudge", i), nudging{next, s.sent})
			}
		},
		Wrong: func(s nudging) string { return s.raft.wrong() },
	}
}

func TestNudge(t *testing.T) {
	states, err := Explore(nudges(true))
	require.NoError(t, err)
	t.Logf("%d states", states)
}

func TestNudgeNeedsTheEntryBeforeIt(t *testing.T) {
	_, err := Explore(nudges(false))
	require.ErrorContains(t, err, "committed another entry")
}
