package asynclog

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/rafttest"
)

// follower answers as the other voter, which has all that it is sent.
func follower(trans *raft.InmemTransport) {
	for rpc := range trans.Consumer() {
		header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("b"), Addr: []byte("b")}
		switch r := rpc.Command.(type) {
		case *raft.RequestPreVoteRequest:
			rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: header, Term: r.Term, Granted: true}, nil)
		case *raft.RequestVoteRequest:
			rpc.Respond(&raft.RequestVoteResponse{RPCHeader: header, Term: r.Term, Granted: true}, nil)
		case *raft.AppendEntriesRequest:
			rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: header, Term: r.Term, Success: true, LastLog: r.PrevLogEntry + uint64(len(r.Entries))}, nil)
		}
	}
}

// A server that led, and is still writing, counts for what it has under another
// leader only with an entry of that one's term, and then its disk has all before.
func TestWhoLedAnswersWithWhatItsDiskHas(t *testing.T) {
	_, own := raft.NewInmemTransport("a")
	_, other := raft.NewInmemTransport("b")
	own.Connect("b", other)
	other.Connect("a", own)
	go follower(other)
	disk := newGated()
	l := New(disk)
	config := raft.DefaultConfig()
	config.LocalID, config.Logger, config.NoLegacyTelemetry = "a", hclog.NewNullLogger(), true
	config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
	snapshots := raft.NewInmemSnapshotStore()
	both := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}, {ID: "b", Address: "b"}}}
	require.NoError(t, raft.BootstrapCluster(config, l, disk, snapshots, own, both))
	r, err := raft.NewRaft(config, new(raft.MockFSM), l, disk, snapshots, own)
	require.NoError(t, err)
	defer func() {
		require.NoError(t, r.Shutdown().Error())
		l.Close()
	}()
	l.Use(func() bool { return r.State() == raft.Leader })
	require.Eventually(t, func() bool { return r.State() == raft.Leader }, rafttest.Patience, time.Millisecond)
	require.NoError(t, r.Barrier(rafttest.Patience).Error())

	goOn := disk.hold()
	defer goOn()
	future := r.Apply([]byte("x"), rafttest.Patience)
	require.NoError(t, future.Error(), "raft goes on before its disk has it")
	index, term := future.Index(), r.CurrentTerm()
	require.Less(t, l.Written(index), index)

	type answer struct {
		raft.AppendEntriesResponse
		written uint64
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		a.err = other.AppendEntries("a", "a", &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("b"), Addr: []byte("b")},
			Term:      term + 1, PrevLogEntry: index, PrevLogTerm: term,
			Entries: []*raft.Log{{Index: index + 1, Term: term + 1, Type: raft.LogNoop}},
		}, &a.AppendEntriesResponse)
		a.written = l.Written(index)
		answers <- a
	}()
	require.Eventually(t, func() bool { return r.CurrentTerm() > term }, rafttest.Patience, time.Millisecond)
	select {
	case a := <-answers:
		require.FailNow(t, "it answers for what it has not written", "%+v", a)
	case <-time.After(100 * time.Millisecond): // for the answer that must not come
	}
	goOn()
	a := <-answers
	require.NoError(t, a.err)
	require.True(t, a.Success)
	require.Equal(t, index, a.written)
}
