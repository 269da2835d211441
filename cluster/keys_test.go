package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/keyring"
	"lockstep/cluster/internal/link"
	"lockstep/cluster/internal/membership"
	"lockstep/cluster/internal/proposer"
	"lockstep/cluster/internal/readindex"
	"lockstep/cluster/internal/recall"
	"lockstep/cluster/internal/replica"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/objects"
)

// machine is somebody with the cluster's key, and perhaps with a node's own one,
// who speaks the internal port by hand.
func machine(t *testing.T, id string, own ed25519.PrivateKey) *link.Port {
	if own == nil {
		var err error
		_, own, err = ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
	}
	credential, err := link.NewCredential("test", id, own, testKey)
	require.NoError(t, err)
	p, err := link.Listen(link.Config{Bind: "127.0.0.1:0", Credential: credential, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	p.Serve("", func(context.Context, string, byte, []byte) []byte { return wire.Answer(nil, nil) })
	return p
}

// getsNothing tries every kind of request, and a stream of raft's, on every node.
func (m *members) getsNothing(stranger *link.Port, who string) {
	m.t.Helper()
	createKey, err := command(&fsm.CreateKey{SID: newSID(objects.KindKey), Secret: "chosen"}).Encode()
	require.NoError(m.t, err)
	body := func(x any) []byte {
		b, err := cbor.Marshal(x)
		require.NoError(m.t, err)
		return b
	}
	requests := map[byte][]byte{
		wire.Propose:       proposer.EncodeProposals([]*batch.Proposal{batch.NewProposal(m.context(), createKey, false)}),
		wire.ProposeTraced: append(wire.AppendBytes(nil, nil), proposer.EncodeProposals([]*batch.Proposal{batch.NewProposal(m.context(), createKey, false)})...),
		wire.ReadIndex:     body(readindex.Request{Term: m.leader().raft.CurrentTerm()}),
		wire.ConfirmTerm:   body(wire.None{}),
		wire.Status:        body(wire.None{}),
		wire.AddMember:     body(membership.AddRequest{Spec: MemberSpec{ID: "mine", InternalAddr: stranger.Addr()}}),
		wire.RemoveMember:  body(membership.RemoveRequest{ID: "n1"}),
		wire.Vouch:         body(membership.VouchRequest{Server: m.leader().self}),
		wire.ClusterKey:    body(keyring.Request{ID: fsm.KeyIDOf(testKey)}),
		wire.Digest:        body(replica.Request{Index: 1}),
		wire.Count:         body(replica.CountRequest{Index: 1}),
		wire.Recall:        body(recall.Request{Process: 1}),
		wire.Question:      []byte("anything"),
	}
	for _, n := range m.nodes {
		if n.life.Context().Err() != nil {
			continue
		}
		for kind := range n.table {
			if kind != wire.Membership {
				require.Contains(m.t, requests, kind, "a kind of request that this test does not try")
			}
		}
		for kind, b := range requests {
			answer, err := stranger.Call(m.context(), n.InternalAddr(), kind, b)
			require.NoError(m.t, err)
			_, err = wire.DecodeAnswer(answer)
			require.ErrorIs(m.t, err, ErrNotMember, "%s: kind %d is answered by %s", who, kind, n.ID())
		}
		answer, err := stranger.Call(m.context(), n.InternalAddr(), wire.Membership, body(wire.None{}))
		require.NoError(m.t, err)
		var a membership.Answer
		require.NoError(m.t, cbor.Unmarshal(answer[1:], &a))
		require.False(m.t, a.Member, "it is told that it is out")

		transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: stranger.Streams(), MaxPool: 1, Timeout: 5 * time.Second, Logger: newRaftLogger(slog.New(slog.DiscardHandler)),
		})
		term := m.leader().raft.CurrentTerm()
		err = transport.AppendEntries(raft.ServerID(n.self), raft.ServerAddress(n.InternalAddr()), &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte(stranger.Addr())}, Term: term + 100,
		}, new(raft.AppendEntriesResponse))
		require.Error(m.t, err, "%s leads %s", who, n.ID())
		require.NoError(m.t, transport.Close())
	}
	require.Empty(m.t, m.leader().FSM().View().Keys(), "no key was made")
}

