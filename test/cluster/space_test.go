package cluster

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// One token fills maps until the state is full. Then what grows is refused in
// the form of each protocol, on every node, and removals make room again.
func TestFullStateRefusesGrowthUntilRoomIsMade(t *testing.T) {
	c := harness.Start(t, harness.Config{Env: []string{
		"LOCKSTEP_MAX_STATE_BYTES=2MiB", "LOCKSTEP_RATE_LIMITS=off", "GOMEMLIMIT=200MiB",
	}})
	ctx := t.Context()
	client, err := harness.Connect(ctx, c.Nodes[1].URL, c.Token("greedy"))
	require.NoError(t, err)
	defer client.Close()
	value := map[string]any{"text": strings.Repeat("x", 15_000)}
	var refused harness.Answer
	made, first := 0, ""
	for ; made < 1000; made++ {
		var m struct{ SID string }
		a, err := client.Do(http.MethodPost, "/v3/Services/default/Maps", map[string]any{})
		require.NoError(t, err)
		if a.Status == http.StatusInsufficientStorage {
			refused = a
			break
		}
		require.NoError(t, a.Err())
		require.NoError(t, a.Decode(&m))
		a, err = client.Do(http.MethodPost, "/v3/Services/default/Maps/"+m.SID+"/Items", map[string]any{"key": "k", "data": value})
		require.NoError(t, err)
		if a.Status == http.StatusInsufficientStorage {
			refused = a
			break
		}
		require.NoError(t, a.Err())
		if first == "" {
			first = m.SID
		}
	}
	require.Equal(t, http.StatusInsufficientStorage, refused.Status)
	require.Contains(t, string(refused.Body), "54901")
	require.Greater(t, made, 100)
	require.Less(t, made, 150)

	large, err := json.Marshal(value)
	require.NoError(t, err)
	for _, n := range c.Nodes {
		a, err := n.REST().Do(ctx, http.MethodPost, "/Documents", harness.Form("Data", string(large)))
		require.NoError(t, err)
		require.Equal(t, http.StatusInsufficientStorage, a.Status, "%s", a.Body)
		require.Contains(t, string(a.Body), `"code":54901`)
		require.LessOrEqual(t, gauge(t, n, "lockstep_state_bytes"), 2.0*(1<<20))
		a, err = n.REST().Do(ctx, http.MethodGet, n.URL+"/readyz", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, a.Status, "it serves: %s", a.Body)
		require.Contains(t, string(a.Body), "the state is full")
		require.Less(t, gauge(t, n, "process_resident_memory_bytes"), 256.0*(1<<20))
	}
	rest := c.Nodes[2].REST()
	a, err := rest.Do(ctx, http.MethodPost, "/Maps/"+first+"/Items/k", harness.Form("Data", "{}"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.Status, "a write that shrinks: %s", a.Body)
	a, err = rest.Do(ctx, http.MethodDelete, "/Maps/"+first, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, a.Status, "%s", a.Body)
	c.Until("there is room again", func() error {
		_, err := rest.Post(ctx, "/Documents", harness.Form("Data", `{"small":true}`))
		return err
	})
}

// gauge reads a metric without labels.
func gauge(t *testing.T, n *harness.Node, name string) float64 {
	value, ok := n.Metrics()[name]
	require.True(t, ok, "no metric %s", name)
	return value
}
