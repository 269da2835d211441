package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

const exitState = 3

// A byte of a value that changed on a follower's disk is neither served nor sent
// to anybody: the node says what it found and how it comes back, and the others
// go on. Told so, it comes back with the data of the others.
func TestAlteredLogIsDetectedAndRejoins(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", "d", "Data", `{"coins":100000000000001}`))
	require.NoError(t, err)
	sick := c.Follower()
	_, err = sick.REST().Get(t.Context(), "/Documents/d") // it has applied the write
	require.NoError(t, err)
	sick.Stop()

	log := filepath.Join(sick.Dir, "raft", "log.db")
	pages, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Contains(t, string(pages), "100000000000001", "the value as it was written")
	require.NoError(t, os.WriteFile(log, bytes.ReplaceAll(pages, []byte("100000000000001"), []byte("900000000000001")), 0o600))

	sick.Restart()
	require.Equal(t, exitState, sick.UntilExit(), "%s", sick.Log())
	require.Contains(t, sick.Log(), "does not match its checksum")
	require.Contains(t, sick.Log(), "--replace")

	healthy := c.Leader()
	a, err := healthy.REST().Get(t.Context(), "/Documents/d")
	require.NoError(t, err)
	require.Contains(t, string(a.Body), "100000000000001")

	sick.Restart("--join", healthy.URL, "--replace")
	sick.UntilReady()
	a, err = sick.REST().Get(t.Context(), "/Documents/d")
	require.NoError(t, err)
	require.Contains(t, string(a.Body), "100000000000001")
}

// Two nodes acknowledge writes while the third is down; one of the two loses its
// log. What comes back of it must not elect the third, which has none of the
// writes: nothing is served until the node that has them is back.
func TestVoterWithLostLogDoesNotVote(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Lists", harness.Form("UniqueName", "l"))
	require.NoError(t, err)
	kept := c.Leader()
	wiped, behind := others(c, kept)
	behind.Stop()
	const writes = 20
	for i := range writes {
		_, err := kept.REST().Post(t.Context(), "/Lists/l/Items", harness.Form("Data", fmt.Sprint(i)))
		require.NoError(t, err)
	}
	kept.Kill9()
	wiped.Kill9()
	require.NoError(t, os.RemoveAll(filepath.Join(wiped.Dir, "raft")))

	behind.Restart()
	wiped.Restart()
	require.Equal(t, exitState, wiped.UntilExit(), "%s", wiped.Log())
	require.Contains(t, wiped.Log(), "--replace")
	require.Error(t, behind.Client().Ready(t.Context()), "alone it serves nothing")

	kept.Restart()
	kept.UntilReady()
	wiped.Restart("--join", kept.URL, "--replace")
	wiped.UntilReady()
	for _, n := range []*harness.Node{kept, behind, wiped} {
		n.UntilReady()
		a, err := n.REST().Get(t.Context(), "/Lists/l/Items?PageSize=100")
		require.NoError(t, err)
		require.Equal(t, writes, strings.Count(string(a.Body), `"index":`), "%s: %s", n.ID, a.Body)
	}
}

// A node whose state differed from the others' does not come back with what it
// has, but with what they have.
func TestNodeWithDifferingStateRejoins(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", "d", "Data", `{"coins":1}`))
	require.NoError(t, err)
	sick := c.Follower()
	sick.Stop()
	require.NoError(t, os.WriteFile(filepath.Join(sick.Dir, "raft", "differs"), nil, 0o600)) // as a node leaves it
	sick.Restart()
	require.Equal(t, exitState, sick.UntilExit(), "%s", sick.Log())
	require.Contains(t, sick.Log(), "state differs from that of the others")
	require.Contains(t, sick.Log(), "--replace")

	sick.Restart("--join", c.Leader().URL, "--replace")
	sick.UntilReady()
	client := sick.Client()
	require.Eventually(t, func() bool {
		v, err := client.Verify(t.Context())
		return err == nil && v.Equal && len(v.Nodes) == 3
	}, time.Minute, 100*time.Millisecond)
	s, err := client.Status(t.Context())
	require.NoError(t, err)
	for _, n := range s.Nodes {
		require.NotZero(t, n.DigestIndex)
		require.Len(t, n.Digest, 16)
	}
}

func others(c *harness.Cluster, but *harness.Node) (*harness.Node, *harness.Node) {
	var rest []*harness.Node
	for _, n := range c.Nodes {
		if n != but {
			rest = append(rest, n)
		}
	}
	return rest[0], rest[1]
}
