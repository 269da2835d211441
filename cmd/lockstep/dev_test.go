package main

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// Every setting of a node reaches the nodes of dev, or is one that dev decides.
func TestDevPassesOnEverySettingOfANode(t *testing.T) {
	var own []string
	newServe().Flags().VisitAll(func(f *pflag.Flag) {
		require.Len(t, f.Annotations[environmentKey], 1, "--%s has a variable", f.Name)
		if !slices.Contains(passedOn(), f.Annotations[environmentKey][0]) {
			own = append(own, f.Name)
		}
	})
	require.ElementsMatch(t, ofOneNode, own, "each of these is a flag of serve")
	for _, setting := range []string{"LOCKSTEP_PUBLIC_URL", "LOCKSTEP_TRUSTED_PROXIES", "LOCKSTEP_RATE_LIMITS"} {
		require.Contains(t, passedOn(), setting)
	}
	require.NotContains(t, passedOn(), "LOCKSTEP_JOIN")
}