func TestClusterKeyAloneGrantsNothing(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	m.getsNothing(machine(t, "stranger", nil), "a stranger with the key")
	m.getsNothing(machine(t, m.leader().ID(), nil), "a stranger who says that he is the leader")
}

func TestRemovedMemberIsRefusedEverything(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 4, nil)
	removed := m.followers()[0]
	own, _, err := incarnate(removed.stores.stable, "")
	require.NoError(t, err)
	id := removed.ID()
	require.NoError(t, m.leader().RemoveMember(m.context(), id))
	m.eventually(func() bool {
		for _, n := range m.nodes {
			if n != removed && n.members.Has(removed.self) {
				return false
			}
		}
		return true
	})
	select { // it learns that it is out
	case <-removed.Removed():
	case <-time.After(patience):
		require.FailNow(t, "it goes on")
	}
	m.crash(removed)
	delete(m.nodes, id)
	m.getsNothing(machine(t, id, own), "the removed machine")
	m.getsNothing(machine(t, "n1", own), "the removed machine under another's name")
}

// A node that was away when others were added may find itself led by one that it
// does not know: those that it knows vouch for it.
func TestReturningNodeAcceptsUnknownLeader(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	away := m.followers()[0]
	m.crash(away)
	m.must(m.leader(), appendItem())
	added := m.join("n4")
	m.transfer(added)
	back := m.open(away.ID())
	m.ready(back)
	require.Equal(t, 1, m.items(back))
}

// kept is where nodes keep their keys.
type kept struct {
	mu   sync.Mutex
	keys map[string][][32]byte
}

func (k *kept) edit(c *Config) {
	id := c.ID
	k.mu.Lock()
	defer k.mu.Unlock()
	if keys := k.keys[id]; keys != nil {
		c.Key, c.OtherKeys = keys[0], keys[1:]
	}
	c.KeepKeys = func(key [32]byte, others [][32]byte) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.keys[id] = append([][32]byte{key}, others...)
		return nil
	}
	c.GossipAddr = "127.0.0.1:0"
}

func (m *members) rotated() bool {
	r, err := m.leader().KeyRotation(m.context())
	return err == nil && r.Stage == 0
}

func TestClusterKeyRotatesUnderLoad(t *testing.T) {
	t.Parallel()
	k := &kept{keys: make(map[string][][32]byte)}
	m := newMembers(t, 3, k.edit)
	var written, failed atomic.Int64
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for _, n := range m.nodes {
		for range 2 {
			writers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					r, err := n.Propose(ctx, command(appendItem()))
					cancel()
					if err != nil || r.Err != nil {
						failed.Add(1)
					}
					written.Add(1)
				}
			})
		}
	}
	for round := range 2 {
		before := m.nodes["n1"].keys.All()
		require.NoError(t, m.followers()[0].RotateKey(m.context()))
		m.eventually(m.rotated)
		m.eventually(func() bool {
			for _, n := range m.nodes {
				if len(n.keys.All()) != 1 {
					return false
				}
			}
			return true
		})
		for _, n := range m.nodes {
			require.NotEqual(t, before, n.keys.All(), "round %d", round)
			require.Equal(t, m.nodes["n1"].keys.All(), n.keys.All())
			require.Equal(t, n.keys.All(), k.keys[n.ID()])
			require.Len(t, n.gossip.keyring.GetKeys(), 1)
		}
	}
	close(stop)
	writers.Wait()
	require.Zero(t, failed.Load(), "of %d writes", written.Load())
	t.Logf("%d writes while the key changed twice", written.Load())

	// The old key connects to nothing; the nodes start again with the new one.
	_, err := machine(t, "old", nil).Call(m.context(), m.leader().InternalAddr(), wire.Membership, nil)
	require.ErrorIs(t, err, link.ErrNotSent)
	again := m.followers()[0]
	m.crash(again)
	again = m.open(again.ID())
	m.ready(again)
	require.EqualValues(t, written.Load(), m.items(again))
	entries := 0
	for index := uint64(1); index <= again.raft.LastIndex(); index++ {
		var log raft.Log
		if again.stores.logs.GetLog(index, &log) == nil {
			entries++
			for _, key := range again.keys.All() {
				require.NotContains(t, string(log.Data), string(key[:]), "the key is not in the log")
			}
		}
	}
	require.Positive(t, entries)
}

