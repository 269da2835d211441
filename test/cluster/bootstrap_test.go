package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// The first node's unit file says --bootstrap for good. That is a plain start as
// long as the data is there; when the disk is lost, it makes no second cluster
// beside the one that goes on.
func TestBootstrapMakesNoSecondCluster(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[1].REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", "d"))
	require.NoError(t, err)
	first := c.Nodes[0]
	unit := []string{"--bootstrap", "--internal-addr", first.Record().InternalAddr}
	cluster := first.Record().ClusterID

	first.Kill9()
	first.Restart(unit...)
	first.UntilReady()
	require.Equal(t, cluster, first.Record().ClusterID)

	for _, alone := range []bool{false, true} { // the leader looks for it, and so does one that sees no leader
		if alone {
			c.Nodes[2].Kill9()
		} else {
			first.Kill9()
		}
		require.NoError(t, os.RemoveAll(first.Dir))
		first.Restart(unit...)
		require.Equal(t, exitState, first.UntilExit(), "%s", first.Log())
		require.Contains(t, first.Log(), "no second cluster was made")
		require.NoFileExists(t, filepath.Join(first.Dir, "node.json"))
	}
	c.Nodes[2].Restart()
	c.Nodes[2].UntilReady()
	first.Restart("--join", c.Nodes[1].URL, "--replace", "--internal-addr", unit[2])
	c.UntilAllVote()
	require.Equal(t, cluster, first.Record().ClusterID)
	_, err = first.REST().Get(t.Context(), "/Documents/d")
	require.NoError(t, err)
}
