package cluster

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

func TestMeterCountsNewestEntries(t *testing.T) {
	m := &meter{LogStore: raft.NewInmemStore()}
	_, ok := m.within(1000)
	require.False(t, ok)
	write := func(count, size int) {
		for range count {
			require.NoError(t, m.StoreLog(&raft.Log{Index: m.last + 1, Data: make([]byte, size)}))
		}
	}
	within := func(bytes uint64) float64 {
		entries, ok := m.within(bytes)
		require.True(t, ok)
		return float64(entries)
	}
	write(10_000, 100)
	require.InDelta(t, 10, within(1000), 1)
	require.InDelta(t, 5000, within(500_000), 100)
	require.InDelta(t, 100_000, within(10_000_000), 1000, "older ones count as those that were seen")
	write(1000, 10_000)
	require.InDelta(t, 500, within(5_000_000), 30)
	require.InDelta(t, 1000+5000, within(10_000_000+500_000), 300)
}

func TestLogGrowsWithTheState(t *testing.T) {
	const mib, most = 1 << 20, 256 << 20
	require.EqualValues(t, 64*mib, logBytes(0, most))
	require.EqualValues(t, 64*mib, logBytes(512*mib, most))
	require.EqualValues(t, 128*mib, logBytes(1024*mib, most))
	require.EqualValues(t, most, logBytes(8192*mib, most))
	require.EqualValues(t, mib, logBytes(8192*mib, mib), "whoever runs the node has the last word")
}

// TestLogIsBoundedInBytes writes large entries: raft's bounds, which count
// entries, keep to what fits.
func TestLogIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	const size, trailing = 100 << 10, 8 << 20
	m := newMembers(t, 1, func(c *Config) { c.TrailingBytes = trailing })
	n := m.leader()
	before := n.raft.ReloadableConfig()
	data := bytes.Repeat([]byte("1"), size)
	doc := newSID(objects.KindDocument)
	m.must(n, &fsm.CreateObject{SID: doc})
	for range 200 {
		m.must(n, &fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: doc}, Data: data})
	}
	require.NoError(t, n.adaptLog())
	now := n.raft.ReloadableConfig()
	require.InDelta(t, trailing/size, float64(now.TrailingLogs), 10)
	require.Equal(t, now.TrailingLogs, now.SnapshotThreshold)
	require.Equal(t, before.ElectionTimeout, now.ElectionTimeout)
	require.NoError(t, n.Snapshot(m.context()))
	m.eventually(func() bool {
		first, err := n.stores.logs.FirstIndex()
		require.NoError(t, err)
		last, err := n.stores.logs.LastIndex()
		require.NoError(t, err)
		return (last-first)*size <= trailing+10*size
	})
}
