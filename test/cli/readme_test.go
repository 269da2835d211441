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

// pages are those that name what the program has, besides the README.
var pages = []string{"backup", "commands", "promises"}

// What the README and these pages say of commands, flags and variables is true of the
// program. The README is one page.
func TestReadmeNamesWhatExists(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	readme := string(b)
	require.Less(t, strings.Count(readme, "\n"), 100, "one page")
	start, err := os.ReadFile(filepath.Join("..", "..", "docs", "getting-started.md"))
	require.NoError(t, err)
	app := regexp.MustCompile("(?s)```js\n.*?```").FindString(readme)
	require.NotEmpty(t, app)
	require.Contains(t, string(start), app, "the first app, which is run from there")
	for _, name := range pages {
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", name+".md"))
		require.NoError(t, err)
		readme += string(page)
	}

	var help strings.Builder
	for _, command := range []string{"", "serve", "dev", "init", "join", "leave", "recover", "backup", "backup verify", "restore", "status", "verify", "snapshot", "import", "keys create", "keys list", "keys revoke", "token create", "token check", "doc get", "map set", "stream publish", "watch", "context add", "explain", "bench", "health", "keys rotate-account", "keys rotate-cluster-key"} {
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

// Links between the documents lead somewhere, and to every document leads one.
func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	root := filepath.Join("..", "..")
	reached := map[string]bool{}
	for _, glob := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, glob))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, link := range regexp.MustCompile(`\]\(([^)# ]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
				if !strings.Contains(link[1], ":") {
					to := filepath.Join(filepath.Dir(file), link[1])
					_, err := os.Stat(to)
					require.NoError(t, err, "%s leads to %s", file, link[1])
					reached[to] = reached[to] || to != file
				}
			}
		}
	}
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	for _, d := range documents {
		require.True(t, reached[d], "nothing leads to %s", d)
	}
}
