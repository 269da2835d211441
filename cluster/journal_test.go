package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// killed returns a copy of a node's data directory as a process that is killed leaves
// it: with what was written, and nothing put in order.
func (m *members) killed(n *Node) string {
	dir := filepath.Join(m.t.TempDir(), n.ID())
	require.NoError(m.t, os.CopyFS(dir, os.DirFS(filepath.Join(m.dir, n.ID()))))
	return dir
}

// alone returns a node that leads a cluster of itself and has made a list, the data
// directory that it leaves when it is killed, and in which of the journal's files its
// writes are.
func (m *members) alone() (n *Node, dir, journal string) {
	n = m.leader()
	for range 5 {
		m.must(n, appendItem())
	}
	dir = m.killed(n)
	bolt, err := openBolt(filepath.Join(dir, raftDirectory, logFile))
	require.NoError(m.t, err)
	defer func() { require.NoError(m.t, bolt.Close()) }()
	last, err := bolt.LastIndex()
	require.NoError(m.t, err)
	require.Less(m.t, last, n.raft.LastIndex(), "the journal is what has the newest entries")
	for _, name := range []string{"journal.0", "journal.1"} {
		path := filepath.Join(dir, raftDirectory, name)
		if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, appendItem().Data) {
			return n, dir, path
		}
	}
	require.FailNow(m.t, "the journal has no item")
	return nil, "", ""
}

// What is only in the journal is there for whoever starts the node again, and for
// whoever goes on from its disk as another cluster.
func TestKilledNodeHasWhatIsInItsJournal(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	n, dir, _ := m.alone()
	want, last := m.items(n), n.raft.LastIndex()
	m.crash(n)

	c := m.config(n.ID()).withDefaults()
	c.DataDir, c.Incarnation = dir, n.Incarnation()
	before := content(t, dir)
	r, err := OpenRemains(c)
	require.NoError(t, err)
	require.Equal(t, last, r.LastIndex)
	require.Equal(t, want, itemsIn(r.fsm.View()))
	require.NoError(t, r.Close())
	require.Equal(t, before, content(t, dir), "it is only read")

	again := m.open(n.ID(), func(c *Config) { c.DataDir, c.Bootstrap = dir, false })
	m.ready(again)
	require.Equal(t, want, m.items(again))
}

func TestDamagedJournalIsDetected(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	n, dir, journal := m.alone()
	m.crash(n)
	content, err := os.ReadFile(journal)
	require.NoError(t, err)
	content[bytes.Index(content, appendItem().Data)] ^= 1
	require.NoError(t, os.WriteFile(journal, content, 0o600))

	c := m.config(n.ID())
	c.DataDir, c.Bootstrap, c.Incarnation = dir, false, n.Incarnation()
	_, err = Open(m.context(), c)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "the journal of the log is damaged")
	_, err = OpenRemains(c)
	require.ErrorIs(t, err, ErrDamaged)
}
