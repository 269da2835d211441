package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// What the README says of commands, flags and variables is true of the program.
func TestReadmeNamesWhatExists(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	page, err := os.ReadFile(backupPage)
	require.NoError(t, err)
	readme := string(b) + string(page)

	var help strings.Builder
	for _, command := range []string{"", "serve", "dev", "init", "join", "leave", "recover", "backup", "backup verify", "restore", "status", "verify", "snapshot", "keys create", "keys list", "keys revoke", "token create", "token check", "doc get", "map set", "stream publish", "watch", "context add", "explain", "bench"} {
		out, err := exec.Command(harness.Binary(), append(strings.Fields(command), "--help")...).Output()
		require.NoError(t, err, command)
		help.Write(out)
	}
	for _, pattern := range []string{`LOCKSTEP_[A-Z]+(_[A-Z]+)*`, `--[a-z]+(-[a-z]+)*`} {
		named := regexp.MustCompile(pattern).FindAllString(strings.ReplaceAll(readme, "--data-urlencode", ""), -1)
		require.NotEmpty(t, named)
		for _, name := range named {
			require.Contains(t, help.String(), name)
		}
	}
	commands := regexp.MustCompile("`lockstep ([a-z]+)").FindAllStringSubmatch(readme, -1)
	require.NotEmpty(t, commands)
	for _, c := range commands {
		require.NoError(t, exec.Command(harness.Binary(), c[1], "--help").Run(), c[0])
	}
}
