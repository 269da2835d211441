package cluster

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster/loglimit"
	"lockstep/test/harness"
)

// Connections that say nothing, to every internal port, keep the members
// neither from electing a leader nor from coming back.
func TestSilentStrangersDoNotDelayATakeover(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", url.Values{"UniqueName": {"d"}})
	require.NoError(t, err)
	follower, leader := c.Follower(), c.Leader()
	s, err := c.Admin().Status(t.Context())
	require.NoError(t, err)
	for _, n := range s.Nodes {
		crowd(t, n.Raft, 700)
	}

	leader.Kill9()
	killed := time.Now()
	client := follower.REST()
	client.Timeout = 10 * time.Second
	_, err = client.Post(t.Context(), "/Documents/d", url.Values{"Data": {`{"v":1}`}})
	require.NoError(t, err)
	took := time.Since(killed)
	t.Logf("the next write was acknowledged after %v", took)
	require.Less(t, took, 2*time.Second)

	leader.Restart()
	leader.UntilReady()
}

// crowd opens connections that say nothing until the test ends.
func crowd(t *testing.T, addr string, n int) {
	t.Helper()
	for range n {
		conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
	}
}

// Whatever strangers send to the ports, the log gets a line a second of a kind.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1})
	n := c.Nodes[0]
	s, err := c.Admin().Status(t.Context())
	require.NoError(t, err)
	gossip := n.Record().GossipAddr
	before := len(n.Log())
	udp, err := net.Dial("udp", gossip)
	require.NoError(t, err)
	defer udp.Close()
	start := time.Now()
	garbage := []byte("\x07garbage that is no packet of this cluster")
	for range 300 {
		for _, addr := range []string{s.Nodes[0].Raft, gossip} {
			conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
			require.NoError(t, err)
			_, _ = conn.Write(garbage) // it may have been hung up on
			conn.Close()
		}
		for range 10 {
			_, err = udp.Write(garbage)
			require.NoError(t, err)
		}
	}
	c.Until("it was noticed", func() error {
		_, err := udp.Write(garbage)
		if log := n.Log()[before:]; !strings.Contains(log, loglimit.LeftOut) || !strings.Contains(log, "gossip") {
			return fmt.Errorf("nothing in the log: %w", err)
		}
		return nil
	})
	lines := strings.Count(n.Log()[before:], "\n")
	kinds, seconds := 8, int(time.Since(start).Seconds())+1
	require.LessOrEqual(t, lines, kinds*seconds)
}
