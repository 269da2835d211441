package cluster

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/nodedir"
	"lockstep/test/devenv"
	"lockstep/test/harness"
	"lockstep/test/ports"
)

// devRun is a running `lockstep dev`.
type devRun struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	out strings.Builder // what it printed up to the ready line
}

func startDev(t *testing.T, dir string, port int, args ...string) *devRun {
	t.Helper()
	d := &devRun{t: t, dir: dir}
	d.cmd = exec.Command(harness.Binary(), append([]string{"dev", "--data-dir", dir, "--http-port", strconv.Itoa(port)}, args...)...)
	d.cmd.Env = append(os.Environ(), "LOCKSTEP_RATE_LIMITS=off")
	out, err := d.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, d.cmd.Start())
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			_ = d.cmd.Process.Signal(syscall.SIGTERM) // the test has failed already
			_ = d.cmd.Wait()
		}
	})
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&d.out, lines.Text())
			if strings.Contains(lines.Text(), "ready") {
				ready <- true
				_, _ = io.Copy(io.Discard, out) // until it ends
				return
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		require.True(t, ok, "it ended before it was ready")
	case <-time.After(2 * time.Minute):
		t.Fatal("not ready in time")
	}
	return d
}

// stop ends it as Ctrl-C in a terminal does.
func (d *devRun) stop() {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGINT))
	require.NoError(d.t, d.cmd.Wait(), "exit code")
	for i := 1; i <= 3; i++ {
		_, running := nodedir.Running(d.node(i))
		require.False(d.t, running, "node%d", i)
	}
}

func (d *devRun) node(i int) string { return filepath.Join(d.dir, fmt.Sprintf("node%d", i)) }

func (d *devRun) env() devenv.Env {
	d.t.Helper()
	e, err := devenv.Read(d.dir)
	require.NoError(d.t, err)
	return e
}

// All three nodes are reached with TLS: by their own directories, by the cluster's, and
// by those who believe its authority.
func TestDevServesTLS(t *testing.T) {
	port, err := ports.Take(3)
	require.NoError(t, err)
	d := startDev(t, t.TempDir(), port, "--tls")
	env := d.env()
	require.Equal(t, fmt.Sprintf("https://127.0.0.1:%d", port), env.URLs[0])
	require.Contains(t, d.out.String(), fmt.Sprintf("wss://127.0.0.1:%d/v3/wsconnect", port))
	status := func(variable string, args ...string) (string, error) {
		cmd := exec.Command(harness.Binary(), append([]string{"status"}, args...)...)
		cmd.Env = append(os.Environ(), "LOCKSTEP_ACCOUNT_SID="+env.AccountSID, "LOCKSTEP_AUTH_TOKEN="+env.AuthToken, variable)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	ca := "LOCKSTEP_CA=" + filepath.Join(d.dir, "tls", "ca.pem")
	for _, args := range [][]string{{"--data-dir", d.dir}, {"--data-dir", d.node(2)}, {"--url", fmt.Sprintf("https://localhost:%d", port+2)}} {
		out, err := status(ca, args...)
		require.NoError(t, err, out)
		require.Equal(t, 3, strings.Count(out, "https://127.0.0.1:"), out)
	}
	out, err := status("LOCKSTEP_CA=", "--url", fmt.Sprintf("https://localhost:%d", port))
	require.Error(t, err)
	require.Contains(t, out, "certificate signed by unknown authority")
	d.stop()
}

func TestDevSecondStartKeepsData(t *testing.T) {
	port, err := ports.Take(3)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "dev with 'odd' name")
	d := startDev(t, dir, port)
	env := d.env()
	for i, u := range env.URLs {
		require.Equal(t, fmt.Sprintf("http://127.0.0.1:%d", port+i), u)
		pid, running := nodedir.Running(d.node(i + 1))
		require.True(t, running)
		b, err := os.ReadFile(filepath.Join(d.node(i+1), "pid"))
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(pid), strings.TrimSpace(string(b)))
	}
	for _, secret := range []string{env.AccountSID, env.AuthToken, env.APIKey, env.APISecret} {
		require.Contains(t, d.out.String(), secret)
		require.Regexp(t, `^[0-9A-Za-z]{32,34}$`, secret)
	}
	require.Regexp(t, `^IS[0-9a-f]{32}$`, env.ServiceSID)

	key := &harness.REST{URL: env.URLs[1], User: env.APIKey, Password: env.APISecret}
	_, err = key.Post(t.Context(), "/Documents", url.Values{"UniqueName": {"kept"}, "Data": {`{"v":1}`}})
	require.NoError(t, err)

	// A node that is killed stays dead, and its script brings it back.
	pid, _ := nodedir.Running(d.node(2))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	harness.Until(t, "node2 is dead", func() error {
		if _, running := nodedir.Running(d.node(2)); running {
			return fmt.Errorf("process %d runs", pid)
		}
		return nil
	})
	script := exec.Command(filepath.Join(d.node(2), "run"))
	require.NoError(t, script.Start())
	ended := make(chan error, 1)
	go func() { ended <- script.Wait() }()
	harness.Until(t, "node2 serves again", func() error {
		a, err := key.Get(t.Context(), "/Documents/kept")
		if err == nil {
			err = a.Err()
		}
		return err
	})
	again, running := nodedir.Running(d.node(2))
	require.True(t, running)
	require.Equal(t, script.Process.Pid, again)
	d.stop()
	require.NoError(t, <-ended, "the node that its script started was stopped as well")

	d = startDev(t, dir, port)
	require.Equal(t, env, d.env())
	for _, u := range env.URLs {
		client := &harness.REST{URL: u, User: env.AccountSID, Password: env.AuthToken}
		a, err := client.Get(t.Context(), "/Documents/kept")
		require.NoError(t, err)
		require.Contains(t, string(a.Body), `"data":{"v":1}`)
	}
	taken := exec.Command(harness.Binary(), "dev", "--data-dir", dir, "--http-port", strconv.Itoa(port))
	out, err := taken.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "running already")
	d.stop()
	_, err = http.Get(env.URLs[0] + "/healthz")
	require.Error(t, err, "nobody listens any more")
}
