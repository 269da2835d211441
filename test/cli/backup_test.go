package cli

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
	"lockstep/test/ports"
)

var backupPage = filepath.Join("..", "..", "docs", "backup.md")

// The commands of docs/backup.md do what the page says, one block after the other,
// with directories of the test in the place of the machine's: a running cluster's,
// a node's that is to make backups itself, and an empty one.
func TestBackupPageRuns(t *testing.T) {
	page, err := os.ReadFile(backupPage)
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 3)
	c := harness.Start(t, harness.Config{Nodes: 1})
	here := t.TempDir()
	made, restored, backups := filepath.Join(here, "made"), filepath.Join(here, "restored"), filepath.Join(here, "backups")
	out, err := c.Run(t.Context(), "init", "--data-dir", made)
	require.NoError(t, err, out)
	for i, dataDir := range []string{c.Nodes[0].Dir, made, restored} {
		commands := strings.NewReplacer("\\\n", " ", "/var/lib/lockstep", dataDir, "/var/backups/lockstep", backups).Replace(blocks[i][1])
		for _, line := range strings.Split(strings.TrimSpace(commands), "\n") {
			line, _, _ = strings.Cut(line, " #")
			args := strings.Fields(line)
			require.Equal(t, "lockstep", args[0])
			cmd := exec.Command(harness.Binary(), args[1:]...)
			cmd.Dir, cmd.Env = here, c.Environment()
			if args[1] == "serve" {
				untilReady(t, cmd)
				continue
			}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", line, out)
		}
	}
	require.FileExists(t, filepath.Join(here, "sync.backup"))
	own, err := filepath.Glob(filepath.Join(backups, "*.backup"))
	require.NoError(t, err)
	require.Len(t, own, 1, "one that was due at once")
}

// untilReady runs a node until it serves clients and has made the backup that is
// due, if it makes any.
func untilReady(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	port, err := ports.Take(1)
	require.NoError(t, err)
	cmd.Args = append(cmd.Args, "--http-port", fmt.Sprint(port))
	require.NoError(t, cmd.Start())
	defer func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
	}()
	harness.Until(t, "the node is ready", func() error {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", port))
		if err != nil {
			return err
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", r.StatusCode)
		}
		for at, arg := range cmd.Args {
			if arg == "--backup-dir" {
				if made, err := filepath.Glob(filepath.Join(cmd.Args[at+1], "*.backup")); err != nil || len(made) == 0 {
					return fmt.Errorf("no backup yet: %v", err)
				}
			}
		}
		return nil
	})
}
