package main

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// Every setting of a node reaches the nodes of dev, or is here among those that
// dev decides: a new flag of serve is one or the other on purpose.
func TestDevPassesOnEverySettingOfANode(t *testing.T) {
	decided := []string{
		"account-file", "admin-addr", "advertise", "bootstrap", "data-dir", "gossip-addr", "http-addr", "http-port",
		"insecure-join", "internal-addr", "join", "node-id", "replace", "seed",
	}
	var kept []string
	newServe().Flags().VisitAll(func(f *pflag.Flag) {
		require.Len(t, f.Annotations[environmentKey], 1, "--%s has a variable", f.Name)
		if !slices.Contains(passedOn(), f.Annotations[environmentKey][0]) {
			kept = append(kept, f.Name)
		}
	})
	require.Equal(t, decided, kept)
	for _, setting := range []string{"LOCKSTEP_PUBLIC_URL", "LOCKSTEP_TRUSTED_PROXIES", "LOCKSTEP_RATE_LIMITS", "LOCKSTEP_MAX_SESSIONS"} {
		require.Contains(t, passedOn(), setting)
	}
}
