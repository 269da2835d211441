package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/certificate"
	"lockstep/test/harness"
)

// The nodes that these pages start need other machines, or an authority: that their
// settings are good, and go together, is checked here. Nodes with such settings run in
// test/cluster, test/packages and server/acme.
func TestNodesOfThePagesHaveGoodSettings(t *testing.T) {
	here := t.TempDir()
	until := time.Now().Add(time.Hour)
	authority, err := certificate.NewAuthority("test", until)
	require.NoError(t, err)
	cert, key, err := authority.Issue(until, "10.0.0.1")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(here, "cert.pem"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(here, "key.pem"), key, 0o600))
	found := 0
	for _, name := range []string{"tls", "scaling", "commands"} {
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", name+".md"))
		require.NoError(t, err)
		whole := strings.NewReplacer("\\\n", " ", "/etc/lockstep/", here+"/", "/var/lib/lockstep", here+"/node", " …", "").Replace(string(page))
		for _, m := range regexp.MustCompile(`(?m)^ *lockstep serve (.*)$`).FindAllStringSubmatch(whole, -1) {
			found++
			cmd := exec.CommandContext(t.Context(), harness.Binary(), append([]string{"config", "check", "--config", "none"}, strings.Fields(m[1])...)...)
			cmd.Env = append(os.Environ(), "LOCKSTEP_ACCOUNT_SID=AC00000000000000000000000000000001", "LOCKSTEP_AUTH_TOKEN=q7Zk2Wd9Rt4Yb6Nc8Mx3Lv5P", "GORACE=atexit_sleep_ms=0")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s\n%s", name, m[0], out)
		}
	}
	require.GreaterOrEqual(t, found, 6)
}

// What the documents have make do is a target.
func TestDocumentsNameTargetsOfMake(t *testing.T) {
	root := filepath.Join("..", "..")
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllSubmatch(makefile, -1) {
		targets[string(m[1])] = true
	}
	found := 0
	for _, glob := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, glob))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, m := range regexp.MustCompile("(?m)(?:^ *|`)make ([a-z][a-z -]*)").FindAllStringSubmatch(string(text), -1) {
				for target := range strings.FieldsSeq(m[1]) {
					found++
					require.True(t, targets[target], "%s: make %s", file, m[1])
				}
			}
		}
	}
	require.Greater(t, found, 30)
}
