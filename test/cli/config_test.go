package cli

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// SIGHUP has a node read its file again: what can change does, what cannot is named,
// and a file with a fault changes nothing.
func TestHangupLoadsTheConfigurationAgain(t *testing.T) {
	// A process that nohup started has its children ignore the signal, unless it
	// listens to it itself.
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP)
	defer signal.Stop(heard)
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("log-level: info\nrate-limits: default\n")
	c := harness.Start(t, harness.Config{Nodes: 1, Env: []string{"LOCKSTEP_CONFIG=" + file, "LOCKSTEP_RATE_LIMITS="}})
	n := c.Nodes[0]
	hangup := func(until string) {
		t.Helper()
		before := strings.Count(n.Log(), until)
		require.NoError(t, syscall.Kill(n.PID(), syscall.SIGHUP))
		c.Until("the log says "+until, func() error {
			if strings.Count(n.Log(), until) > before {
				return nil
			}
			return errors.New("it does not")
		})
	}
	document := func(name string) (status int) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL+"/v1/Services/default/Documents", strings.NewReader(url.Values{"UniqueName": {name}}.Encode()))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth(c.Account.SID, c.Account.AuthToken)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		return res.StatusCode
	}
	require.Equal(t, http.StatusCreated, document("a"))

	write("log-level: debug\nrate-limits: creations=0.01/0.01,burst=100s\nmax-sessions: 5\n")
	hangup(`msg="a setting was changed in the configuration and takes a restart" setting=max-sessions`)
	require.Contains(t, n.Log(), `changed=rate-limits,log-level`)
	require.Equal(t, http.StatusCreated, document("b"), "a bucket of one token")
	require.Equal(t, http.StatusTooManyRequests, document("c"))

	write("log-level: debug\nrate-limits: fast\n")
	hangup("the configuration was not loaded again")
	require.Contains(t, n.Log(), file+":2: rate-limits")
	require.Equal(t, http.StatusTooManyRequests, document("c"))

	write("rate-limits: default\n")
	hangup("changed=rate-limits,log-level")
	require.Equal(t, http.StatusCreated, document("c"))
	n.Stop()
}
