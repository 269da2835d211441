package status

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/rafttest"
)

func TestLogsCompareByTermFirst(t *testing.T) {
	require.Positive(t, LogEnd{3, 5}.Compare(LogEnd{2, 9}), "a longer log of a term before never counted")
	require.Positive(t, LogEnd{3, 6}.Compare(LogEnd{3, 5}))
	require.Negative(t, LogEnd{2, 9}.Compare(LogEnd{3, 5}))
	require.Zero(t, LogEnd{3, 5}.Compare(LogEnd{3, 5}))
}

// Raft says where its log ends, also when a snapshot is all that it has.
func TestRaftSaysWhereItsLogEnds(t *testing.T) {
	leader, follower := rafttest.Pair(t, func(c *raft.Config) { c.TrailingLogs = 0 }, nil)
	require.NoError(t, leader.Raft.Apply([]byte("x"), rafttest.Patience).Error())
	want := LogEnd{leader.Raft.CurrentTerm(), leader.Raft.LastIndex()}
	require.NotZero(t, want.Term)
	require.Equal(t, want, LogEndOf(leader.Raft))
	require.Eventually(t, func() bool { return LogEndOf(follower.Raft) == want }, rafttest.Patience, time.Millisecond)
	require.NoError(t, leader.Raft.Barrier(rafttest.Patience).Error())
	require.NoError(t, leader.Raft.Snapshot().Error())
	require.Equal(t, LogEnd{leader.Raft.CurrentTerm(), leader.Raft.LastIndex()}, LogEndOf(leader.Raft))
}
