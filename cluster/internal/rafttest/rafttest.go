// Package rafttest runs two servers of raft in memory, for tests of what this
// project takes for granted of raft's inside.
package rafttest

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// Patience is how long a test waits for what must happen.
const Patience = 30 * time.Second

// Server is one of the two.
type Server struct {
	Raft  *raft.Raft
	Trans *raft.InmemTransport
}

// Pair starts a leader and a follower. wrap is put around the transports; edit
// changes the configuration before the start. Both may be nil.
func Pair(t testing.TB, edit func(*raft.Config), wrap func(raft.Transport) raft.Transport) (leader, follower *Server) {
	_, first := raft.NewInmemTransport("first")
	_, second := raft.NewInmemTransport("second")
	first.Connect("second", second)
	second.Connect("first", first)
	both := raft.Configuration{Servers: []raft.Server{{ID: "first", Address: "first"}, {ID: "second", Address: "second"}}}
	start := func(id raft.ServerID, trans *raft.InmemTransport) *Server {
		config := raft.DefaultConfig()
		config.LocalID = id
		config.Logger = hclog.NewNullLogger()
		config.NoLegacyTelemetry = true
		config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
		if edit != nil {
			edit(config)
		}
		store, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
		require.NoError(t, raft.BootstrapCluster(config, store, store, snapshots, trans, both))
		var used raft.Transport = trans
		if wrap != nil {
			used = wrap(trans)
		}
		r, err := raft.NewRaft(config, new(raft.MockFSM), store, store, snapshots, used)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Shutdown().Error()) })
		return &Server{Raft: r, Trans: trans}
	}
	a, b := start("first", first), start("second", second)
	require.Eventually(t, func() bool {
		return a.Raft.State() == raft.Leader || b.Raft.State() == raft.Leader
	}, Patience, time.Millisecond)
	if b.Raft.State() == raft.Leader {
		a, b = b, a
	}
	require.NoError(t, a.Raft.Barrier(Patience).Error())
	return a, b
}
