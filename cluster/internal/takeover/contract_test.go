package takeover

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/rafttest"
)

// A follower that is told to by itself stands for election at once, and others
// vote for it though they have heard of a leader just now.
func TestRaftStandsWhenToldByItself(t *testing.T) {
	leader, follower := rafttest.Pair(t, func(c *raft.Config) {
		c.HeartbeatTimeout, c.ElectionTimeout = 2*time.Second, 2*time.Second // of itself nobody would stand
	}, nil)
	follower.Trans.Connect(follower.Trans.LocalAddr(), follower.Trans) // as the node's own transport is
	id := string(follower.Trans.LocalAddr())                           // in a Pair the address is the id
	w := &Watcher{Self: id, Raft: follower.Raft, Transport: follower.Trans, Life: lifetime.New(), Logger: slog.New(slog.DiscardHandler)}
	began := follower.Raft.CurrentTerm()
	w.Campaign()
	require.Eventually(t, func() bool { return follower.Raft.State() == raft.Leader }, rafttest.Patience, time.Millisecond)
	require.Equal(t, began+1, follower.Raft.CurrentTerm())
	require.Eventually(t, func() bool { return leader.Raft.State() == raft.Follower }, rafttest.Patience, time.Millisecond)
}
