package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// A client that asks and never reads costs itself its connection at most.
func TestClientThatNeverReadsDoesNotHarmNode(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1})
	rest := c.Nodes[0].REST()
	_, err := rest.Post(t.Context(), "/Streams", harness.Form("UniqueName", "chatter"))
	require.NoError(t, err)
	stream, err := rest.SID(t.Context(), "/Streams/chatter")
	require.NoError(t, err)

	deaf, err := harness.Connect(t.Context(), c.Nodes[0].URL, c.Token("deaf"))
	require.NoError(t, err)
	defer deaf.Close()
	require.NoError(t, deaf.Follow(stream, "stream", 0))
	pinging := make(chan struct{})
	go func() {
		defer close(pinging)
		for deaf.Ping(2*time.Second) == nil { // until the node reads no more of them, or has had enough
		}
	}()
	for done := false; !done; {
		select {
		case <-pinging:
			done = true
		default:
		}
		_, err := rest.Post(t.Context(), "/Streams/chatter/Messages", harness.Form("Data", `{"k":1}`))
		require.NoError(t, err)
	}
	follows(t, c, stream)
}

// A client that sleeps while all that it follows is removed, and more of it than
// its queue has places.
func TestClientAsleepDuringRemovalDoesNotHarmNode(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1})
	rest := c.Nodes[0].REST()
	_, err := rest.Post(t.Context(), "/Streams", harness.Form("UniqueName", "chatter"))
	require.NoError(t, err)
	stream, err := rest.SID(t.Context(), "/Streams/chatter")
	require.NoError(t, err)

	asleep, err := harness.Connect(t.Context(), c.Nodes[0].URL, c.Token("asleep"))
	require.NoError(t, err)
	defer asleep.Close()
	require.NoError(t, asleep.Follow(stream, "stream", 0))
	const count = 1200
	for i := range count {
		name := fmt.Sprint("d", i)
		_, err := rest.Post(t.Context(), "/Documents", harness.Form("UniqueName", name))
		require.NoError(t, err)
		sid, err := rest.SID(t.Context(), "/Documents/"+name)
		require.NoError(t, err)
		require.NoError(t, asleep.Follow(sid, "document", 0))
	}
	for range 1 + count {
		_, err := asleep.Next(30 * time.Second) // established
		require.NoError(t, err)
	}
	for asleep.Ping(time.Second) == nil { // until so many answers wait that the node reads no more
	}
	for i := range count {
		_, err := rest.Do(t.Context(), "DELETE", fmt.Sprint("/Documents/d", i), nil)
		require.NoError(t, err)
		if i%100 == 0 {
			_, err = rest.Post(t.Context(), "/Streams/chatter/Messages", harness.Form("Data", `{"k":1}`))
			require.NoError(t, err)
		}
	}
	follows(t, c, stream)
}

// follows checks that a newcomer hears of what happens to a stream, on a node
// that has not come down.
func follows(t *testing.T, c *harness.Cluster, stream string) {
	t.Helper()
	r, err := harness.Connect(t.Context(), c.Nodes[0].URL, c.Token("newcomer"))
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Follow(stream, "stream", 0))
	n, err := r.Next(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "subscription_established", n.Type)
	_, err = c.Nodes[0].REST().Post(t.Context(), "/Streams/chatter/Messages", harness.Form("Data", `{"k":2}`))
	require.NoError(t, err)
	n, err = r.Next(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "stream_message_published", n.Type)
}
