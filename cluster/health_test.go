package cluster

import (
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// stalling is a log whose reads wait while it is told to: nothing is applied then.
type stalling struct {
	raft.LogStore
	gate sync.RWMutex
}

// GetLog implements raft.LogStore.
func (s *stalling) GetLog(index uint64, l *raft.Log) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	return s.LogStore.GetLog(index, l)
}

// A follower that hears the leader's heartbeats and does not advance says so: to
// who asks whether it is ready, in the cluster's status, and by the age of what it
// has. It is well again when it has caught up.
func TestLaggingFollowerReportsUnhealthy(t *testing.T) {
	t.Parallel()
	var slow stalling
	m := newMembers(t, 3, func(c *Config) {
		if c.ID == "n3" {
			c.wrapLogs = func(l raft.LogStore) raft.LogStore {
				slow.LogStore = l
				return &slow
			}
		}
	})
	leader, lagging := m.leader(), m.nodes["n3"]
	require.NotEqual(t, leader, lagging, "the first node leads")
	problem := func() string {
		for _, s := range leader.Status(m.context()).Nodes {
			if s.ID == "n3" {
				return s.Problem
			}
		}
		return "not there"
	}
	m.eventually(func() bool { return lagging.Health() == nil && problem() == "" })

	slow.gate.Lock()
	m.must(leader, appendItem())
	behind := lagging.FSM().View().Index()
	m.eventually(func() bool { return lagging.Health() != nil })
	require.ErrorContains(t, lagging.Health(), "does not keep up")
	require.Greater(t, lagging.Age(), lagsAfter)
	m.eventually(func() bool { return problem() != "" })
	require.Contains(t, problem(), "does not keep up")
	state, _ := lagging.leadership.State()
	require.Equal(t, leader.self, state.Leader, "it hears its leader all the time")
	require.Equal(t, behind, lagging.FSM().View().Index())
	require.Less(t, leader.Age(), lagsAfter)

	slow.gate.Unlock()
	m.eventually(func() bool { return lagging.Health() == nil && problem() == "" })
	require.Less(t, lagging.Age(), lagsAfter)
	require.Equal(t, 1, m.items(lagging))
}
