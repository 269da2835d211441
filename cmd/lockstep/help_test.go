package main

import (
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// Whoever reads the help finds a line to begin with; test/cli runs them all.
func TestEveryCommandHasAnExample(t *testing.T) {
	found := 0
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		if c.Runnable() && !c.HasSubCommands() {
			found++
			require.NotEmpty(t, c.Example, c.CommandPath())
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
	require.Greater(t, found, 60)
}

func TestExitCodesAreAllExplained(t *testing.T) {
	for i, e := range exitCodes {
		require.Equal(t, i, e.code)
		require.NotEmpty(t, e.meaning)
	}
	require.Len(t, exitCodes, exitBusy+1)
}
