package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/api"
)

func TestFingerprintTellsRequestsApart(t *testing.T) {
	seen := make(map[[16]byte]int)
	for i, p := range [][16]byte{
		api.Fingerprint("", "POST", "a", "b"),
		api.Fingerprint("", "POST", "ab", ""),
		api.Fingerprint("", "POST", "a/b"),
		api.Fingerprint("b", "POST", "a"),
		api.Fingerprint("", "PUT", "a", "b"),
		api.Fingerprint("\x01b", "POST", "a"),
	} {
		require.NotContains(t, seen, p, "%d", i)
		seen[p] = i
	}
	require.Equal(t, api.Fingerprint("body", "POST", "a"), api.Fingerprint([]byte("body"), "POST", "a"))
}
