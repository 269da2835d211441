package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// flaky is a log that refuses a write now and then while it is told to.
type flaky struct {
	raft.LogStore
	refuses atomic.Bool
	refused atomic.Int64
	last    time.Time
}

// StoreLogs implements raft.LogStore.
func (f *flaky) StoreLogs(entries []*raft.Log) error {
	if f.refuses.Load() && time.Since(f.last) > 25*time.Millisecond {
		f.last = time.Now()
		f.refused.Add(1)
		return errors.New("input/output error")
	}
	return f.LogStore.StoreLogs(entries)
}

// StoreLog implements raft.LogStore.
func (f *flaky) StoreLog(entry *raft.Log) error { return f.StoreLogs([]*raft.Log{entry}) }

// A follower whose disk fails for a while, under load, is sent the entries again
// as soon as it takes them, and the leader can be stopped.
func TestAFollowerWhoseDiskFailedCatchesUp(t *testing.T) {
	var sick flaky
	m := newMembers(t, 3, func(c *Config) {
		if c.ID == "n3" {
			c.wrapLogs = func(l raft.LogStore) raft.LogStore {
				sick.LogStore = l
				return &sick
			}
		}
	})
	leader, follower := m.leader(), m.nodes["n3"]
	require.NotEqual(t, leader, follower, "the first node leads")

	ctx, cancel := context.WithCancel(context.Background())
	var load sync.WaitGroup
	for range 64 {
		load.Go(func() {
			for ctx.Err() == nil {
				leader.Propose(ctx, command(appendItem()))
			}
		})
	}
	for range 10 {
		before := sick.refused.Load()
		sick.refuses.Store(true)
		m.eventually(func() bool { return sick.refused.Load() >= before+8 })
		sick.refuses.Store(false)
		index := leader.FSM().View().Index()
		m.eventually(func() bool { return follower.FSM().View().Index() >= index })
	}
	cancel()
	load.Wait()
	m.eventually(func() bool { return follower.Health() == nil })
	m.eventually(func() bool { return m.items(leader) == m.items(follower) })

	closed := make(chan error, 1)
	go func() { closed <- leader.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "the leader cannot be stopped")
	}
}
