package cluster

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// A node that comes back after an outage counts for a majority again at once: if
// the other follower dies in the very next moment, writes go on.
func TestANodeThatIsBackCounts(t *testing.T) {
	t.Parallel() // it mostly waits
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", "d"))
	require.NoError(t, err)
	leader := c.Leader()
	var followers []*harness.Node
	for _, n := range c.Nodes {
		if n != leader {
			followers = append(followers, n)
		}
	}
	write := func() {
		a, err := leader.REST().Do(t.Context(), http.MethodPost, "/Documents/d", harness.Form("Data", "1"))
		require.NoError(t, err)
		require.Equal(t, 200, a.Status, "%s", a.Body)
	}
	followers[0].Kill9()
	// Pauses between attempts to reach it would have grown to ten seconds by now.
	for end := time.Now().Add(21 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		write()
	}
	followers[0].Restart()
	start := time.Now()
	followers[0].UntilReady()
	followers[1].Kill9()
	write()
	took := time.Since(start)
	t.Logf("ready, and its vote counted, %v after the start", took)
	require.Less(t, took, 6*time.Second)
}
