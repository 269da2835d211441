package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// The commands of docs/migration.md do what the page says, one after the other: from
// a cluster in Twilio's place, to an empty one.
func TestMigrationPageRuns(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "migration.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 7)
	there, c := harness.Start(t, harness.Config{Nodes: 1}), harness.Start(t, harness.Config{Nodes: 1})
	for _, args := range [][]string{
		{"doc", "create", "config", `{"colour":"red"}`}, {"list", "create", "journey"}, {"list", "push", "journey", "1", "2"}, {"map", "create", "scores"},
		{"map", "set", "scores", "alice", "3"}, {"perm", "set", "map/scores", "alice", "--read"}, {"stream", "create", "moves"},
	} {
		out, err := there.Run(t.Context(), append(args, "--data-dir", there.Nodes[0].Dir)...)
		require.NoError(t, err, out)
	}
	here := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(here, "twilio.token"), []byte(there.Account.AuthToken+"\n"), 0o600))
	key, err := there.Run(t.Context(), "list", "get", "journey", "--json", "--data-dir", there.Nodes[0].Dir)
	require.NoError(t, err, key)
	names := strings.NewReplacer("https://sync.twilio.com", there.Nodes[0].URL, "AC00000000000000000000000000000001", there.Account.SID)
	run := 0
	for _, block := range blocks {
		for _, line := range strings.Split(strings.TrimSpace(names.Replace(block[1])), "\n") {
			args := strings.Fields(line)
			require.Equal(t, "lockstep", args[0])
			cmd := exec.Command(harness.Binary(), args[1:]...)
			cmd.Dir = here
			cmd.Env = append(c.Environment(), "LOCKSTEP_DATA_DIR="+c.Nodes[0].Dir, "LOCKSTEP_API_KEY=SK"+strings.Repeat("0", 32), "LOCKSTEP_API_SECRET=secret")
			if args[1] == "mirror" && !strings.Contains(line, "--until-switch") {
				untilCopied(t, cmd, here)
				run++
				continue
			}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", line, out)
			if !strings.Contains(line, "--dry-run") { // which finds nothing here yet
				require.NotContains(t, string(out), "differs: ", line)
			}
			if strings.Contains(line, "--until-switch") {
				require.Contains(t, string(out), "it is safe to switch")
			}
			run++
		}
	}
	require.Greater(t, run, 9)
	moved, err := c.Run(t.Context(), "list", "get", "journey", "--json", "--data-dir", c.Nodes[0].Dir)
	require.NoError(t, err, moved)
	for _, member := range []string{"sid", "revision", "date_created"} {
		find := regexp.MustCompile(`"` + member + `": "[^"]*"`)
		require.Equal(t, find.FindString(key), find.FindString(moved))
	}
}

// untilCopied runs a mirror until everything is copied, and then does what a person
// does to switch.
func untilCopied(t *testing.T, cmd *exec.Cmd, here string) {
	t.Helper()
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	start(t, cmd)
	harness.Until(t, "everything is copied", func() error {
		states, err := filepath.Glob(filepath.Join(here, "lockstep-import-AC*.state"))
		if err != nil || len(states) != 1 {
			return os.ErrNotExist
		}
		b, err := os.ReadFile(states[0])
		if err == nil && !strings.Contains(string(b), `"finished":true`) {
			err = os.ErrNotExist
		}
		return err
	})
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait(), "%s", &said)
	require.Contains(t, said.String(), "it is safe to switch")
}
