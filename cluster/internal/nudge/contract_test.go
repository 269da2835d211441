package nudge

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/rafttest"
)

// A follower takes a request without entries that raft did not make, if its log
// has the entry that the request names, and learns from it what is committed.
func TestRaftAcceptsNudge(t *testing.T) {
	leader, follower := rafttest.Pair(t, func(c *raft.Config) { c.CommitTimeout = time.Hour }, nil)
	require.NoError(t, leader.Raft.Apply([]byte("x"), rafttest.Patience).Error())
	index, term := leader.Raft.LastIndex(), leader.Raft.CurrentTerm()
	require.Less(t, follower.Raft.CommitIndex(), index, "without a nudge it does not know yet")

	nudge := func(prev uint64) bool {
		request := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{
				ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader.Trans.LocalAddr()),
				Addr: leader.Trans.EncodePeer("", leader.Trans.LocalAddr()),
			},
			Term: term, PrevLogEntry: prev, PrevLogTerm: term, LeaderCommitIndex: prev,
		}
		var response raft.AppendEntriesResponse
		require.NoError(t, leader.Trans.AppendEntries("", follower.Trans.LocalAddr(), request, &response))
		return response.Success
	}
	require.False(t, nudge(index+1), "it lacks that entry")
	require.Less(t, follower.Raft.CommitIndex(), index)
	require.True(t, nudge(index))
	require.Equal(t, index, follower.Raft.CommitIndex())
	require.Equal(t, raft.Leader, leader.Raft.State(), "nobody's term is disturbed")
}
