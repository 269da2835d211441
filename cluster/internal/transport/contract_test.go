package transport

import (
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/rafttest"
)

// recorder is a transport that keeps what raft appends.
type recorder struct {
	*raft.InmemTransport
	mu         sync.Mutex
	heartbeats int
	others     []raft.AppendEntriesRequest
}

// AppendEntries implements raft.Transport.
func (r *recorder) AppendEntries(id raft.ServerID, addr raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	r.mu.Lock()
	if isHeartbeat(args) {
		r.heartbeats++
	} else {
		r.others = append(r.others, *args)
	}
	r.mu.Unlock()
	return r.InmemTransport.AppendEntries(id, addr, args, resp)
}

// Raft's heartbeats are known by what they leave out; requests that replicate
// always have a place in the log or entries.
func TestRaftsHeartbeatsAreKnown(t *testing.T) {
	var recorders []*recorder
	leader, _ := rafttest.Pair(t, nil, func(inner raft.Transport) raft.Transport {
		r := &recorder{InmemTransport: inner.(*raft.InmemTransport)}
		recorders = append(recorders, r)
		return r
	})
	for range 5 {
		require.NoError(t, leader.Raft.Apply([]byte("x"), rafttest.Patience).Error())
	}
	require.Eventually(t, func() bool {
		heartbeats := 0
		for _, r := range recorders {
			r.mu.Lock()
			heartbeats += r.heartbeats
			r.mu.Unlock()
		}
		return heartbeats > 2
	}, rafttest.Patience, time.Millisecond)
	for _, r := range recorders {
		r.mu.Lock()
		for _, args := range r.others {
			require.True(t, len(args.Entries) > 0 || args.PrevLogEntry > 0 || args.LeaderCommitIndex > 0, "%+v", args)
		}
		r.mu.Unlock()
	}
}
