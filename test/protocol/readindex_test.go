package protocol

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// read is one read that node 0 serves, by cluster/internal/readindex: it asks
// whoever it takes for the leader, in its own term; that one notes its commit index
// and asks for the terms of the others.
type read struct {
	phase  int8 // of the round
	before int8 // how much was acknowledged when it began
	term   int8 // of the asker, then
	leader int8
	index  int8
	agree  int8 // a bit for each node that has affirmed the term
}

const (
	idle = iota
	asked
	noted
	answered
)

type reading struct {
	raft raft
	read read
}

// rules are what the protocol asks for. Each can be left out, to see what it is for.
type rules struct {
	affirm  bool // a majority affirms the term
	started bool // the leader has committed an entry of its own term
}

func readIndex(rules rules) Model[reading] {
	return Model[reading]{
		Next: func(s reading, step func(string, reading)) {
			r := s.read
			if r.phase == answered {
				return
			}
			s.raft.steps(func(what string, next raft) { step(what, reading{next, r}) })
			switch r.phase {
			case idle:
				r = read{phase: asked, before: s.raft.count, term: s.raft.nodes[0].term}
				step("0 asks for an index", reading{s.raft, r})
			case asked:
				for i, l := range s.raft.nodes {
					if !l.leads || l.term != r.term || (rules.started && (l.commit == 0 || l.log[l.commit-1] != l.term)) {
						continue
					}
					r.phase, r.leader, r.index, r.agree = noted, int8(i), l.commit, 1<<i|1
					step(fmt.Sprintf("%d notes index %d", i, l.commit), reading{s.raft, r})
				}
			case noted:
				for i, n := range s.raft.nodes {
					if n.term == r.term && r.agree&(1<<i) == 0 {
						next := r
						next.agree |= 1 << i
						step(fmt.Sprintf("%d affirms term %d", i, r.term), reading{s.raft, next})
					}
				}
				l := s.raft.nodes[r.leader]
				if (!rules.affirm || bits(r.agree) >= majority) && l.leads && l.term == r.term {
					r.phase = answered
					step("the index is answered", reading{s.raft, r})
				}
			}
		},
		Wrong: func(s reading) string {
			if s.read.phase == answered && s.read.index < s.read.before {
				return fmt.Sprintf("a read has index %d, and %d was acknowledged before it began", s.read.index, s.read.before)
			}
			return s.raft.wrong()
		},
	}
}

func TestReadIndex(t *testing.T) {
	states, err := Explore(readIndex(rules{affirm: true, started: true}))
	require.NoError(t, err)
	t.Logf("%d states", states)
}

func TestReadIndexNeedsItsRules(t *testing.T) {
	_, err := Explore(readIndex(rules{started: true}))
	require.ErrorContains(t, err, "was acknowledged before it began", "a leader that nobody follows any more answers")
	_, err = Explore(readIndex(rules{affirm: true}))
	require.ErrorContains(t, err, "was acknowledged before it began", "a leader that does not know yet what was committed before it answers")
}
