package cluster

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// Three nodes are one limit, and a new leader knows how much of it is used.
func TestLimitsHoldAcrossNodesAndLeaders(t *testing.T) {
	// A token in ten seconds, and sixty of them to begin with.
	const rate, burst = 0.1, 60
	c := harness.Start(t, harness.Config{Env: []string{fmt.Sprintf("LOCKSTEP_RATE_LIMITS=writes=%v,burst=%ds", rate, int(burst/rate))}})
	ctx := t.Context()
	for _, name := range []string{"busy", "idle"} {
		_, err := c.Nodes[0].REST().Post(ctx, "/Documents", harness.Form("UniqueName", name))
		require.NoError(t, err)
	}
	start := time.Now()
	earned := func() int { return int(time.Since(start).Seconds()*rate) + 1 }
	write := func(n *harness.Node, name string) harness.Answer {
		a, err := n.REST().Do(ctx, http.MethodPost, "/Documents/"+name, harness.Form("Data", "1"))
		require.NoError(t, err)
		return a
	}
	// passed writes through the nodes in turn until one is refused.
	passed := func(nodes []*harness.Node) (count int) {
		for ; ; count++ {
			a := write(nodes[count%len(nodes)], "busy")
			if a.Status == http.StatusOK {
				continue
			}
			require.Equal(t, http.StatusTooManyRequests, a.Status, "%s", a.Body)
			require.Contains(t, string(a.Body), `"code":54009`)
			seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
			require.NoError(t, err)
			require.Positive(t, seconds)
			return count
		}
	}
	first := passed(c.Nodes)
	require.GreaterOrEqual(t, first, burst)
	require.LessOrEqual(t, first, burst+earned())
	for _, n := range c.Nodes {
		require.Equal(t, http.StatusOK, write(n, "idle").Status, "other objects are not affected")
	}

	leader := c.Leader()
	var others []*harness.Node
	for _, n := range c.Nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	leader.Kill9()
	all := first + passed(others)
	require.LessOrEqual(t, all, burst+earned(), "another leader is no new allowance")
	require.Equal(t, http.StatusOK, write(others[0], "idle").Status)
}
