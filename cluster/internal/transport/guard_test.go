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
	guard := NewGuard(inner, "a", func() bool { return true }, func() bool { return held })
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
