package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// All nodes come back with other ports for everything, as containers do with
// other addresses. One of them is named to the others, by its gossip address:
// that is enough.
func TestAllAddressesChangeAtOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	c := harness.Start(t, harness.Config{})
	to := []harness.Place{c.NewPlace(), c.NewPlace(), c.NewPlace()}
	requireMoves(t, c, to, "--seed", to[0].Gossip)
}

// Two nodes come back elsewhere and know the third, which does not know where
// they are: they tell it.
func TestTwoAddressesChangeAtOnce(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	requireMoves(t, c, []harness.Place{c.NewPlace(), c.NewPlace(), c.Nodes[2].Place()})
}

// Each node comes back with the addresses of another, as containers do that start
// in another order.
func TestNodesExchangeTheirAddresses(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	requireMoves(t, c, []harness.Place{c.Nodes[1].Place(), c.Nodes[2].Place(), c.Nodes[0].Place()})
}

// requireMoves stops all nodes, starts them elsewhere, and requires the cluster
// to be as it was.
func requireMoves(t *testing.T, c *harness.Cluster, to []harness.Place, args ...string) {
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", "d", "Data", `{"kept":true}`))
	require.NoError(t, err)
	for _, n := range c.Nodes {
		n.Stop()
	}
	for i, n := range c.Nodes {
		n.Move(to[i])
		n.Restart(args...)
	}
	for _, n := range c.Nodes {
		n.UntilReady()
		a, err := n.REST().Get(t.Context(), "/Documents/d")
		require.NoError(t, err)
		require.Contains(t, string(a.Body), `"kept":true`)
		_, err = n.REST().Post(t.Context(), "/Documents/d", harness.Form("Data", `{"kept":true,"by":"`+n.ID+`"}`))
		require.NoError(t, err)
	}
	c.Until("the new addresses are the configured ones, and gossip knows all URLs", func() error {
		s, err := c.Admin().Status(t.Context())
		if err != nil {
			return err
		}
		for _, n := range c.Nodes {
			m, ok := s.Find(n.ID)
			if !ok || !m.Votes() || m.Raft != n.Place().Internal || m.HTTP != n.URL {
				return fmt.Errorf("%s at %+v and %s: %+v", n.ID, n.Place(), n.URL, s)
			}
			urls := strings.Join(n.Record().Peers, " ")
			if slices.ContainsFunc(c.Nodes, func(o *harness.Node) bool { return o != n && !strings.Contains(urls, o.URL) }) {
				return fmt.Errorf("%s knows %s", n.ID, urls)
			}
		}
		return nil
	})
}
