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

// What one identity does on one node leaves the others' part alone on all.
func TestOneIdentityLeavesRoomForOthers(t *testing.T) {
	// A token in ten seconds for all and in twenty for one, and sixty and thirty of
	// them to begin with.
	const rates = "writes=0.1/0.05,reads=0.1/0.05,creations=0.1/0.05,queries=0.1/0.05,burst=600s"
	const one = 30
	c := harness.Start(t, harness.Config{Env: []string{"LOCKSTEP_RATE_LIMITS=" + rates}})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Maps", harness.Form("UniqueName", "shared"))
	require.NoError(t, err)
	start := time.Now()
	earned := func() int { return int(time.Since(start).Seconds()*0.05) + 1 }
	connect := func(n *harness.Node, identity string) *harness.Realtime {
		r, err := harness.Connect(t.Context(), n.URL, c.Token(identity))
		require.NoError(t, err)
		t.Cleanup(r.Close)
		return r
	}
	mallory, alice := connect(c.Leader(), "mallory"), connect(c.Follower(), "alice")
	for name, ask := range map[string]func(r *harness.Realtime) (harness.Answer, error){
		"writes": func(r *harness.Realtime) (harness.Answer, error) {
			return r.Do(http.MethodPut, "/v3/Maps/shared/Items/k", map[string]any{"data": map[string]any{}})
		},
		"reads": func(r *harness.Realtime) (harness.Answer, error) {
			return r.Do(http.MethodGet, "/v3/Maps/shared", nil)
		},
		"creations": func(r *harness.Realtime) (harness.Answer, error) {
			return r.Do(http.MethodPost, "/v3/Lists", map[string]any{})
		},
		"queries": func(r *harness.Realtime) (harness.Answer, error) {
			return r.Do(http.MethodPost, "/v3/Insights/shared/Items", map[string]any{"query_string": ""})
		},
	} {
		passes := func(r *harness.Realtime) bool {
			a, err := ask(r)
			require.NoError(t, err)
			if a.Status == http.StatusTooManyRequests {
				require.Contains(t, string(a.Body), `"code":54009`, name)
				return false
			}
			require.Less(t, a.Status, 300, "%s: %s", name, a.Body)
			return true
		}
		passed := 0
		for passes(mallory) {
			passed++
		}
		require.GreaterOrEqual(t, passed, one, name)
		require.LessOrEqual(t, passed, one+earned(), name)
		for range 100 {
			passes(mallory)
		}
		for range one - earned() - 1 {
			require.True(t, passes(alice), name)
		}
	}
}
