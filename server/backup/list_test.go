package backup

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestList(t *testing.T) {
	dir := t.TempDir()
	s := &Schedule{Config: Config{Plan: Plan{Dir: dir}}, prefix: "c_n1_"}
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, content := range map[string]string{s.name(first): "12", s.name(first.Add(time.Hour)): "123", "c_n2_20260102T030405.000Z.backup": "other", "note": ""} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	made, err := s.List()
	require.NoError(t, err)
	require.Equal(t, []Made{
		{Name: s.name(first.Add(time.Hour)), At: first.Add(time.Hour), Bytes: 3}, {Name: s.name(first), At: first, Bytes: 2},
	}, made, "its own, the newest first")
	s.Dir = filepath.Join(dir, "none")
	made, err = s.List()
	require.NoError(t, err)
	require.Empty(t, made)
}
