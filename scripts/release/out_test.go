package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only an earlier release is replaced; whatever else is there stays.
func TestOnlyAReleaseIsReplaced(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "dist")
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	require.NoError(t, replaceable(dir), "it is not there")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, replaceable(dir), "it is empty")

	write("mine.txt", "x")
	require.ErrorContains(t, replaceable(dir), filepath.Join(dir, "mine.txt")+" is no file of a release")
	write(sumsFile, "00  a.tar.gz\n")
	require.ErrorContains(t, replaceable(dir), "mine.txt")
	require.NoError(t, os.Remove(filepath.Join(dir, "mine.txt")))
	write("a.tar.gz", "old")
	require.NoError(t, replaceable(dir))

	staged, err := stage(dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(staged, "b.tar.gz"), []byte("new"), 0o644))
	require.NoError(t, (&release{out: staged}).replace(dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "b.tar.gz", entries[0].Name())
	left, err := os.ReadDir(above)
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing beside it")

	require.NoError(t, os.Remove(filepath.Join(dir, "b.tar.gz")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, sumsFile), 0o755))
	require.Error(t, replaceable(dir), "a directory is none of its files")
}
