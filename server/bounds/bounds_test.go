package bounds

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/limits.md anew")

func TestEveryBoundHasHelpAndValidDefault(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Table() {
		require.NotEmpty(t, row.Name)
		require.False(t, seen[row.Name], row.Name)
		seen[row.Name] = true
		require.NotEmpty(t, row.Help, row.Name)
		require.NotEmpty(t, row.Full, row.Name)
		require.NoError(t, row.value.Set(row.Default), row.Name)
		require.Equal(t, row.Default, row.value.String(), "%s: write the default as it is printed", row.Name)
		if row.Optional {
			require.NoError(t, row.value.Set(off), row.Name)
			require.Equal(t, off, row.value.String(), row.Name)
		} else {
			require.Error(t, row.value.Set(off), row.Name)
		}
		require.Error(t, row.value.Set("0"), row.Name)
		require.Error(t, row.value.Set("-5"), row.Name)
		require.Error(t, row.value.Set("many"), row.Name)
	}
}

func TestFlagsSetBounds(t *testing.T) {
	var b Bounds
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	b.Flags(flags)
	require.NoError(t, flags.Parse([]string{"--max-sessions=off", "--queue-bytes=2MiB", "--queue-length=7"}))
	require.Equal(t, -1, b.Sessions)
	require.Equal(t, Bytes(2<<20), b.QueueBytes)
	require.Equal(t, 7, b.QueueLength)
	require.Zero(t, b.InitTimeout)
	require.Error(t, flags.Parse([]string{"--queue-length=off"}))

	b = b.WithDefaults()
	require.Equal(t, -1, b.Sessions)
	require.Equal(t, 7, b.QueueLength)
	require.NotZero(t, b.InitTimeout)
}

func TestLiftKeepsExplicitAndHardBounds(t *testing.T) {
	var b Bounds
	rows := b.table()
	for _, row := range rows {
		if row.Lifted {
			require.NoError(t, row.value.Set(row.Default))
			break
		}
	}
	set := b
	b.Lift()
	for i, row := range b.table() {
		was := set.table()[i].value.String()
		switch {
		case was != "":
			require.Equal(t, was, row.value.String(), row.Name)
		case row.Lifted:
			require.Equal(t, off, row.value.String(), row.Name)
		default:
			require.Empty(t, row.value.String(), row.Name)
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "17": 17, "17B": 17, "64KiB": 64 << 10, "1MiB": 1 << 20, "2GiB": 2 << 30} {
		got, err := ParseBytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "KiB", "1.5MiB", "1 MiB", "1MB", "1kib", "99999999999GiB", "0x10"} {
		_, err := ParseBytes(text)
		require.Error(t, err, text)
	}
}

// docs/limits.md is made from the table.
func TestDocumentation(t *testing.T) {
	var s strings.Builder
	s.WriteString("# Limits of a node\n\n" +
		"What a node holds at most. Each bound is a flag of `lockstep serve`, or a variable of its environment. " +
		"Those marked with `+` or `*` may be `off`; `--rate-limits=off` lifts those with `*`, unless they are set: a load test from one address or one identity would meet them.\n\n" +
		"This page is made from the table in `server/bounds`.\n\n" +
		"| flag | variable | default | what is bounded | beyond it |\n|---|---|---:|---|---|\n")
	for _, row := range Table() {
		mark := ""
		switch {
		case row.Lifted:
			mark = " *"
		case row.Optional:
			mark = " +"
		}
		fmt.Fprintf(&s, "| `--%s`%s | `%s` | %s | %s | %s |\n", row.Name, mark, row.Variable, row.Default, row.Help, row.Full)
	}
	path := filepath.Join("..", "..", "docs", "limits.md")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(s.String()), 0o644))
	}
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, s.String(), string(written), "run `go test ./server/bounds -update`")
}
