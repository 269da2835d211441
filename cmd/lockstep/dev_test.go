package main

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// Every setting of a node reaches the nodes of dev, or is one that dev decides.
func TestDevPassesOnEverySettingOfANode(t *testing.T) {
	flags := newServe().Flags()
	flags.VisitAll(func(f *pflag.Flag) {
		require.Len(t, f.Annotations[environmentKey], 1, "--%s has a variable", f.Name)
		require.Equal(t, !isOfOneNode(f.Name), slices.Contains(passedOn(), f.Annotations[environmentKey][0]), f.Name)
	})
	for _, name := range ofOneNode {
		require.NotNil(t, flags.Lookup(name), "%s is a flag of serve", name)
	}
	for _, setting := range []string{"LOCKSTEP_PUBLIC_URL", "LOCKSTEP_TRUSTED_PROXIES", "LOCKSTEP_RATE_LIMITS"} {
		require.Contains(t, passedOn(), setting)
	}
	for _, own := range []string{"LOCKSTEP_JOIN", "LOCKSTEP_REPLACE", "LOCKSTEP_HTTP_ADDR", "LOCKSTEP_GOSSIP_ADDR"} {
		require.NotContains(t, passedOn(), own)
	}
}
