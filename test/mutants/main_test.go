package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

var update = flag.Bool("update", false, "write the table of mutants into docs/robustness.md")

// The table of mutants in the documentation is that of the files, and every
// command in it names tests and targets that there are.
func TestDocumentation(t *testing.T) {
	const begin, end = "<!-- mutants -->\n", "<!-- end -->"
	path := filepath.Join(root, "docs", "robustness.md")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	table, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)

	mutants, err := read(root)
	require.NoError(t, err)
	want := "| mutant | what is broken | found by |\n|---|---|---|\n"
	for _, m := range mutants {
		want += fmt.Sprintf("| %s | %s | `go test %s` |\n", m.name, m.about, strings.ReplaceAll(m.testName(), "|", `\|`))
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(head+begin+want+end+tail), 0o600))
		table = want
	}
	require.Equal(t, want, table, "run go test ./test/mutants -run TestDocumentation -update")

	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	commands := regexp.MustCompile("`(go test|make) ([^`]+)`").FindAllStringSubmatch(head+table+tail, -1)
	require.Greater(t, len(commands), 50)
	for _, c := range commands {
		words := strings.Fields(strings.ReplaceAll(c[2], `\|`, "|"))
		if c[1] == "make" {
			require.Contains(t, string(makefile), "\n"+words[0]+": ", c[0])
			continue
		}
		require.GreaterOrEqual(t, len(words), 3, c[0])
		require.Equal(t, "-run", words[1], c[0])
		for name := range strings.SplitSeq(strings.Trim(words[2], "'"), "|") {
			require.True(t, hasTest(t, words[0], name), "%s: %s names no test of %s", c[0], name, words[0])
		}
	}
}

// Every mutant changes the code as it is now, and names tests that there are.
// Whether those find it, make test-mutants shows.
func TestMutantsApply(t *testing.T) {
	mutants, err := read(root)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(mutants), 25)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			changed, err := m.apply(root)
			require.NoError(t, err)
			require.NotEqual(t, m.old, m.new)
			require.NotEmpty(t, changed)
			for name := range strings.SplitSeq(m.test[2], "|") {
				require.True(t, hasTest(t, m.test[0], name), "no test of %s matches %s", m.test[0], name)
			}
		})
	}
}

func hasTest(t *testing.T, dir, pattern string) bool {
	name := regexp.MustCompile(strings.Split(strings.Trim(pattern, "'"), "/")[0])
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			if name.MatchString(found[1]) {
				return true
			}
		}
	}
	return false
}

func TestWhatIsNoMutant(t *testing.T) {
	for _, text := range []string{
		"", "# a\ntest: ./fsm -run TestX\nfile: a.go\n--- old\nx\n", "test: ./fsm -run TestX\nfile: a.go\n--- old\nx\n--- new\n",
		"# a\nfile: a.go\n--- old\nx\n--- new\n", "# a\ntest: ./fsm -run TestX\nfile: a.go\nodd\n--- old\nx\n--- new\n",
	} {
		_, err := parse("m", text)
		require.Error(t, err, "%q", text)
	}
	m, err := parse("m", "# a\n# b\ntest: ./fsm -run TestX -short\nfile: a.go\n--- old\nx\n--- new\ny\n")
	require.NoError(t, err)
	require.Equal(t, mutant{name: "m", about: "a b", test: []string{"./fsm", "-run", "TestX", "-short"}, file: "a.go", old: "x", new: "y"}, m)
}
