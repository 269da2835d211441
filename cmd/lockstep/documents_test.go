package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// named finds the commands that a document names: in a line of their own of a block of
// commands, or in backquotes.
var named = regexp.MustCompile("(?m)(?:^ *|`)lockstep ([a-z][^`\n]*)")

// Every command that a document names is there, with its flags: runbooks say what to do
// in a bad hour.
func TestCommandsOfTheDocumentsExist(t *testing.T) {
	root := filepath.Join("..", "..")
	program := newRoot()
	program.InitDefaultHelpCmd()
	program.InitDefaultCompletionCmd()
	found := 0
	for _, glob := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, glob))
		require.NoError(t, err)
		for _, file := range files {
			if filepath.Base(file) == "CHANGELOG.md" {
				continue // which tells of the past
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			whole := strings.ReplaceAll(string(text), "\\\n", " ")
			for _, m := range named.FindAllStringSubmatch(whole, -1) {
				for _, words := range alternatives(strings.Fields(m[1])) {
					found++
					checkCommand(t, program, file, words)
				}
			}
		}
	}
	require.Greater(t, found, 150)
}

// alternatives are the commands that one with a | in its name stands for.
func alternatives(words []string) (all [][]string) {
	all = [][]string{nil}
	for _, w := range words {
		var longer [][]string
		for _, before := range all {
			for one := range strings.SplitSeq(strings.ReplaceAll(w, `\|`, "|"), "|") {
				longer = append(longer, append(before[:len(before):len(before)], one))
			}
		}
		all = longer
	}
	return all
}

func checkCommand(t *testing.T, program *cobra.Command, file string, words []string) {
	t.Helper()
	command, rest, err := program.Find(words)
	assert.NoError(t, err, "%s: lockstep %s", file, strings.Join(words, " "))
	assert.NotEqual(t, "lockstep", command.Name(), "%s: lockstep %s", file, strings.Join(words, " "))
	if command.HasSubCommands() && !command.HasExample() && len(rest) > 0 { // it only holds others
		assert.Regexp(t, "^-", rest[0], "%s: lockstep %s", file, strings.Join(words, " "))
	}
	for _, w := range words {
		flag, isFlag := strings.CutPrefix(strings.TrimRight(w, ").,;:…"), "--")
		if w == "--" || w == "#" || strings.HasSuffix(w, "`") {
			break // a comment, or the end
		}
		if !isFlag || flag == "help" {
			continue
		}
		flag, _, _ = strings.Cut(flag, "=")
		assert.NotNil(t, command.Flags().Lookup(flag), "%s: lockstep %s: --%s", file, strings.Join(words, " "), flag)
	}
}
