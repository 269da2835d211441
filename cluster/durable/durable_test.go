package durable_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/cluster/durable"
)

func TestFileIsReplacedWithItsContentAndMode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, []byte("of before, and longer"), 0o644))
	require.NoError(t, durable.WriteFile(path, []byte("new"), 0o600))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "new", string(got))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), "not the old file's")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "no temporary file is left")
}

func TestFileThatCannotBeReplacedIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, os.Mkdir(path, 0o700))
	require.Error(t, durable.WriteFile(path, []byte("new"), 0o600))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "no temporary file is left")
	require.True(t, files[0].IsDir())
	require.Error(t, durable.WriteFile(filepath.Join(dir, "nowhere", "file"), nil, 0o600))
	require.Error(t, durable.SyncDir(filepath.Join(dir, "nowhere")))
}

func TestFreeBytes(t *testing.T) {
	free, err := durable.FreeBytes(t.TempDir())
	require.NoError(t, err)
	require.Positive(t, free)
	_, err = durable.FreeBytes(filepath.Join(t.TempDir(), "nowhere"))
	require.Error(t, err)
}
