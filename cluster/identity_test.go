package cluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/membership"
	"lockstep/cluster/internal/wire"
)

// incarnations counts the servers of a node in the leader's configuration.
func (m *members) incarnations(id string) int {
	count := 0
	for _, s := range m.leader().members.All() {
		if member.NodeOf(s.ID) == id {
			count++
		}
	}
	return count
}

func (m *members) wipe(id string) {
	require.NoError(m.t, os.RemoveAll(filepath.Join(m.dir, id, raftDirectory)))
}

func TestLostLogIsDetected(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	lost := m.followers()[0]
	m.crash(lost)
	m.wipe(lost.ID())
	c := m.config(lost.ID())
	c.Incarnation = lost.Incarnation()
	_, err := Open(context.Background(), c)
	require.ErrorIs(t, err, ErrStateLost)

	other := m.followers()[0]
	m.crash(other)
	c = m.config(other.ID())
	c.Incarnation = lost.Incarnation()
	_, err = Open(context.Background(), c)
	require.ErrorIs(t, err, ErrStateLost, "the log of another incarnation")
}

func TestMemberIsReplacedOnlyWithReplace(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	m.must(m.leader(), appendItem())
	lost := m.followers()[0]
	m.crash(lost)
	m.wipe(lost.ID())
	again := m.open(lost.ID())
	require.Equal(t, lost.InternalAddr(), again.InternalAddr())
	spec := MemberSpec{ID: lost.ID(), InternalAddr: again.InternalAddr()}
	for _, n := range m.nodes {
		if n != again {
			require.ErrorIs(t, n.AddMember(m.context(), spec), ErrKnownMember)
		}
	}
	require.Equal(t, 1, m.incarnations(lost.ID()))

	spec.Replace = true
	require.NoError(t, m.leader().AddMember(m.context(), spec))
	m.eventually(func() bool { return again.Votes() && m.incarnations(lost.ID()) == 1 })
	require.False(t, m.leader().members.Has(lost.self))
	m.ready(again)
	require.Equal(t, 1, m.items(again))
	require.Len(t, m.leader().Members(), 3)
	require.NoError(t, m.leader().AddMember(m.context(), spec), "again, it is a member as it is")
}

// The one that is replaced keeps its vote until the new one has it, and then
// learns that it is out, even if it leads.
func TestLiveMemberIsReplaced(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			m := newMembers(t, 3, nil)
			old := m.leader()
			if who == "follower" {
				old = m.followers()[0]
			}
			again := m.open(old.ID(), func(c *Config) {
				c.DataDir, c.InternalAddr = t.TempDir(), "127.0.0.1:0"
			})
			t.Cleanup(func() { old.stop() })
			m.nodes["old"] = old
			require.NoError(t, m.leader().AddMember(m.context(), MemberSpec{ID: old.ID(), InternalAddr: again.InternalAddr(), Replace: true}))
			m.eventually(func() bool { return again.Votes() && !again.members.Has(old.self) })
			select {
			case <-old.Removed():
			case <-time.After(patience):
				require.FailNow(t, "the old one goes on")
			}
			m.crash(old)
			delete(m.nodes, "old")
			m.ready(again)
			m.must(again, appendItem())
			require.Equal(t, 1, m.items(m.leader()))
		})
	}
}

func TestNodeWithoutConfigurationDoesNotVote(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	empty := m.open("n2")
	candidate := m.leader()
	candidate.places.note(empty.self, empty.InternalAddr(), nil)
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(candidate.self), Addr: []byte(candidate.InternalAddr())}
	to, addr := raft.ServerID(empty.self), raft.ServerAddress(empty.InternalAddr())
	var vote raft.RequestVoteResponse
	require.NoError(t, candidate.transport.RequestVote(to, addr, &raft.RequestVoteRequest{RPCHeader: header, Term: 99, LastLogIndex: 99, LastLogTerm: 99}, &vote))
	require.False(t, vote.Granted)
	var pre raft.RequestPreVoteResponse
	require.NoError(t, candidate.transport.RequestPreVote(to, addr, &raft.RequestPreVoteRequest{RPCHeader: header, Term: 99, LastLogIndex: 99, LastLogTerm: 99}, &pre))
	require.False(t, pre.Granted)

	vote = raft.RequestVoteResponse{}
	candidate.places.note("n2.another", empty.InternalAddr(), nil)
	err := candidate.transport.RequestVote("n2.another", addr, &raft.RequestVoteRequest{RPCHeader: header, Term: 99}, &vote)
	require.ErrorContains(t, err, "and not n2.another", "the answer of another incarnation counts for nothing")
}