func TestKeyRotationWaitsForAbsentMember(t *testing.T) {
	t.Parallel()
	k := &kept{keys: make(map[string][][32]byte)}
	m := newMembers(t, 3, k.edit)
	away := m.followers()[0]
	m.crash(away)
	require.NoError(t, m.leader().RotateKey(m.context()))
	require.NoError(t, m.leader().RotateKey(m.context()), "again: it goes on")
	m.eventually(func() bool {
		r, err := m.leader().KeyRotation(m.context())
		return err == nil && r.Stage == fsm.KeySpreads && fmt.Sprint(r.Waiting) == fmt.Sprint([]string{away.ID()})
	})
	m.must(m.leader(), appendItem())

	joined := m.open("n4", func(c *Config) { c.Key, c.OtherKeys = testKey, nil })
	err := m.leader().AddMember(m.context(), MemberSpec{ID: "n4", InternalAddr: joined.InternalAddr()})
	require.ErrorContains(t, err, "enrol again", "who would be left behind does not join")
	m.crash(joined)
	delete(m.nodes, "n4")

	back := m.open(away.ID())
	m.ready(back)
	m.eventually(m.rotated)
	m.eventually(func() bool { return len(back.keys.All()) == 1 && back.keys.All()[0] != testKey })
	m.join("n5", func(c *Config) { c.Key, c.OtherKeys = back.keys.All()[0], nil })
}

// What is sealed with the cluster's key can be opened by every member before and after
// the key has changed, and by nobody who has only the old one.
func TestVaultIsSealedAnewWhenTheKeyChanges(t *testing.T) {
	t.Parallel()
	k := &kept{keys: make(map[string][][32]byte)}
	m := newMembers(t, 3, k.edit)
	store := func(n *Node, name, plain string) {
		id, data, err := n.Seal(name, []byte(plain))
		require.NoError(t, err)
		require.NotContains(t, string(data), plain)
		m.must(n, &fsm.StoreSealed{Name: name, Key: id, Data: data})
	}
	opened := func(n *Node, name string) string {
		v, err := n.Read(m.context(), objects.Bucket{})
		require.NoError(t, err)
		s, ok := v.Sealed(name)
		if !ok {
			return "none"
		}
		plain, err := n.Unseal(s)
		require.NoError(t, err)
		return string(plain)
	}
	store(m.leader(), "a", "first")
	store(m.followers()[0], "b", "second")
	m.must(m.leader(), &fsm.StoreSealed{Name: "lost", Key: fsm.KeyID{1}, Data: []byte("nobody can open this")})
	before, ok := m.leader().FSM().View().Sealed("a")
	require.True(t, ok)
	moved := *before
	moved.Name = "b"
	_, err := m.leader().Unseal(&moved)
	require.Error(t, err, "it is sealed under its name")

	require.NoError(t, m.leader().RotateKey(m.context()))
	m.eventually(m.rotated)
	for _, n := range m.nodes {
		require.Equal(t, "first", opened(n, "a"))
		require.Equal(t, "second", opened(n, "b"))
		require.Equal(t, "none", opened(n, "lost"))
	}
	m.eventually(func() bool { return len(m.leader().keys.All()) == 1 })
	_, err = m.leader().Unseal(before)
	require.ErrorContains(t, err, "has not got", "the old key is forgotten")
	store(m.followers()[1], "c", "third")
	require.Equal(t, "third", opened(m.leader(), "c"))
}
