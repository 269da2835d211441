package cluster

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

// flip alters a bit of the test list's first item in one node's memory.
func flip(t *testing.T, n *Node) {
	t.Helper()
	view := n.FSM().View()
	list, ok := view.ObjectBySID(testList)
	require.True(t, ok)
	view.Items(list, fsm.Range{Limit: 1})[0].Data[0] ^= 1
}

// change writes over the test list's first item: stores look at what was there.
func change(m *members, n *Node) {
	m.must(n, &fsm.WriteItem{Kind: objects.KindList, Object: fsm.Ref{SID: testList}, Mode: fsm.UpdateItem, Data: []byte(`{"b":1}`)})
}

// settled waits until all nodes have applied what one has.
func (m *members) settled() {
	index := m.leader().FSM().View().Digest().Index
	for _, n := range m.nodes {
		_, err := n.FSM().Wait(m.context(), index)
		require.NoError(m.t, err)
	}
}

func fault(n *Node) error {
	_, err := n.Fault()
	return err
}

// A bit that flips in the memory of one node of three is found when its record is
// touched: that node, a leader even, serves and leads no more, says so, and its
// next start asks for a new copy. The others go on.
func TestNodeWithDifferingStateStopsServing(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	sick := m.leader()
	m.must(sick, appendItem())
	m.settled()
	for _, n := range m.nodes {
		require.NoError(t, fault(n))
	}
	flip(t, sick)
	change(m, sick)

	m.eventually(func() bool { return fault(sick) != nil })
	require.ErrorIs(t, fault(sick), ErrDiffers)
	require.ErrorIs(t, sick.Health(), ErrDiffers)
	_, err := sick.Propose(t.Context(), command(appendItem()))
	require.ErrorIs(t, err, ErrDiffers)
	_, err = sick.Read(t.Context(), objects.Bucket{})
	require.ErrorIs(t, err, ErrDiffers)

	m.eventually(func() bool {
		for _, n := range m.nodes {
			if n != sick && n.IsLeader() {
				return true
			}
		}
		return false
	})
	for _, n := range m.nodes {
		if n != sick {
			m.must(n, appendItem())
			require.NoError(t, fault(n))
			require.NoError(t, n.Health())
		}
	}
	// It keeps the log, still: of what it acknowledges nothing is lost.
	index := m.nodes["n2"].FSM().View().Digest().Index
	m.eventually(func() bool { return sick.FSM().View().Digest().Index >= index })
	for _, s := range m.nodes["n2"].Status(m.context()).Nodes {
		require.Equal(t, s.ID == sick.ID(), s.Problem != "", "%s: %s", s.ID, s.Problem)
	}

	m.crash(sick)
	_, err = Open(t.Context(), m.config(sick.ID()))
	require.ErrorIs(t, err, ErrDiffers)
	require.NoError(t, PutAside(m.config(sick.ID()).DataDir))
	delete(m.nodes, sick.ID())
	again := m.open(sick.ID())
	require.NoError(t, m.leader().AddMember(m.context(), MemberSpec{ID: again.ID(), InternalAddr: again.InternalAddr(), Replace: true}))
	m.ready(again)
	require.NoError(t, fault(again))
}

// Two nodes that differ have no majority: neither guesses, and both serve nothing,
// until one of them is taken out.
func TestTwoDifferingNodesBothStopServing(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2, nil)
	sick, healthy := m.nodes["n2"], m.nodes["n1"]
	m.must(healthy, appendItem())
	m.settled()
	flip(t, sick)
	change(m, healthy)
	m.eventually(func() bool { return fault(sick) != nil && fault(healthy) != nil })
	require.ErrorIs(t, fault(sick), ErrDisputed)
	require.ErrorIs(t, fault(healthy), ErrDisputed)

	v := healthy.Verify(m.context())
	require.False(t, v.Equal)
	require.NotEqual(t, v.Nodes[0].Digest, v.Nodes[1].Digest)

	m.crash(sick)
	m.open("n2") // what it reads from its disk is right
	m.eventually(func() bool { return fault(healthy) == nil && fault(m.nodes["n2"]) == nil })
	m.must(healthy, appendItem())
}

// Verify finds what nobody has touched since.
func TestVerifyFindsFlippedBit(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	m.must(m.leader(), appendItem())
	v := m.nodes["n1"].Verify(m.context())
	require.True(t, v.Equal, "%+v", v)
	require.Len(t, v.Nodes, 3)
	for _, r := range v.Nodes {
		require.Equal(t, v.Index, r.Digest.Index)
		require.Equal(t, v.Nodes[0].Digest, r.Digest)
	}
	m.settled()
	flip(t, m.nodes["n3"])
	v = m.nodes["n1"].Verify(m.context())
	require.False(t, v.Equal)
	for _, r := range v.Nodes {
		require.Equal(t, r.ID == "n3", r.Problem != "", "%s: %s", r.ID, r.Problem)
	}
	require.ErrorIs(t, fault(m.nodes["n3"]), ErrAltered)
	require.Error(t, m.nodes["n3"].Snapshot(m.context()), "nor is it written to a disk")
	for _, n := range m.nodes {
		require.Zero(t, wrongSums(n), "the others' sums match: it was its memory")
	}
}

