package cluster

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/durable"
)

// fillLog writes entries of 1 MiB and cuts off the first of them.
func fillLog(t *testing.T, dir string, entries, cut uint64) {
	t.Helper()
	bolt, err := openBolt(filepath.Join(dir, logFile))
	require.NoError(t, err)
	require.NoError(t, bolt.SetUint64(currentTermKey, 7))
	for i := uint64(1); i <= entries; i++ {
		require.NoError(t, bolt.StoreLog(&raft.Log{Index: i, Term: 7, Data: bytes.Repeat([]byte{byte(i)}, 1<<20)}))
	}
	if cut > 0 {
		require.NoError(t, bolt.DeleteRange(1, cut))
	}
	require.NoError(t, bolt.Close())
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	return info.Size()
}

func TestMostlyFreeLogIsCompactedAtStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, logFile)
	fillLog(t, dir, 90, 80)
	before := fileSize(t, path)
	require.Greater(t, before, int64(compactFrom))

	// A copy that a crash left is no part of it.
	require.NoError(t, os.WriteFile(path+compactedSuffix, []byte("cut off"), 0o600))

	bolt, err := openLog(dir, durable.FreeBytes, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer bolt.Close()
	require.Less(t, fileSize(t, path), before/2)
	require.NoFileExists(t, path+compactedSuffix)
	first, err := bolt.FirstIndex()
	require.NoError(t, err)
	last, err := bolt.LastIndex()
	require.NoError(t, err)
	require.EqualValues(t, []uint64{81, 90}, []uint64{first, last})
	term, err := bolt.GetUint64(currentTermKey)
	require.NoError(t, err)
	require.EqualValues(t, 7, term)
	for i := first; i <= last; i++ {
		var entry raft.Log
		require.NoError(t, bolt.GetLog(i, &entry))
		require.Equal(t, bytes.Repeat([]byte{byte(i)}, 1<<20), entry.Data)
	}
	require.NoError(t, bolt.StoreLog(&raft.Log{Index: 91}), "it is written to")
}

func TestLogIsCompactedOnlyWhenLargeMostlyFreeAndThereIsRoom(t *testing.T) {
	for name, c := range map[string]struct {
		entries, cut uint64
		room         int64
	}{
		"small": {entries: 20, cut: 19, room: 1 << 40}, "mostly used": {entries: 90, cut: 30, room: 1 << 40},
		"used to a third": {entries: 90, cut: 60, room: 1 << 40},
		"no room":         {entries: 90, cut: 80, room: compactRoom},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fillLog(t, dir, c.entries, c.cut)
			before, err := os.Stat(filepath.Join(dir, logFile))
			require.NoError(t, err)
			bolt, err := openLog(dir, func(string) (int64, error) { return c.room, nil }, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.NoError(t, bolt.Close())
			after, err := os.Stat(filepath.Join(dir, logFile))
			require.NoError(t, err)
			require.True(t, os.SameFile(before, after), "it was replaced")
		})
	}
}

func TestFailedCompactionKeepsTheLog(t *testing.T) {
	dir := t.TempDir()
	fillLog(t, dir, 90, 80)
	path := filepath.Join(dir, logFile)
	other, err := openBolt(path) // holds the lock that compacting needs
	require.NoError(t, err)
	before := fileSize(t, path)
	require.ErrorContains(t, compact(path), "timeout")
	require.NoError(t, other.Close())
	require.Equal(t, before, fileSize(t, path))
	require.NoFileExists(t, path+compactedSuffix)
}
