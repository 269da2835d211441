package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
)

// TestRecoveredClusterGivesNothingTwice loses two of three nodes for good in the
// midst of everything, and goes on from the third one, which may not have all that
// was acknowledged. What it has is there once; no event id is given again, and all
// subscribers open the map anew and hear everything from there on.
func TestRecoveredClusterGivesNothingTwice(t *testing.T) {
	var reopened atomic.Int64
	seeds(t, 10, func(t *testing.T, r *rand.Rand) {
		machines := newClocks(r)
		c := Start(t, NewNetwork(r, Calm, Calm), Options{
			Nodes: 3, Rand: fork(r), DiskLatency: 3 * time.Millisecond, QueueLength: 20,
			Edit: func(config *cluster.Config) {
				config.Clock = machines.of(config.ID)
				config.SnapshotThreshold, config.TrailingLogs, config.SnapshotInterval = 30, 10, time.Second
			},
		})
		defer c.Close()
		all, err := startClients(t.Context(), c, fork(r))
		require.NoError(t, err)
		defer all.end()
		Sleep(t.Context(), upTo(r, 3*time.Second))
		survivor := fmt.Sprintf("n%d", 1+r.IntN(3))
		if r.IntN(2) == 0 { // it is behind
			c.Isolate(survivor)
			Sleep(t.Context(), upTo(r, 2*time.Second))
		}
		for _, n := range c.Nodes() {
			c.Crash(n.ID())
		}
		all.stop()
		all.writes.Doubt(nil)

		c.Heal()
		require.NoError(t, c.Recover(survivor, "recovered", [32]byte{7}))
		calm, done := context.WithTimeout(t.Context(), 2*patience)
		defer done()
		c.Join(calm, "n4")
		c.Join(calm, "n5")
		all.writeAgain(calm, t)
		all.judge(t)
		for i, s := range all.subscribers {
			require.Equal(t, 1, s.opened, "subscriber %d", i)
			reopened.Add(int64(s.opened))
		}
	})
	t.Logf("%d subscribers opened the map anew", reopened.Load())
}