// wrongSums is how many recounts by all found a node's sum wrong.
func wrongSums(n *Node) int { return n.FSM().View().Recounts().Wrong }

// sums waits until all nodes' sums match, after so many recounts by all.
func (m *members) sums(corrections int, nodes ...*Node) {
	m.t.Helper()
	m.eventually(func() bool {
		for _, n := range nodes {
			if wrongSums(n) < corrections || n.FSM().View().Drift() != 0 || fault(n) != nil {
				return false
			}
		}
		return true
	})
	for _, n := range nodes {
		require.Equal(m.t, corrections, wrongSums(n))
	}
}

// A record that all nodes changed without the sum that they keep of it is no reason
// to stop: they hear from each other that it is the sum that is wrong, make it
// anew, go on, and can be snapshotted and start again. Clients do not notice.
func TestSumThatIsWrongOnAllNodesIsMadeAnew(t *testing.T) {
	m := newMembers(t, 3, nil)
	m.must(m.leader(), appendItem())
	m.settled()
	var nodes []*Node
	for _, n := range m.nodes {
		flip(t, n)
		nodes = append(nodes, n)
	}
	first := m.followers()[0]
	require.Error(t, first.Snapshot(m.context()), "that is how it is noticed")
	for wrongSums(first) == 0 {
		m.must(first, appendItem())
		require.Equal(t, m.items(first), m.items(m.leader()))
	}
	m.sums(1, nodes...)

	for i, n := range nodes {
		require.NoError(t, n.Snapshot(m.context()))
		if i == 0 {
			m.crash(n)
			m.ready(m.open(n.ID()))
		}
		m.must(m.nodes[n.ID()], appendItem())
	}
	v := m.leader().Verify(m.context())
	require.True(t, v.Equal, "%+v", v)
}

// One node has more changed than the others: all make their sums anew, and it is
// known by what it has.
func TestWrongSumsHideNoAlteredMemory(t *testing.T) {
	m := newMembers(t, 3, nil)
	m.must(m.leader(), appendItem())
	m.settled()
	for _, n := range m.nodes {
		flip(t, n)
	}
	sick := m.followers()[0]
	list, _ := sick.FSM().View().ObjectBySID(testList)
	sick.FSM().View().Items(list, fsm.Range{Limit: 1})[0].Revision++
	m.leader().Verify(m.context())
	var others []*Node
	for _, n := range m.nodes {
		if n != sick {
			others = append(others, n)
		}
	}
	m.sums(1, others...)
	m.eventually(func() bool { return errors.Is(fault(sick), ErrDiffers) })
	m.must(others[0], appendItem())
}

// Of two nodes, the one whose memory was altered is told by the other one's sum.
func TestOneOfTwoIsAltered(t *testing.T) {
	m := newMembers(t, 2, nil)
	m.must(m.leader(), appendItem())
	m.settled()
	sick := m.leader()
	flip(t, sick)
	sick.Verify(m.context())
	require.ErrorIs(t, fault(sick), ErrAltered)
	m.eventually(func() bool { return m.leader() != sick })
	m.must(m.leader(), appendItem())
	require.NoError(t, fault(m.leader()))
}

// Who hears from nobody serves nothing, and guesses nothing.
func TestWrongSumWaitsForOthers(t *testing.T) {
	m := newMembers(t, 3, nil)
	m.must(m.leader(), appendItem())
	m.settled()
	rest, sick := m.followers(), m.leader()
	for _, n := range rest {
		m.crash(n)
	}
	flip(t, sick)
	sick.replica.Suspect()
	m.eventually(func() bool { return errors.Is(fault(sick), ErrUnsure) })
	_, err := sick.Read(t.Context(), objects.Bucket{})
	require.ErrorIs(t, err, ErrUnsure)
	for _, n := range rest {
		m.open(n.ID())
	}
	m.eventually(func() bool { return errors.Is(fault(sick), ErrAltered) })
	m.must(m.nodes[rest[0].ID()], appendItem())
}

// A node on its own whose sum does not match is started again. If it was its
// memory, what it reads from its disk is right; else it comes to the same again,
// and knows by that that it is the sum.
func TestNodeAloneLearnsFromItsDiskWhatItsSumIsWorth(t *testing.T) {
	m := newMembers(t, 1, nil)
	alone := m.nodes["n1"]
	m.must(alone, appendItem())
	flip(t, alone)
	v := alone.Verify(m.context())
	require.Contains(t, v.Nodes[0].Problem, "altered")
	require.ErrorIs(t, fault(alone), ErrAltered)
	drift := alone.FSM().View().Drift()
	kept, err := alone.keptDrift()
	require.NoError(t, err)
	require.Equal(t, drift, kept)

	m.crash(alone)
	alone = m.open("n1")
	m.eventually(func() bool { return fault(alone) == nil })
	require.Zero(t, wrongSums(alone), "it was its memory")
	m.must(alone, appendItem())
	kept, err = alone.keptDrift()
	require.NoError(t, err)
	require.Zero(t, kept)
}
