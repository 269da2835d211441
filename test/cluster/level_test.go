package cluster

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// untilLevel waits until every node's state is at a format level.
func untilLevel(t *testing.T, c *harness.Cluster, level uint32) {
	t.Helper()
	c.Until(fmt.Sprint("all nodes are at format level ", level), func() error {
		for _, n := range c.Nodes {
			s, err := n.Client().Status(t.Context())
			if err != nil {
				return err
			}
			for _, m := range s.Nodes {
				if m.FormatLevel != level {
					return fmt.Errorf("%s sees %s at %d", n.ID, m.ID, m.FormatLevel)
				}
			}
		}
		return nil
	})
}

// mark asks a node for what only the next release knows.
func mark(t *testing.T, n *harness.Node) harness.Answer {
	t.Helper()
	a, err := n.REST().Do(t.Context(), http.MethodPost, "/Lists/writes/Permissions", nil)
	require.NoError(t, err)
	return a
}

// A cluster is upgraded to a release that knows one format level and one operation
// more, node by node and under load. Until the last node has it, nothing is
// written that the older ones could not read, and each node can go back; from then
// on the older release is refused, in words.
func TestRollingUpgradeToNextLevel(t *testing.T) {
	t.Parallel() // most of it is the build
	next := harness.NextRelease(t)
	c := harness.Start(t, harness.Config{Env: []string{"LOCKSTEP_SNAPSHOT_THRESHOLD=100", "LOCKSTEP_TRAILING_LOGS=50"}})
	w := startWriters(t, c, 1)
	subscribers := startSubscribers(t, c, 1)
	w.more(t, 20)
	change := func(n *harness.Node, to string) {
		n.Stop()
		w.more(t, 10) // the others go on
		n.Binary = to
		n.Restart()
		n.UntilReady()
		w.more(t, 10)
	}

	first := c.Leader()
	change(first, next)
	untilLevel(t, c, 1)
	a := mark(t, first)
	require.Equal(t, http.StatusServiceUnavailable, a.Status, "%s", a.Body)
	require.Contains(t, string(a.Body), "54905")
	require.NoError(t, first.Client().Snapshot(t.Context()))
	change(first, "") // its data is the older release's, too
	for _, n := range c.Nodes {
		untilLevel(t, c, 1)
		change(n, next)
	}

	untilLevel(t, c, 2)
	for _, n := range c.Nodes {
		require.Equal(t, http.StatusNoContent, mark(t, n).Status)
		a, err := n.REST().Get(t.Context(), "")
		require.NoError(t, err)
		require.Contains(t, string(a.Body), "written at the next level")
	}

	back := c.Follower()
	back.Stop()
	back.Binary = ""
	back.Restart()
	require.Equal(t, exitState, back.UntilExit(), "%s", back.Log())
	require.Contains(t, back.Log(), "written by a newer release")
	back.Binary = next
	back.Restart()
	back.UntilReady()

	old := c.Add(c.Nodes[0])
	require.NotZero(t, old.UntilExit())
	require.Contains(t, old.Log(), "release is too old")
	c.Nodes = c.Nodes[:3]

	acknowledged := w.stop()
	for _, s := range subscribers {
		harness.Until(t, "all subscribers have heard everything", func() error { return s.caughtUp(acknowledged) })
		require.NoError(t, s.check(), s.name)
	}
	for _, n := range c.Nodes {
		requireStoredOnce(t, n, acknowledged)
	}
	require.Empty(t, w.refusals)
	t.Logf("%d writes; the longest took %v", acknowledged.Done(), w.longest)
}
