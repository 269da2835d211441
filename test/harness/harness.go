// Package harness runs a real cluster for black-box tests: the built binary,
// three processes on the loopback interface, and ways to kill, pause and
// restart them. Everything it starts ends with the test.
package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// StartTimeout bounds how long a cluster or a node may take to be ready.
const StartTimeout = 60 * time.Second

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lockstep-test-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "lockstep")
	cmd := exec.Command("go", "build", "-o", binary, "lockstep/cmd/lockstep")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
})

// Binary builds the product once for the test process and gives its path.
func Binary(t testing.TB) string {
	path, err := build()
	require.NoError(t, err)
	return path
}

// Cluster is a development cluster of three processes.
type Cluster struct {
	t    testing.TB
	Dir  string
	Port int
	Env  map[string]string // dev.env
	dev  *exec.Cmd
	done chan struct{}

	restarted sync.WaitGroup
}

// Start starts a fresh cluster. Extra environment variables are of the form
// NAME=value.
func Start(t testing.TB, env ...string) *Cluster {
	c := &Cluster{t: t, Dir: filepath.Join(t.TempDir(), "dev"), Port: freePorts(t, 4)}
	c.Up(env...)
	return c
}

// Up runs `lockstep dev` on the cluster's directory until it says ready.
func (c *Cluster) Up(env ...string) {
	t := c.t
	c.dev = exec.Command(Binary(t), "dev", "--data-dir", c.Dir, "--http-port", strconv.Itoa(c.Port))
	c.dev.Env = append(os.Environ(), env...)
	out, err := c.dev.StdoutPipe()
	require.NoError(t, err)
	c.dev.Stderr = os.Stderr
	require.NoError(t, c.dev.Start())
	ready := make(chan struct{})
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		lines := bufio.NewScanner(out)
		for said := false; lines.Scan(); {
			if !said && strings.Contains(lines.Text(), "ready") {
				said = true
				close(ready)
			}
		}
		c.dev.Wait()
	}()
	t.Cleanup(c.Down)
	select {
	case <-ready:
	case <-c.done:
		c.Logs()
		t.Fatal("lockstep dev ended before it was ready")
	case <-time.After(StartTimeout):
		c.Logs()
		t.Fatal("lockstep dev was not ready in time")
	}
	c.Env = readEnv(t, filepath.Join(c.Dir, "dev.env"))
}

// Down stops everything as a user does, with SIGTERM, and waits.
func (c *Cluster) Down() {
	select {
	case <-c.done:
		return
	default:
	}
	if c.t.Failed() {
		c.Logs()
	}
	for n := range 3 {
		c.signal(n, syscall.SIGCONT)
	}
	c.dev.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		c.dev.Process.Kill()
		<-c.done
		c.t.Error("lockstep dev did not stop on SIGTERM")
	}
	c.restarted.Wait()
}

// ExitCode gives the exit code of `lockstep dev` after Down.
func (c *Cluster) ExitCode() int { return c.dev.ProcessState.ExitCode() }

// Logs prints the end of each node's log.
func (c *Cluster) Logs() {
	for n := range 4 {
		b, err := os.ReadFile(filepath.Join(c.NodeDir(n), "log"))
		if err != nil {
			continue
		}
		if len(b) > 8000 {
			b = b[len(b)-8000:]
		}
		c.t.Logf("log of node %d:\n%s", n+1, b)
	}
}

// NodeDir gives the data directory of node n, counted from 0.
func (c *Cluster) NodeDir(n int) string { return filepath.Join(c.Dir, fmt.Sprintf("node%d", n+1)) }

// URL gives the base URL of node n, counted round.
func (c *Cluster) URL(n int) string { return fmt.Sprintf("http://127.0.0.1:%d", c.Port+n%3) }

