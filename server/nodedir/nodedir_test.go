package nodedir_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/nodedir"
)

func TestRecordIsKeptForItsOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	require.NoError(t, nodedir.Make(dir))
	_, err := nodedir.Load(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)

	want := &nodedir.Record{ID: "n1", ClusterID: "c", Seeds: []string{"127.0.0.1:1"}, AuthToken: "secret"}
	require.NoError(t, want.Save(dir))
	want.HTTPURL = "http://127.0.0.1:1"
	require.NoError(t, want.Save(dir))
	got, err := nodedir.Load(dir)
	require.NoError(t, err)
	require.Equal(t, want, got)

	info, err := os.Stat(filepath.Join(dir, "node.json"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "no temporary file is left")
}

func TestMakeClosesTheDirectoryToOthers(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, nodedir.Make(dir))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "something"), nil, 0o600))
	require.NoError(t, os.Chmod(dir, 0o755))
	require.ErrorIs(t, nodedir.Make(dir), nodedir.ErrOpen)
}

func TestLoadNamesABrokenFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "node.json"), []byte("{"), 0o600))
	_, err := nodedir.Load(dir)
	require.ErrorContains(t, err, "node.json")
}

func TestOccupy(t *testing.T) {
	dir := t.TempDir()
	_, running := nodedir.Running(dir)
	require.False(t, running)
	release, err := nodedir.Occupy(dir)
	require.NoError(t, err)
	pid, running := nodedir.Running(dir)
	require.True(t, running)
	require.Equal(t, os.Getpid(), pid)
	_, err = nodedir.Occupy(dir)
	require.ErrorIs(t, err, nodedir.ErrRunning)
	release()
	_, running = nodedir.Running(dir)
	require.False(t, running)
}

func TestPIDFileOfKilledProcessIsNotRunning(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pid"), []byte("1\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
	_, running := nodedir.Running(dir)
	require.False(t, running)
}

func TestFixPort(t *testing.T) {
	kept, err := nodedir.FixPort("127.0.0.1:7000")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:7000", kept)

	chosen, err := nodedir.FixPort("127.0.0.1:0")
	require.NoError(t, err)
	require.True(t, nodedir.Free(chosen))
	l, err := net.Listen("tcp", chosen)
	require.NoError(t, err)
	require.False(t, nodedir.Free(chosen))
	require.NoError(t, l.Close())
	p, err := net.ListenPacket("udp", chosen)
	require.NoError(t, err)
	require.False(t, nodedir.Free(chosen))
	require.NoError(t, p.Close())

	_, err = nodedir.FixPort("no port")
	require.Error(t, err)
}
