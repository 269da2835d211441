package wire

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/golden"
)

const goldenFile = "testdata/golden/level1/failures"

// TestFailuresAreAsTheyWere holds every error that crosses between nodes to its code.
func TestFailuresAreAsTheyWere(t *testing.T) {
	forms := map[string][]byte{"success": Answer([]byte("body"), nil)}
	for code, err := range failures {
		if err != nil {
			forms[fmt.Sprintf("%03d", code)] = Answer(nil, err)
		}
	}
	golden.Check(t, goldenFile, forms)
	for name, b := range golden.Read(t, goldenFile) {
		body, err := DecodeAnswer(b)
		if name == "success" {
			require.NoError(t, err)
			require.Equal(t, "body", string(body))
			continue
		}
		var code int
		_, scanErr := fmt.Sscanf(name, "%03d", &code)
		require.NoError(t, scanErr)
		require.ErrorIs(t, err, failures[code], name)
	}
}
