package cluster

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/link"
)

// recoverAs does what lockstep recover does with a node that does not run.
func (m *members) recoverAs(n *Node, clusterID string, key [32]byte) (incarnation string, past Past) {
	c := m.config(n.ID())
	c.Incarnation = n.Incarnation()
	r, err := OpenRemains(c)
	require.NoError(m.t, err)
	defer func() { require.NoError(m.t, r.Close()) }()
	incarnation, err = r.Recover(clusterID, key)
	require.NoError(m.t, err)
	return incarnation, Past{ClusterID: "test", Keys: [][32]byte{testKey}, Node: n.ID(), NodeKey: r.NodeKey}
}

// isTold waits until a member of the old cluster has learnt what became of it.
func (m *members) isTold(n *Node, as string) {
	select {
	case <-n.Failed():
	case <-time.After(patience):
		require.FailNow(m.t, "nobody tells it")
	}
	var recovered *RecoveredError
	require.ErrorAs(m.t, n.Failure(), &recovered)
	require.Equal(m.t, RecoveredError{Cluster: "test", As: as}, *recovered)
	m.crash(n)
}

// content is the sum of all files of a directory.
func content(t *testing.T, dir string) (sum [32]byte) {
	h := sha256.New()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		h.Write([]byte(path))
		h.Write(b)
		return err
	}))
	return [32]byte(h.Sum(nil))
}

var newKey = [32]byte{7}

func TestRecoverMakesNewClusterFromSurvivor(t *testing.T) {
	t.Parallel()
	for _, snapshot := range []string{"log alone", "snapshot and log"} {
		t.Run(snapshot, func(t *testing.T) {
			m := newMembers(t, 3, nil)
			for range 5 {
				m.must(m.leader(), appendItem())
			}
			survivor := m.followers()[0]
			if snapshot != "log alone" {
				require.NoError(t, survivor.Snapshot(m.context()))
				m.must(m.leader(), appendItem())
			}
			want := m.items(survivor)
			for _, n := range m.nodes {
				m.crash(n)
			}
			before := content(t, filepath.Join(m.dir, survivor.ID()))
			c := m.config(survivor.ID())
			c.Incarnation = survivor.Incarnation()
			r, err := OpenRemains(c)
			require.NoError(t, err)
			require.Equal(t, "test", r.ClusterID)
			require.Len(t, r.Members, 3)
			require.NotZero(t, r.LastTerm)
			require.False(t, r.Time.IsZero())
			require.NoError(t, r.Close())
			require.Equal(t, before, content(t, filepath.Join(m.dir, survivor.ID())), "looking changes nothing")

			incarnation, past := m.recoverAs(survivor, "another", newKey)
			require.NotEqual(t, survivor.Incarnation(), incarnation)
			require.NoError(t, FinishRecovery(c.DataDir))
			require.NoError(t, FinishRecovery(c.DataDir), "once more")
			old := m.nodes
			m.nodes = map[string]*Node{survivor.ID(): survivor}
			alone := m.open(survivor.ID(), func(c *Config) {
				c.ClusterID, c.Key, c.Incarnation = "another", newKey, incarnation
				c.Past = []Past{past}
			})
			m.ready(alone)
			require.Equal(t, want, m.items(alone))
			require.Greater(t, alone.FSM().View().Index(), r.LastIndex)
			require.GreaterOrEqual(t, alone.FSM().View().Time(), r.Time.UnixMilli())
			m.must(alone, appendItem())

			joined := m.join("n4", func(c *Config) { c.ClusterID, c.Key = "another", newKey })
			m.ready(joined)
			require.Equal(t, want+1, m.items(joined))
			for id, n := range old {
				if id != survivor.ID() {
					m.nodes[id] = n // for its address
					m.isTold(m.open(id), "another")
					delete(m.nodes, id)
				}
			}
			require.Len(t, alone.Members(), 2)
		})
	}
}

// Whatever a crash leaves of a recovery, a repetition finishes it, or the old
// state stands.
func TestInterruptedRecoveryIsRepeatable(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	n := m.leader()
	m.must(n, appendItem())
	m.crash(n)
	dir := m.config("n1").DataDir
	before := content(t, filepath.Join(dir, raftDirectory))
	for range 2 { // the second finds what the first left
		m.recoverAs(n, "another", newKey)
		require.Equal(t, before, content(t, filepath.Join(dir, raftDirectory)), "not finished: the old state stands")
	}
	old := m.open("n1", func(c *Config) { c.Incarnation = n.Incarnation() })
	m.ready(old)
	require.Equal(t, 1, m.items(old))
	m.crash(old)

	incarnation, _ := m.recoverAs(n, "another", newKey)
	require.NoError(t, PutAside(dir)) // cut off in the middle of FinishRecovery
	aside := content(t, filepath.Join(dir, asideDirectory))
	require.NoError(t, FinishRecovery(dir))
	require.Equal(t, aside, content(t, filepath.Join(dir, asideDirectory)), "the old state is kept")
	again := m.open("n1", func(c *Config) { c.ClusterID, c.Key, c.Incarnation = "another", newKey, incarnation })
	m.ready(again)
	require.Equal(t, 1, m.items(again))
}

func TestRecoverRefusesUnusableState(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	n := m.leader()
	_, err := OpenRemains(m.config("n1"))
	require.ErrorContains(t, err, "another process")
	m.crash(n)

	c := m.config("n1")
	c.DataDir = t.TempDir()
	_, err = OpenRemains(c)
	require.ErrorIs(t, err, ErrNoState)
	waiting := m.open("n2")
	m.crash(waiting)
	_, err = OpenRemains(m.config("n2"))
	require.ErrorIs(t, err, ErrNoState)

	c = m.config("n1")
	c.Incarnation = "another"
	_, err = OpenRemains(c)
	require.ErrorIs(t, err, ErrStateLost)
	require.NoError(t, markLeft(c.DataDir))
	_, err = OpenRemains(c)
	require.ErrorIs(t, err, ErrLeft)
}

// A machine that was removed, which has only the cluster's key, cannot talk
// members out of their cluster.
func TestRecoveryNoticeIsBelievedFromMembersOnly(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, func(c *Config) { c.TimeoutScale = 2 })
	leader, gone := m.leader(), m.followers()[0]
	m.crash(gone)
	stranger := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	at := m.nodes[gone.ID()].InternalAddr()
	credential, err := link.NewCredential("elsewhere", gone.ID(), stranger, newKey)
	require.NoError(t, err)
	require.NoError(t, credential.Succeed([]Past{{ClusterID: "test", Keys: [][32]byte{testKey}, Node: gone.ID(), NodeKey: stranger}}))
	port, err := link.Listen(link.Config{Bind: at, Credential: credential, Logger: leader.config.Logger})
	require.NoError(t, err)
	defer port.Close()
	m.eventually(func() bool { // a connection to the one that is gone breaks first
		_, err := leader.survey.Of(m.context(), at)
		var recovered *RecoveredError
		return errors.As(err, &recovered)
	})
	select {
	case <-leader.Failed():
		require.FailNow(t, "and is believed", leader.Failure())
	case <-time.After(2 * time.Second):
	}
	m.must(leader, appendItem())
}
