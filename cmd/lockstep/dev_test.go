package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"lockstep/cmd/lockstep/internal/dev"
	"lockstep/cmd/lockstep/internal/settings"
)

// Every setting of a node reaches the nodes of dev, or is here among those that
// dev decides: a new flag of serve is one or the other on purpose.
func TestDevPassesOnEverySettingOfANode(t *testing.T) {
	decided := []string{
		"account-file", "acme-ca", "acme-directory", "acme-email", "acme-http-addr", "admin-addr", "advertise", "bootstrap", "config", "data-dir", "domain", "gossip-addr", "http-addr", "http-port",
		"insecure-join", "internal-addr", "join", "metrics-addr", "node-id", "replace", "seed",
	}
	var kept []string
	passed := variables(passedOn(newNodeSettings()))
	newServe().Flags().VisitAll(func(f *pflag.Flag) {
		require.Len(t, f.Annotations[settings.Environment], 1, "--%s has a variable", f.Name)
		if !slices.Contains(passed, f.Annotations[settings.Environment][0]) {
			kept = append(kept, f.Name)
		}
	})
	require.Equal(t, decided, kept)
	for _, setting := range []string{"LOCKSTEP_PUBLIC_URL", "LOCKSTEP_TRUSTED_PROXIES", "LOCKSTEP_RATE_LIMITS", "LOCKSTEP_MAX_SESSIONS"} {
		require.Contains(t, passed, setting)
	}
	require.NotContains(t, passed, "LOCKSTEP_AUTH_TOKEN", "dev has an account of its own")
}

func variables(all []dev.Setting) (names []string) {
	for _, s := range all {
		names = append(names, s.Variable)
	}
	return names
}

func TestDevTakesSettingsFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dev.yaml")
	require.NoError(t, os.WriteFile(file, []byte("max-sessions: 7\nwebhook-allow: [10.0.0.0/8, 127.0.0.1]\n"), 0o644))
	t.Setenv("LOCKSTEP_QUEUE_LENGTH", "9")
	s, err := forDev(file)
	require.NoError(t, err)
	passed := passedOn(s)
	for _, want := range []dev.Setting{
		{Variable: "LOCKSTEP_MAX_SESSIONS", Value: "7", Set: true}, {Variable: "LOCKSTEP_WEBHOOK_ALLOW", Value: "10.0.0.0/8,127.0.0.1", Set: true},
		{Variable: "LOCKSTEP_QUEUE_LENGTH", Value: "9", Set: true}, {Variable: "LOCKSTEP_PUBLIC_URL"},
	} {
		require.Contains(t, passed, want)
	}

	require.NoError(t, os.WriteFile(file, []byte("\ndata-dir: /var/lib/lockstep\n"), 0o644))
	_, err = forDev(file)
	require.ErrorContains(t, err, file+":2: data-dir is of one node")
}
