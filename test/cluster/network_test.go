package cluster

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// answerTime is within what time a node answers a write, whatever the network is
// like: its own deadline, and what a loaded machine adds.
const answerTime = 20 * time.Second

// The leader and one follower do not see each other, or only one of them the
// other; both see the third node. Writes go on, those through the node that is
// cut off are carried out or refused in time, and nothing that was acknowledged
// is lost.
func TestNetworkPartitions(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{Relayed: true})
	w := startWriters(t, c, 1)
	w.more(t, 20)
	for _, broken := range []struct {
		name  string
		wires func(leader, follower, third *harness.Node)
	}{
		{"leader and follower do not see each other", func(l, f, _ *harness.Node) { c.Network.Part(l, f) }},
		{"the follower does not hear the leader", func(l, f, _ *harness.Node) { c.Network.Cut(l, f) }},
		{"the leader does not hear the follower", func(l, f, _ *harness.Node) { c.Network.Cut(f, l) }},
		{"the followers do not see each other", func(_, f, third *harness.Node) { c.Network.Part(f, third) }},
		{"the leader hears nobody", func(l, f, third *harness.Node) {
			c.Network.Cut(f, l)
			c.Network.Cut(third, l)
		}},
		{"all is slow", func(l, f, third *harness.Node) {
			for _, from := range c.Nodes {
				for _, to := range c.Nodes {
					c.Network.Delay(from, to, 50*time.Millisecond)
				}
			}
		}},
	} {
		leader := c.Leader()
		follower, third := others(c, leader)
		broken.wires(leader, follower, third)
		w.more(t, 20)
		for _, n := range c.Nodes {
			start := time.Now()
			client := n.REST()
			client.Timeout = answerTime
			a, err := client.Do(t.Context(), http.MethodPost, "/Documents", harness.Form("Data", "{}"))
			require.NoError(t, err, "%s: %s answers", broken.name, n.ID)
			require.Contains(t, []int{http.StatusCreated, http.StatusServiceUnavailable}, a.Status, "%s: %s: %s", broken.name, n.ID, a.Body)
			t.Logf("%s: %s (leader was %s): %d after %v", broken.name, n.ID, leader.ID, a.Status, time.Since(start).Round(time.Millisecond))
		}
		c.Network.Heal()
		for _, n := range c.Nodes {
			n.UntilReady()
			c.Until(fmt.Sprintf("%s takes writes again after %s", n.ID, broken.name), func() error {
				_, err := n.REST().Post(t.Context(), "/Documents", harness.Form("Data", "{}"))
				return err
			})
		}
	}
	acknowledged := w.stop()
	for _, n := range c.Nodes {
		requireStoredOnce(t, n, acknowledged)
	}
	requireOneState(t, c)
	t.Logf("%d writes; the longest took %v", acknowledged.Done(), w.longest)
}
