package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// docs/configuration.md is what the program prints.
func TestReferenceIsWhatIsPrinted(t *testing.T) {
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"config", "docs"})
	root.SetOut(&out)
	require.NoError(t, root.ExecuteContext(t.Context()))
	path := filepath.Join("..", "..", "docs", "configuration.md")
	if *update {
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o644))
	}
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(written), out.String(), "run `go test ./cmd/lockstep -update`")
}

// Every flag of serve is a setting, with its place in the reference, but the one that
// says where the settings are.
func TestEveryFlagOfServeIsASetting(t *testing.T) {
	var settings []string
	for _, f := range newNodeSettings().All() {
		settings = append(settings, f.Name)
	}
	require.Contains(t, settings, "auth-token")
	serve := newServe().Flags()
	require.Nil(t, serve.Lookup("auth-token"), "no secret is an argument")
	require.Nil(t, serve.Lookup("account-sid"))
	flags := 0
	serve.VisitAll(func(*pflag.Flag) { flags++ })
	require.Len(t, settings, flags+1, "--config is none; the account's two are no flags")
}
