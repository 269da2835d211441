package cluster

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

type revised struct {
	SID      string `json:"sid"`
	Revision string `json:"revision"`
}

// Two of three nodes are lost with their disks. The third goes on with what it
// has, others join it, and an old disk that turns up changes nothing.
func TestRecoverFromSurvivor(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	for i := range 10 {
		_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", fmt.Sprint("d", i), "Data", "1"))
		require.NoError(t, err)
	}
	survivor, lost, late := c.Nodes[2], c.Nodes[0], c.Nodes[1]
	token := c.Token("alice")
	_, err := survivor.REST().Get(t.Context(), "/Documents/d9") // it has all of that
	require.NoError(t, err)
	c.Until("the survivor has noted its peers", func() error {
		if peers := survivor.Record().Peers; len(peers) < 2 {
			return fmt.Errorf("%v", peers)
		}
		return nil
	})

	out, err := c.Run(t.Context(), "recover", "--data-dir", survivor.Dir, "--yes")
	require.Error(t, err)
	require.Contains(t, out, "stop it first")
	survivor.Kill9()
	out, err = c.Run(t.Context(), "recover", "--data-dir", survivor.Dir, "--yes")
	require.Error(t, err, "the others serve")
	require.Contains(t, out, "the cluster lives")

	// The survivor misses what is acknowledged now.
	a, err := late.REST().Post(t.Context(), "/Documents/d0", harness.Form("Data", `"lost"`))
	require.NoError(t, err)
	var acknowledged revised
	require.NoError(t, a.Decode(&acknowledged))
	lost.Kill9()
	late.Kill9()
	require.NoError(t, os.RemoveAll(lost.Dir))
	before := survivor.Record()
	out, err = c.Run(t.Context(), "recover", "--data-dir", survivor.Dir)
	require.NoError(t, err, out)
	require.Contains(t, out, "Nothing was changed")
	require.Equal(t, before, survivor.Record())
	out, err = c.Run(t.Context(), "recover", "--data-dir", survivor.Dir, "--yes")
	require.NoError(t, err, out)
	require.NotEqual(t, before.ClusterID, survivor.Record().ClusterID)

	survivor.Restart()
	survivor.UntilReady()
	read := func(n *harness.Node) {
		for i := range 10 {
			a, err := n.REST().Get(t.Context(), fmt.Sprint("/Documents/d", i))
			require.NoError(t, err)
			require.Equal(t, 200, a.Status, "%s", a.Body)
		}
	}
	read(survivor)
	for range 2 { // its next revisions are not those of what was lost
		a, err = survivor.REST().Post(t.Context(), "/Documents/d0", harness.Form("Data", `"new"`))
		require.NoError(t, err)
		var now revised
		require.NoError(t, a.Decode(&now))
		require.NotEqual(t, acknowledged.Revision, now.Revision)
	}
	r, err := harness.Connect(t.Context(), survivor.URL, token)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Follow(acknowledged.SID, "document", 1)) // the event of what was lost
	n, err := r.Next(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, 54008, n.Event.Error.Code, "whoever knows it opens the document anew: %+v", n)

	late.Restart()
	require.Equal(t, exitState, late.UntilExit(), "%s", late.Log())
	require.Contains(t, late.Log(), "recovered without this node")
	late.Restart()
	require.Equal(t, exitState, late.UntilExit(), "it knows by now, whoever is there")

	lost.Restart("--join", survivor.URL)
	late.Restart("--join", survivor.URL, "--replace")
	c.UntilAllVote()
	for _, n := range c.Nodes {
		read(n)
		_, err := n.REST().Post(t.Context(), "/Documents/d1", harness.Form("Data", "2"))
		require.NoError(t, err)
	}
	survivor.Kill9()
	lost.UntilReady()
	read(late)
}
