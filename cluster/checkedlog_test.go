package cluster

import (
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
)

func batchAt(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeBatch(int64(index), [][]byte{{1, 2, 3}})}
}

func TestLogEntryRoundTrip(t *testing.T) {
	kept := raft.NewInmemStore()
	c := &checkedLog{LogStore: kept}
	noop := &raft.Log{Index: 4, Term: 2, Type: raft.LogNoop}
	require.NoError(t, c.StoreLogs([]*raft.Log{batchAt(2), batchAt(3), noop}))
	require.Empty(t, noop.Extensions, "raft's own entry is left as it is")
	_, err := c.verify(2, 4, 1)
	require.NoError(t, err)
	var l raft.Log
	require.NoError(t, c.GetLog(3, &l))
	require.Equal(t, *batchAt(3), l)
	require.ErrorIs(t, c.GetLog(9, &l), raft.ErrLogNotFound)
	_, err = c.verify(1, 4, 0)
	require.ErrorIs(t, err, ErrSnapshots, "an entry is missing")
	term, err := c.verify(1, 4, 1)
	require.NoError(t, err, "a snapshot covers the missing one")
	require.EqualValues(t, 2, term)
}

func TestAlteredLogEntryIsDetected(t *testing.T) {
	for what, alter := range map[string]func(*raft.Log){
		"data":     func(l *raft.Log) { l.Data[3] ^= 1 },
		"term":     func(l *raft.Log) { l.Term++ },
		"kind":     func(l *raft.Log) { l.Type = raft.LogNoop },
		"checksum": func(l *raft.Log) { l.Extensions[0] ^= 1 },
		"none":     func(l *raft.Log) { l.Extensions = nil },
	} {
		kept := raft.NewInmemStore()
		var told error
		c := &checkedLog{LogStore: kept, damaged: func(err error) { told = err }}
		require.NoError(t, c.StoreLog(batchAt(2)))
		var l raft.Log
		require.NoError(t, kept.GetLog(2, &l))
		altered := l
		altered.Data = append([]byte(nil), l.Data...)
		altered.Extensions = append([]byte(nil), l.Extensions...)
		alter(&altered)
		require.NoError(t, kept.StoreLog(&altered))
		require.ErrorIs(t, c.GetLog(2, &l), ErrDamaged, what)
		require.ErrorIs(t, told, ErrDamaged, what)
		_, err := c.verify(2, 2, 2)
		require.ErrorIs(t, err, ErrDamaged, what)
	}
}

func TestCorruptBatchIsNotStored(t *testing.T) {
	kept := raft.NewInmemStore()
	c := &vettedLog{kept, nil}
	spoilt := batchAt(2)
	spoilt.Data[4] ^= 1
	require.ErrorIs(t, c.StoreLog(spoilt), fsm.ErrCommand)
	last, err := kept.LastIndex()
	require.NoError(t, err)
	require.Zero(t, last)
}

func TestGapBetweenSnapshotAndLogIsDetected(t *testing.T) {
	logs := raft.NewInmemStore()
	c := &checkedLog{LogStore: logs}
	stable := &checkedStable{StableStore: raft.NewInmemStore()}
	require.NoError(t, stable.SetUint64(currentTermKey, 1))
	s := &stores{logs: c, checked: c, stable: stable, snapshots: raft.NewInmemSnapshotStore()}
	require.NoError(t, s.verify(), "a new node has neither")
	require.NoError(t, c.StoreLogs([]*raft.Log{batchAt(1), batchAt(2)}))
	require.NoError(t, s.verify(), "the whole log")
	require.NoError(t, logs.DeleteRange(1, 1))
	require.ErrorIs(t, s.verify(), ErrSnapshots, "the log begins behind its beginning, and there is no snapshot")

	_, transport := raft.NewInmemTransport("a")
	sink, err := s.snapshots.Create(raft.SnapshotVersionMax, 1, 1, raft.Configuration{}, 1, transport)
	require.NoError(t, err)
	require.NoError(t, sink.Close())
	require.NoError(t, s.verify(), "a snapshot up to the log")
	require.NoError(t, logs.DeleteRange(2, 2))
	require.NoError(t, c.StoreLog(batchAt(3)))
	require.ErrorIs(t, s.verify(), ErrSnapshots, "there is a gap")
}
