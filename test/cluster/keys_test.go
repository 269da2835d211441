package cluster_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/nodedir"
	"lockstep/test/harness"
)

// TestClusterKeyRotatesWhileClientsWrite: no write fails, all nodes keep the
// new key, and a machine that was removed before is not even connected to.
func TestClusterKeyRotatesWhileClientsWrite(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 4})
	removed := c.Nodes[3]
	removed.Kill9()
	_, err := c.Run(t.Context(), "leave", removed.ID, "--url", c.Nodes[0].URL)
	require.NoError(t, err)
	c.Nodes = c.Nodes[:3]
	before, err := nodedir.Load(c.Nodes[0].Dir)
	require.NoError(t, err)

	_, err = c.Nodes[0].REST().Post(t.Context(), "/Lists", url.Values{"UniqueName": {"l"}})
	require.NoError(t, err)
	var written, failed atomic.Int64
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for _, n := range c.Nodes {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := n.REST().Post(t.Context(), "/Lists/l/Items", url.Values{"Data": {"{}"}}); err != nil {
					failed.Add(1)
					t.Log(err)
				}
				written.Add(1)
			}
		})
	}
	out, err := c.Run(t.Context(), "keys", "rotate-cluster-key", "--url", c.Nodes[1].URL)
	require.NoError(t, err, out)
	require.Contains(t, out, "the old one is worth nothing")
	c.Until("all directories have the new key alone", func() error {
		for _, n := range c.Nodes {
			r, err := nodedir.Load(n.Dir)
			if err != nil || r.ClusterKey == before.ClusterKey || len(r.OtherKeys) > 0 {
				return fmt.Errorf("%s: %w", n.ID, cmp.Or(err, errors.New("the old key")))
			}
		}
		return nil
	})
	close(stop)
	writers.Wait()
	require.Zero(t, failed.Load(), "of %d writes", written.Load())

	// With its old directory the removed machine is nobody.
	removed.Restart()
	for _, n := range c.Nodes {
		n.Kill9()
	}
	for _, n := range c.Nodes {
		n.Restart()
	}
	c.UntilAllVote()
	require.Error(t, removed.Client().Ready(t.Context()))
	status, err := c.Admin().Status(t.Context())
	require.NoError(t, err)
	require.Len(t, status.Nodes, 3)
	log, err := os.ReadFile(filepath.Join(filepath.Dir(removed.Dir), c.Nodes[0].ID+".log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "internal connection refused")
	removed.Kill9()
	t.Logf("%d writes", written.Load())
}
