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

	"lockstep/objects"
)

var errIO = errors.New("input/output error")

// sickDisk is the log and the stable store of a node whose disk fails or hangs
// when it is told to.
type sickDisk struct {
	raft.LogStore
	fails  atomic.Bool // to write the log
	tried  atomic.Int64
	mu     sync.Mutex
	hangs  chan struct{} // what writes wait for, if it is there
	stable struct {
		raft.StableStore
		fails atomic.Bool
	}
}

type sickStable struct {
	raft.StableStore
	disk *sickDisk
}

// Set implements raft.StableStore.
func (s *sickStable) Set(key, value []byte) error {
	if s.disk.stable.fails.Load() {
		s.disk.tried.Add(1)
		return errIO
	}
	return s.StableStore.Set(key, value)
}

// StoreLogs implements raft.LogStore.
func (d *sickDisk) StoreLogs(entries []*raft.Log) error {
	d.mu.Lock()
	hangs := d.hangs
	d.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	if d.fails.Load() {
		d.tried.Add(1)
		return errIO
	}
	return d.LogStore.StoreLogs(entries)
}

// StoreLog implements raft.LogStore.
func (d *sickDisk) StoreLog(entry *raft.Log) error { return d.StoreLogs([]*raft.Log{entry}) }

// hang has writes wait until the function that it returns is called.
func (d *sickDisk) hang() (goOn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hangs := make(chan struct{})
	d.hangs = hangs
	return sync.OnceFunc(func() {
		d.mu.Lock()
		d.hangs = nil
		d.mu.Unlock()
		close(hangs)
	})
}

// withDisks starts three nodes, each on a disk of this kind.
func withDisks(t *testing.T) (*members, map[string]*sickDisk) {
	disks := map[string]*sickDisk{"n1": {}, "n2": {}, "n3": {}}
	return newMembers(t, 3, func(c *Config) {
		d := disks[c.ID]
		c.wrapLogs = func(l raft.LogStore) raft.LogStore {
			d.LogStore = l
			return d
		}
		c.wrapStable = func(s raft.StableStore) raft.StableStore { return &sickStable{s, d} }
	}), disks
}

// load has a node write until the function that it returns is called.
func load(n *Node) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	for range 16 {
		writers.Go(func() {
			for ctx.Err() == nil {
				n.Propose(ctx, command(appendItem()))
			}
		})
	}
	return func() {
		cancel()
		writers.Wait()
	}
}

func (m *members) failed(n *Node) {
	m.t.Helper()
	select {
	case <-n.Failed():
	case <-time.After(patience):
		require.FailNow(m.t, "the node goes on")
	}
	require.ErrorIs(m.t, n.Failure(), ErrDisk)
	require.ErrorIs(m.t, n.Failure(), errIO)
	require.ErrorIs(m.t, n.Health(), ErrDisk)
	_, err := n.Propose(m.context(), command(appendItem()))
	require.ErrorIs(m.t, err, ErrNoLeader)
	_, err = n.Read(m.context(), objects.Bucket{})
	require.ErrorIs(m.t, err, ErrNoLeader)
}

// A node writes nothing after a write that failed, although the disk would take
// it, and catches up when it is started again.
func TestFirstFailedWriteEndsNode(t *testing.T) {
	for _, role := range []string{"leader", "follower"} {
		t.Run(role, func(t *testing.T) {
			m, disks := withDisks(t)
			sick, other := m.leader(), m.followers()[0]
			if role == "follower" {
				sick, other = other, sick
			}
			disk := disks[sick.ID()]
			stop := load(other)
			defer stop()
			disk.fails.Store(true)
			m.failed(sick)
			disk.fails.Store(false)
			require.EqualValues(t, 1, disk.tried.Load(), "writes that were tried")
			last := sick.FSM().View().Index()
			m.must(other, appendItem())
			m.must(other, appendItem())
			require.Equal(t, last, sick.FSM().View().Index(), "it takes part")
			require.NoError(t, sick.Close())
			stop()

			again := m.open(sick.ID())
			m.eventually(func() bool { return again.Health() == nil })
			m.eventually(func() bool { return m.items(again) == m.items(other) })
		})
	}
}

// Raft panics when it cannot write its term.
func TestFailedTermWriteEndsNodeWithoutPanic(t *testing.T) {
	m, disks := withDisks(t)
	leader, sick := m.leader(), m.followers()[0]
	disks[sick.ID()].stable.fails.Store(true)
	require.NoError(t, leader.Close()) // the next leader leads in a new term
	m.failed(sick)
	require.EqualValues(t, 1, disks[sick.ID()].tried.Load())
	require.NoError(t, sick.Close())
	disks[sick.ID()].stable.fails.Store(false)
	again := m.open(sick.ID())
	m.eventually(func() bool { return again.Health() == nil })
	m.must(again, appendItem())
}

func TestLeadershipMovesWhileLeaderDiskHangs(t *testing.T) {
	m, disks := withDisks(t)
	sick, other := m.leader(), m.followers()[0]
	before := m.items(other)
	goOn := disks[sick.ID()].hang()
	defer goOn()
	began := time.Now()
	m.must(other, appendItem())
	took := time.Since(began)
	t.Log("acknowledged after", took)
	require.Less(t, took, 6*time.Second, "a loaded machine may take twice the time")
	m.eventually(func() bool { return sick.Health() == errDiskHangs })
	_, err := sick.Read(m.context(), objects.Bucket{})
	require.ErrorIs(t, err, ErrNoLeader, "it serves what it has")
	for range 10 {
		m.must(other, appendItem())
	}
	goOn()
	m.eventually(func() bool { return sick.Health() == nil })
	require.NotEqual(t, raft.Leader, sick.raft.State())
	require.Equal(t, before+11, m.items(sick))
	select {
	case <-sick.Failed():
		require.FailNow(t, "it ended", sick.Failure())
	default:
	}
}

