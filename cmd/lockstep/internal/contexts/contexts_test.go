package contexts_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/cmd/lockstep/internal/contexts"
)

func TestContextsAreKeptForTheirOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir)
	f, err := contexts.Load()
	require.NoError(t, err)
	require.Empty(t, f.Names(), "there is no file yet")

	prod := contexts.Context{URLs: []string{"https://sync.example.com"}, AccountSID: "AC1", AuthToken: "t", Service: "orders"}
	f.Contexts["prod"], f.Contexts["dev"], f.Current = prod, contexts.Context{}, "prod"
	require.NoError(t, f.Save())
	again, err := contexts.Load()
	require.NoError(t, err)
	require.Equal(t, f, again)
	require.Equal(t, []string{"dev", "prod"}, again.Names())
	got, err := again.Get("prod")
	require.NoError(t, err)
	require.Equal(t, prod, got)
	_, err = again.Get("nowhere")
	require.ErrorContains(t, err, `no context "nowhere"`)

	path, err := contexts.Path()
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	info, err = os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	require.NoError(t, os.Chmod(path, 0o640))
	_, err = contexts.Load()
	require.ErrorContains(t, err, "chmod 600 "+path)
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err = contexts.Load()
	require.ErrorContains(t, err, path)
}