// Pid gives the process id of node n.
func (c *Cluster) Pid(n int) int {
	b, err := os.ReadFile(filepath.Join(c.NodeDir(n), "pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

func (c *Cluster) signal(n int, s syscall.Signal) {
	if pid := c.Pid(n); pid > 0 {
		syscall.Kill(pid, s)
	}
}

// Kill ends node n as a crash does, and waits until it is gone.
func (c *Cluster) Kill(n int) {
	pid := c.Pid(n)
	require.NotZero(c.t, pid)
	require.NoError(c.t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(c.t, func() bool { return !listening(c.Port + n) }, 10*time.Second, 5*time.Millisecond)
}

// Pause stops node n from running; Resume lets it go on.
func (c *Cluster) Pause(n int) { c.signal(n, syscall.SIGSTOP) }

// Resume lets a paused node go on.
func (c *Cluster) Resume(n int) { c.signal(n, syscall.SIGCONT) }

// Restart starts node n again with its run script, and waits until it serves.
func (c *Cluster) Restart(n int) {
	cmd := exec.Command(filepath.Join(c.NodeDir(n), "run"))
	log, err := os.OpenFile(filepath.Join(c.NodeDir(n), "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(c.t, err)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(c.t, cmd.Start())
	c.restarted.Go(func() {
		cmd.Wait()
		log.Close()
	})
	c.AwaitReady(n)
}

// AwaitReady waits until node n serves clients.
func (c *Cluster) AwaitReady(n int) {
	require.Eventually(c.t, func() bool {
		resp, err := http.Get(c.URL(n) + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, StartTimeout, 20*time.Millisecond, "node %d is ready", n)
}

// Leader gives the number of the leading node, as seen by any that answers.
func (c *Cluster) Leader() int {
	leader := -1
	require.Eventually(c.t, func() bool {
		for n := range 3 {
			for _, m := range c.Status(n).Nodes {
				if m.Role == "leader" {
					u, err := url.Parse(m.HTTP)
					if err != nil {
						continue
					}
					port, _ := strconv.Atoi(u.Port())
					leader = port - c.Port
					return true
				}
			}
		}
		return false
	}, StartTimeout, 50*time.Millisecond, "a leader")
	return leader
}

// Status is the JSON of `lockstep status`.
type Status struct {
	Nodes []struct {
		ID           string `json:"id"`
		HTTP         string `json:"http"`
		Raft         string `json:"raft"`
		Role         string `json:"role"`
		AppliedIndex uint64 `json:"applied_index"`
		Version      string `json:"version"`
	} `json:"nodes"`
}

// Status asks node n through the CLI; it is empty when the node does not answer.
func (c *Cluster) Status(n int) Status {
	var s Status
	out, err := c.CLI("status", "--json", "--url", c.URL(n))
	if err == nil {
		require.NoError(c.t, json.Unmarshal([]byte(out), &s))
	}
	return s
}

// CLI runs the binary with dev.env in its environment, and gives its output.
func (c *Cluster) CLI(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), StartTimeout)
	defer cancel()
	cmd := c.Command(ctx, args...)
	out, err := cmd.Output()
	return string(out), err
}

// Command makes a command of the binary with dev.env in its environment.
func (c *Cluster) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, Binary(c.t), args...)
	cmd.Env = os.Environ()
	for k, v := range c.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

// Answer is what the REST API said.
type Answer struct {
	Status int
	Header http.Header
	Body   map[string]any
	Text   string
}

// REST sends a request to node n: form parameters as name, value pairs. header
// may be nil. An error means that no answer came.
func (c *Cluster) REST(ctx context.Context, n int, method, path string, header http.Header, form ...string) (Answer, error) {
	values := url.Values{}
	for i := 0; i+1 < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL(n)+path, strings.NewReader(values.Encode()))
	if err != nil {
		return Answer{}, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(c.Env["LOCKSTEP_ACCOUNT_SID"], c.Env["LOCKSTEP_AUTH_TOKEN"])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Status: resp.StatusCode, Header: resp.Header, Text: string(b)}
	json.Unmarshal(b, &a.Body) // an empty body stays nil
	return a, nil
}

// Must is REST for requests that have to succeed.
func (c *Cluster) Must(n int, method, path string, form ...string) Answer {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	a, err := c.REST(ctx, n, method, path, nil, form...)
	require.NoError(c.t, err)
	require.Less(c.t, a.Status, 300, "%s %s: %s", method, path, a.Text)
	return a
}

func readEnv(t testing.TB, path string) map[string]string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	env := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(k, "#") {
			env[k] = strings.Trim(v, `"'`)
		}
	}
	return env
}

// freePorts finds n consecutive free ports and gives the first.
func freePorts(t testing.TB, n int) int {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		first := l.Addr().(*net.TCPAddr).Port
		l.Close()
		free := first+n < 65536
		for p := first; free && p < first+n; p++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

func listening(port int) bool {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
