package transport

import (
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// While the disk hangs, what a leader sends keeps the others from choosing another
// one, whether or not handing leadership over works.
func TestWhoIsHeldBackSendsNothingAsALeader(t *testing.T) {
	held := true
	_, inner := raft.NewInmemTransport("a")
	address, other := raft.NewInmemTransport("b")
	inner.Connect(address, other)
	guard := NewGuard(inner, "a", func() bool { return true }, func() bool { return held }, func(index uint64) uint64 { return index })
	defer guard.Close()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for rpc := range other.Consumer() {
			rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: raft.RPCHeader{ID: []byte("b")}, Success: true}, nil)
			return
		}
	}()
	send := func() error {
		return guard.AppendEntries("b", address, &raft.AppendEntriesRequest{}, new(raft.AppendEntriesResponse))
	}
	require.ErrorIs(t, send(), errHeld)
	pipeline, err := guard.AppendEntriesPipeline("b", address)
	require.NoError(t, err)
	defer pipeline.Close()
	_, err = pipeline.AppendEntries(&raft.AppendEntriesRequest{}, new(raft.AppendEntriesResponse))
	require.ErrorIs(t, err, errHeld)
	held = false
	require.NoError(t, send())
	<-answered
}

// Raft counts the leader's copy of an entry while it is still being written.
func TestFollowersAreToldOfWhatTheLeaderHasWritten(t *testing.T) {
	_, inner := raft.NewInmemTransport("a")
	address, other := raft.NewInmemTransport("b")
	inner.Connect(address, other)
	yes, no := func() bool { return true }, func() bool { return false }
	guard := NewGuard(inner, "a", yes, no, func(index uint64) uint64 { return min(index, 7) })
	defer guard.Close()
	pipeline, err := guard.AppendEntriesPipeline("b", address)
	require.NoError(t, err)
	defer pipeline.Close()
	for committed, told := range map[uint64]uint64{0: 0, 6: 6, 7: 7, 9: 7} {
		for name, send := range map[string]func(*raft.AppendEntriesRequest) error{
			"one": func(r *raft.AppendEntriesRequest) error {
				return guard.AppendEntries("b", address, r, new(raft.AppendEntriesResponse))
			},
			"pipeline": func(r *raft.AppendEntriesRequest) error {
				_, err := pipeline.AppendEntries(r, new(raft.AppendEntriesResponse))
				return err
			},
		} {
			got := make(chan uint64, 1)
			go func() {
				rpc := <-other.Consumer()
				got <- rpc.Command.(*raft.AppendEntriesRequest).LeaderCommitIndex
				rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: raft.RPCHeader{ID: []byte("b")}, Success: true}, nil)
			}()
			require.NoError(t, send(&raft.AppendEntriesRequest{LeaderCommitIndex: committed}))
			require.Equal(t, told, <-got, "%s, %d", name, committed)
		}
	}
}