// Whatever a crash has left of making a cluster, the next start makes it or finds
// it made. What each step writes is on disk before the next one begins.
func TestBootstrapResumesAfterCrash(t *testing.T) {
	alone := func(store *raftboltdb.BoltStore) []byte {
		_, incarnation, err := incarnate(&checkedStable{StableStore: store}, "")
		require.NoError(t, err)
		return raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: member.ServerOf("n1", incarnation), Address: "127.0.0.1:1"}}})
	}
	steps := []func(store *raftboltdb.BoltStore) error{
		func(store *raftboltdb.BoltStore) error { alone(store); return nil }, // the node's key
		func(store *raftboltdb.BoltStore) error {
			return (&checkedStable{StableStore: store}).SetUint64(currentTermKey, 1)
		},
		func(store *raftboltdb.BoltStore) error {
			return (&checkedLog{LogStore: store}).StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: alone(store)})
		},
	}
	for done := range len(steps) + 1 {
		dir := filepath.Join(t.TempDir(), "n1")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, raftDirectory), 0o700))
		store, err := raftboltdb.NewBoltStore(filepath.Join(dir, raftDirectory, logFile))
		require.NoError(t, err)
		for _, step := range steps[:done] {
			require.NoError(t, step(store))
		}
		require.NoError(t, store.Close())
		c := Config{ID: "n1", DataDir: dir, ClusterID: "test", Key: testKey, InternalAddr: "127.0.0.1:0", Bootstrap: true}
		n, err := Open(t.Context(), c)
		if done == len(steps) {
			require.ErrorIs(t, err, ErrHasState)
			c.Bootstrap = false
			n, err = Open(t.Context(), c)
		}
		require.NoError(t, err, "after %d steps", done)
		select {
		case <-n.Ready():
		case <-time.After(patience):
			require.FailNow(t, "no cluster was made", "after %d steps", done)
		}
		require.Len(t, n.Members(), 1)
		require.NoError(t, n.stop())
	}
}

func TestCopiedDataDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	original := m.followers()[0]
	m.crash(original)
	copied := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(copied, os.DirFS(filepath.Join(m.dir, original.ID()))))
	original = m.open(original.ID())
	m.ready(original)
	c := m.config(original.ID())
	c.DataDir, c.InternalAddr = copied, "127.0.0.1:0"
	second, err := Open(context.Background(), c)
	require.NoError(t, err)
	defer second.stop()
	select {
	case <-second.Failed():
		require.ErrorIs(t, second.Failure(), ErrTwice)
	case <-time.After(patience):
		require.FailNow(t, "the copy goes on")
	}
	m.must(original, appendItem())
}

// membershipOf is what a node says when another one asks whether it is a member.
func (n *Node) membershipOf(other *Node) membership.Answer {
	a, _ := n.place.Answer(context.Background(), other.self, wire.None{})
	return a
}

// A removal that is in the leader's log only may never be: nobody is told that it
// is out before a majority has it.
func TestRemovalCountsOnceCommitted(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, func(c *Config) { c.TimeoutScale = 4 })
	leader, followers := m.leader(), m.followers()
	out := followers[0]
	m.eventually(func() bool {
		return leader.membershipOf(out) == (membership.Answer{Leads: true, Term: leader.raft.CurrentTerm(), Member: true})
	})
	for _, f := range followers {
		m.crash(f)
	}
	removal := leader.raft.RemoveServer(raft.ServerID(out.self), 0, time.Second)
	m.eventually(func() bool {
		answer := leader.membershipOf(out)
		require.False(t, answer.Leads && !answer.Member, "out by a removal that no majority has")
		return !answer.Member
	})
	require.False(t, leader.membershipOf(out).Leads)
	m.crash(leader)
	require.Error(t, removal.Error())
	m.nodes = nil
}
