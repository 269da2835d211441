package cli

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/test/harness"
)

// services returns how many services there are.
func services(t *testing.T, c *harness.Cluster) int {
	t.Helper()
	a, err := c.Nodes[0].REST().Get(t.Context(), c.Nodes[0].URL+"/v1/Services")
	require.NoError(t, err)
	var page struct{ Services []struct{ SID string } }
	require.NoError(t, a.Decode(&page))
	return len(page.Services)
}

// On Ctrl-C the load ends, and what it made is removed.
func TestBenchCleansUpWhenInterrupted(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1})
	for _, work := range []string{"writes", "fanout"} {
		cmd := exec.Command(harness.Binary(), "bench", "--data-dir", c.Nodes[0].Dir, "--work", work, "--duration", "1h", "--clients", "3", "--subscribers", "3", "--objects", "3")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		require.NoError(t, cmd.Start())
		c.Until("the load has a service and a key", func() error {
			keys, err := c.Admin().Keys(t.Context())
			if err != nil {
				return err
			}
			if services(t, c) != 2 || len(keys) != 1 {
				return errors.New("not yet")
			}
			return nil
		})
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.Error(t, cmd.Wait())
		require.Equal(t, 1, cmd.ProcessState.ExitCode())
		require.Equal(t, "lockstep: interrupted\n", stderr.String())
		require.Empty(t, stdout.String())
		require.Equal(t, 1, services(t, c), "the default one is left")
		keys, err := c.Admin().Keys(t.Context())
		require.NoError(t, err)
		require.Equal(t, []admin.Key{}, append([]admin.Key{}, keys...))
	}
}

// Where rate limits were what was measured, the result says so.
func TestBenchTellsOfRateLimits(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 3, Env: []string{"LOCKSTEP_RATE_LIMITS=writes=5,messages=5,burst=1s"}})
	out, err := c.Run(t.Context(), "bench", "--data-dir", c.Nodes[1].Dir, "--duration", "1s", "--clients", "4", "--subscribers", "3", "--objects", "2")
	require.NoError(t, err, out)
	require.Regexp(t, `\nwrites: rate limits refused [1-9]\d* \(429\): this is what they allow, not what the cluster can do`, out)
	require.Regexp(t, `\nfanout: rate limits refused [1-9]\d* \(429\)`, out)
	require.NotContains(t, out, "failed;")
}
