package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/api"
)

func TestPrintTellsRequestsApart(t *testing.T) {
	seen := make(map[[16]byte]int)
	for i, p := range [][16]byte{
		api.Print("", "POST", "a", "b"),
		api.Print("", "POST", "ab", ""),
		api.Print("", "POST", "a/b"),
		api.Print("b", "POST", "a"),
		api.Print("", "PUT", "a", "b"),
		api.Print("\x01b", "POST", "a"),
	} {
		require.NotContains(t, seen, p, "%d", i)
		seen[p] = i
	}
	require.Equal(t, api.Print("body", "POST", "a"), api.Print([]byte("body"), "POST", "a"))
}
