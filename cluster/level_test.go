package cluster

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
)

func TestLevelIsThatOfOldestMember(t *testing.T) {
	servers := []raft.Server{{ID: "a"}, {ID: "b", Suffrage: raft.Nonvoter}}
	report := func(a, b fsm.Level) map[string]NodeStatus {
		return map[string]NodeStatus{"a": {Newest: a}, "b": {Newest: b}}
	}
	require.Equal(t, fsm.Newest, commonLevel(servers, report(fsm.Newest, fsm.Newest)))
	require.Equal(t, fsm.Newest, commonLevel(servers, report(fsm.Newest, fsm.Newest+1)), "a level that this node does not know is not its to raise")
	require.Zero(t, commonLevel(servers, report(fsm.Newest, 0)), "nor one that a nonvoter does not know")
	require.Zero(t, commonLevel(servers, map[string]NodeStatus{"a": {Newest: fsm.Newest}}), "who does not answer may be old")
}

func newerEntry(index uint64) *raft.Log {
	newer := binary.AppendUvarint(nil, uint64(fsm.Newest)+1)
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeBatch(1, [][]byte{newer})}
}

func TestEntryOfNewerReleaseIsRefused(t *testing.T) {
	var told error
	logs := &vettedLog{raft.NewInmemStore(), func(err error) { told = err }}
	require.ErrorIs(t, logs.StoreLog(newerEntry(1)), fsm.ErrNewer)
	require.ErrorIs(t, told, fsm.ErrNewer, "the node ends, in words")
	last, err := logs.LastIndex()
	require.NoError(t, err)
	require.Zero(t, last)
}

func TestStartRefusesLogOfNewerRelease(t *testing.T) {
	logs := &checkedLog{LogStore: raft.NewInmemStore()}
	entry := newerEntry(1)
	entry.Extensions = checksum(entry)
	require.NoError(t, logs.LogStore.StoreLog(entry))
	err := (&stores{checked: logs, snapshots: raft.NewInmemSnapshotStore()}).verify()
	require.ErrorIs(t, err, fsm.ErrNewer)
	require.NotErrorIs(t, err, ErrDamaged)
}

func TestStartRefusesSnapshotOfNewerRelease(t *testing.T) {
	dir := t.TempDir()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, nil)
	require.NoError(t, err)
	_, nowhere := raft.NewInmemTransport("")
	write := func(index uint64, content []byte) {
		sink, err := snapshots.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, index, nowhere)
		require.NoError(t, err)
		_, err = sink.Write(content)
		require.NoError(t, err)
		require.NoError(t, sink.Close())
	}
	var old bytes.Buffer
	require.NoError(t, fsm.New(fsm.Config{}).WriteSnapshot(&old))
	write(1, old.Bytes())
	s := &stores{checked: &checkedLog{LogStore: raft.NewInmemStore()}, stable: &checkedStable{StableStore: raft.NewInmemStore()}, snapshots: snapshots}
	require.NoError(t, s.stable.SetUint64([]byte("CurrentTerm"), 1))
	require.NoError(t, s.verify())
	write(2, binary.AppendUvarint([]byte("LOCKSTEP"), uint64(fsm.Newest)+1))
	err = s.verify()
	require.ErrorIs(t, err, fsm.ErrNewer, "the older one is no way out")
	require.NotErrorIs(t, err, ErrSnapshots)
}

func TestOlderReleaseCannotJoin(t *testing.T) {
	n := &Node{fsm: fsm.New(fsm.Config{})}
	require.NoError(t, n.refuseOld(NodeStatus{Newest: fsm.Newest}))
	require.ErrorIs(t, n.refuseOld(NodeStatus{ID: "old", Newest: fsm.Level1 - 1}), ErrOldRelease)
}