// A leader's disk writes while those of the followers do, and nothing counts before
// it has: neither here nor there.
func TestNothingCountsBeforeLeaderDiskHasIt(t *testing.T) {
	m, disks := withDisks(t)
	leader, followers := m.leader(), m.followers()
	m.must(leader, appendItem())
	m.eventually(func() bool {
		return m.items(followers[0]) == m.items(leader) && m.items(followers[1]) == m.items(leader)
	})
	before, last := m.items(leader), leader.raft.LastIndex()
	applied := func(n *Node) bool { return n.fsm.View().Index() > last }
	goOn := disks[leader.ID()].hang()
	defer goOn()
	acknowledged := make(chan error, 1)
	go func() {
		_, err := leader.Propose(m.context(), command(appendItem()))
		acknowledged <- err
	}()
	m.eventually(func() bool {
		return followers[0].raft.LastIndex() > last && followers[1].raft.LastIndex() > last && leader.raft.CommitIndex() > last
	})
	require.Never(t, func() bool { // for several of the pauses after which raft tells what is committed
		return len(acknowledged) > 0 || applied(leader) || applied(followers[0]) || applied(followers[1])
	}, 300*time.Millisecond, 5*time.Millisecond)
	goOn()
	require.NoError(t, <-acknowledged)
	for _, n := range m.nodes {
		m.eventually(func() bool { return m.items(n) == before+1 })
	}
}

// A follower answers for what its disk has.
func TestFollowerCountsWhenItsDiskHasIt(t *testing.T) {
	m, disks := withDisks(t)
	leader, followers := m.leader(), m.followers()
	require.NoError(t, followers[1].Close())
	m.must(leader, appendItem())
	goOn := disks[followers[0].ID()].hang()
	defer goOn()
	acknowledged := make(chan error, 1)
	go func() {
		_, err := leader.Propose(m.context(), command(appendItem()))
		acknowledged <- err
	}()
	require.Never(t, func() bool { return len(acknowledged) > 0 }, 300*time.Millisecond, 5*time.Millisecond)
	goOn()
	require.NoError(t, <-acknowledged)
}

// A follower's disk that hangs costs the others nothing.
func TestWritesGoOnWhileFollowerDiskHangs(t *testing.T) {
	m, disks := withDisks(t)
	leader, sick := m.leader(), m.followers()[0]
	goOn := disks[sick.ID()].hang()
	defer goOn()
	m.must(leader, appendItem())
	m.eventually(func() bool {
		m.must(leader, appendItem())
		return sick.Health() == errDiskHangs
	})
	require.True(t, leader.IsLeader())
	goOn()
	m.eventually(func() bool { return sick.Health() == nil && m.items(sick) == m.items(leader) })
}

// A node whose disk hangs can be stopped without killing it.
func TestNodeWithHangingDiskCanBeStopped(t *testing.T) {
	m, disks := withDisks(t)
	sick := m.followers()[0]
	goOn := disks[sick.ID()].hang()
	m.must(m.leader(), appendItem())
	m.eventually(func() bool { return sick.Health() == errDiskHangs })
	closed := make(chan error, 1)
	go func() { closed <- sick.Close() }()
	select {
	case err := <-closed:
		require.ErrorIs(t, err, errDiskHangs)
	case <-time.After(patience):
		require.FailNow(t, "it waits for the disk")
	}
	goOn()
	m.must(m.leader(), appendItem())
}

// Raft takes one snapshot at a time, and that one waits for the disk: whoever asks for
// another one need not.
func TestSnapshotIsNotWaitedForLongerThanAsked(t *testing.T) {
	m, disks := withDisks(t)
	sick := m.followers()[0]
	goOn := disks[sick.ID()].hang()
	defer goOn()
	m.must(m.leader(), appendItem())
	m.eventually(func() bool { return sick.Health() == errDiskHangs })
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		taken := make(chan error, 1)
		go func() { taken <- sick.Snapshot(ctx) }()
		select {
		case err := <-taken:
			require.ErrorIs(t, err, context.DeadlineExceeded)
		case <-time.After(patience):
			require.FailNow(t, "it waits for the disk")
		}
		cancel()
	}
}

// Each node tells the others whether its disk has room. What leads to refusals is a
// majority without it, or the leader's own.
func TestDisksAreFullWhenLeaderOrMajorityIsShort(t *testing.T) {
	t.Parallel()
	var short, told [3]atomic.Bool
	m := newMembers(t, 3, func(c *Config) {
		i := int(c.ID[1] - '1')
		c.DiskShort, c.DisksFull = short[i].Load, told[i].Store
	})
	full := func(of ...bool) func() bool {
		return func() bool {
			return told[0].Load() == of[0] && told[1].Load() == of[1] && told[2].Load() == of[2]
		}
	}
	m.eventually(full(false, false, false))
	short[1].Store(true)
	m.eventually(full(false, true, false))
	short[2].Store(true)
	m.eventually(full(true, true, true))
	short[1].Store(false)
	m.eventually(full(false, false, true))
	require.NoError(t, m.nodes["n2"].Close())
	m.eventually(full(true, false, true)) // nobody knows of n2
	short[2].Store(false)
	m.eventually(full(false, false, false))
}
