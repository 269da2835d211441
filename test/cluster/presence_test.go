package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

const (
	grace   = 5 * time.Second  // as the clients below ask for it
	missing = 20 * time.Second // after which a dead node's sessions count as gone
	slack   = 15 * time.Second // of a busy machine
)

// guest is a client that is in the map "guests" for as long as it is connected.
type guest struct {
	t    *testing.T
	c    *harness.Cluster
	name string
	*harness.Realtime
}

// arrive connects to a node, under the same endpoint as before, and does not write.
func (g *guest) arrive(n *harness.Node) {
	init := map[string]any{"token": g.c.Token(g.name), "tweaks": map[string]any{"presence": map[string]any{"maps": []string{"guests"}, "ttl": grace / time.Second}}}
	if g.Realtime != nil {
		init["continuation_token"] = g.Continuation
	}
	g.c.Until(g.name+" is connected", func() (err error) {
		g.Realtime, err = harness.ConnectWith(g.t.Context(), n.URL, init)
		return err
	})
}

func enter(t *testing.T, c *harness.Cluster, n *harness.Node, name string) *guest {
	g := &guest{t: t, c: c, name: name}
	g.arrive(n)
	t.Cleanup(func() { g.Close() })
	a, err := g.Do("PUT", "/v3/Maps/guests/Items/"+name, map[string]any{"data": map[string]any{"is": "here"}})
	require.NoError(t, err)
	require.Equal(t, 201, a.Status, string(a.Body))
	return g
}

// heard is an event of the map, and when it came.
type heard struct {
	what string
	at   time.Time
}

// watch follows the map at a node until the test ends.
func watch(t *testing.T, c *harness.Cluster, n *harness.Node) <-chan heard {
	sid, err := n.REST().SID(t.Context(), "/Maps/guests")
	require.NoError(t, err)
	r, err := harness.Connect(t.Context(), n.URL, c.Token("watcher"))
	require.NoError(t, err)
	require.NoError(t, r.Follow(sid, "map", 0))
	events, over := make(chan heard, 100), make(chan struct{})
	go func() {
		defer close(over)
		for {
			n, err := r.Next(time.Minute)
			if err != nil {
				return
			}
			if n.Event.ItemKey != "" {
				events <- heard{n.Type + " " + n.Event.ItemKey, time.Now()}
			}
		}
	}()
	t.Cleanup(func() { r.Close(); <-over })
	return events
}

func next(t *testing.T, events <-chan heard, patience time.Duration) heard {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(patience):
		require.FailNow(t, "nothing was heard", "for %v", patience)
		return heard{}
	}
}

// An item goes some time after its client was killed, or its node; nobody hears of a
// client that comes back in time, by whichever node.
func TestPresence(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	doomed, other := c.Follower(), c.Leader()
	_, err := other.REST().Post(t.Context(), "/Maps", harness.Form("UniqueName", "guests"))
	require.NoError(t, err)
	events := watch(t, c, other)

	// The client dies without a word; another loses its connection only.
	killed, returns := enter(t, c, doomed, "killed"), enter(t, c, doomed, "returns")
	for _, name := range []string{"killed", "returns"} {
		require.Equal(t, "map_item_added "+name, next(t, events, time.Minute).what)
	}
	since := time.Now()
	killed.Conn().NetConn().Close()
	returns.Conn().NetConn().Close()
	returns.arrive(other)
	gone := next(t, events, grace+slack)
	require.Equal(t, "map_item_removed killed", gone.what)
	require.GreaterOrEqual(t, gone.at.Sub(since), grace)

	// The node dies: the clients come back through another one, or do not.
	returns.Conn().NetConn().Close()
	returns.arrive(doomed)
	lost := enter(t, c, doomed, "lost")
	require.Equal(t, "map_item_added lost", next(t, events, time.Minute).what)
	since = time.Now()
	doomed.Kill9()
	lost.Close()
	returns.arrive(other)
	gone = next(t, events, missing+grace+slack)
	require.Equal(t, "map_item_removed lost", gone.what)
	require.GreaterOrEqual(t, gone.at.Sub(since), grace)
	t.Logf("the item of a client of the killed node went after %v", gone.at.Sub(since))

	// The other one has said nothing since, and is there.
	a, err := other.REST().Get(t.Context(), "/Maps/guests/Items")
	require.NoError(t, err)
	var page struct{ Items []struct{ Key string } }
	require.NoError(t, a.Decode(&page))
	require.Len(t, page.Items, 1)
	require.Equal(t, "returns", page.Items[0].Key)

	// It says goodbye, and is gone in the same time; meanwhile a lease is renewed.
	var lease struct{ SID string }
	a, err = other.REST().Post(t.Context(), "/Leases", harness.Form("Ttl", "20"))
	require.NoError(t, err)
	require.NoError(t, a.Decode(&lease))
	_, err = other.REST().Post(t.Context(), "/Maps/guests/Items", harness.Form("Key", "leased", "Data", "1", "Lease", lease.SID))
	require.NoError(t, err)
	require.Equal(t, "map_item_added leased", next(t, events, time.Minute).what)
	returns.Close()
	since = time.Now()
	for renewed := 0; ; renewed++ {
		_, err = other.REST().Post(t.Context(), "/Leases/"+lease.SID, nil)
		require.NoError(t, err)
		select {
		case gone = <-events:
		case <-time.After(grace / 3):
			require.Less(t, time.Since(since), grace+slack)
			continue
		}
		require.Positive(t, renewed)
		break
	}
	require.Equal(t, "map_item_removed returns", gone.what)
	_, err = other.REST().Do(t.Context(), "DELETE", "/Leases/"+lease.SID, nil)
	require.NoError(t, err)
	require.Equal(t, "map_item_removed leased", next(t, events, time.Second).what, "a lease that is closed lets go at once")
	require.Empty(t, events, "nothing else was heard")
}

// Time without a quorum counts against nobody: a lease that could not be renewed
// meanwhile is renewed afterwards.
func TestLeaseOutlivesALostQuorum(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	leader := c.Leader()
	_, err := leader.REST().Post(t.Context(), "/Maps", harness.Form("UniqueName", "guests"))
	require.NoError(t, err)
	events := watch(t, c, leader)
	var lease struct{ SID string }
	a, err := leader.REST().Post(t.Context(), "/Leases", harness.Form("Ttl", fmt.Sprint(int(grace/time.Second))))
	require.NoError(t, err)
	require.NoError(t, a.Decode(&lease))
	_, err = leader.REST().Post(t.Context(), "/Maps/guests/Items", harness.Form("Key", "leased", "Data", "1", "Lease", lease.SID))
	require.NoError(t, err)
	require.Equal(t, "map_item_added leased", next(t, events, time.Minute).what)

	for _, n := range c.Nodes {
		if n != leader {
			n.Pause()
			defer n.Resume()
		}
	}
	select {
	case e := <-events:
		require.FailNow(t, "without a quorum", e.what)
	case <-time.After(grace + grace/2):
	}
	for _, n := range c.Nodes {
		if n != leader {
			n.Resume()
		}
	}
	c.Until("the lease is renewed", func() error {
		_, err := leader.REST().Post(t.Context(), "/Leases/"+lease.SID, nil)
		return err
	})
	_, err = leader.REST().Do(t.Context(), "DELETE", "/Leases/"+lease.SID, nil)
	require.NoError(t, err)
	require.Equal(t, "map_item_removed leased", next(t, events, time.Minute).what)
	require.Empty(t, events)
}
