package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// Where no gossip passes at all the cluster is as ready as with it, and a leader
// that dies is replaced: who is ready follows from raft alone.
func TestClusterWithoutGossipIsReady(t *testing.T) {
	c := harness.Start(t, harness.Config{Env: []string{"LOCKSTEP_GOSSIP_PACKETS=0.0001", "LOCKSTEP_GOSSIP_STREAM_BYTES=1B"}})
	c.Until("gossip has failed", func() error {
		if !strings.Contains(c.Nodes[2].Log(), "gossip seeds not reached") {
			return errors.New("nothing in the log")
		}
		return nil
	})
	writable(t, c.Nodes)
	leader := c.Leader()
	leader.Kill9()
	var others []*harness.Node
	for _, n := range c.Nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	writable(t, others)
	leader.Restart()
	leader.UntilReady()
	writable(t, c.Nodes)
}

// writable waits until nodes are ready, and writes through each.
func writable(t *testing.T, nodes []*harness.Node) {
	t.Helper()
	for _, n := range nodes {
		n.UntilReady()
		_, err := n.REST().Post(t.Context(), "/Documents", harness.Form())
		require.NoError(t, err)
	}
}

// A flood of packets and streams at every gossip port takes no node's readiness.
func TestGossipFloodChangesNothing(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	ctx, end := context.WithTimeout(t.Context(), 6*time.Second) // longer than gossip takes to call a node dead
	defer end()
	var flood sync.WaitGroup
	defer flood.Wait()
	for _, n := range c.Nodes {
		addr := n.Record().GossipAddr
		packets, err := net.Dial("udp", addr)
		require.NoError(t, err)
		defer packets.Close()
		flood.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ; ctx.Err() == nil; <-tick.C {
				for range 300 {
					_, _ = packets.Write(make([]byte, 1200)) // whatever becomes of it
				}
			}
		})
		crowd(t, addr, 100)
	}
	for ctx.Err() == nil {
		for _, n := range c.Nodes {
			res, err := http.Get(n.URL + "/readyz")
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, http.StatusOK, res.StatusCode, n.ID)
			_, err = n.REST().Post(t.Context(), "/Documents", harness.Form())
			require.NoError(t, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
