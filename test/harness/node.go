package harness

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/server/nodedir"
	"lockstep/test/ports"
)

// Node is one process of a cluster.
type Node struct {
	ID, URL, Dir string
	Binary       string // to run from the next start on; default: the one that Main built

	cluster *Cluster
	port    int
	addrs   []string // flags, once it has moved
	log     string
	cmd     *exec.Cmd
	pid     atomic.Int64  // of the process, for the network
	exited  chan struct{} // closed when the process has ended
	code    int           // its exit code, then
}

func (n *Node) start(args ...string) {
	t := n.cluster.t
	t.Helper()
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	usual := append([]string{"serve", "--data-dir", n.Dir, "--node-id", n.ID, "--http-port", strconv.Itoa(n.port)}, n.addrs...)
	cmd := exec.Command(cmp.Or(n.Binary, binary), append(usual, args...)...)
	cmd.Env = append(n.cluster.Environment(), "GORACE=exitcode=0") // races are read from the log
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	n.cmd, n.exited = cmd, exited
	n.pid.Store(int64(cmd.Process.Pid))
	go func() {
		defer close(exited)
		_ = cmd.Wait() // its state says it all
		n.code = cmd.ProcessState.ExitCode()
	}()
}

// Client is the operator's API of this node.
func (n *Node) Client() *admin.Client {
	return &admin.Client{URLs: []string{n.URL}, AccountSID: n.cluster.Account.SID, AuthToken: n.cluster.Account.AuthToken}
}

// UntilReady waits until the node serves clients.
func (n *Node) UntilReady() {
	n.cluster.t.Helper()
	n.cluster.Until(n.ID+" is ready", func() error { return n.Client().Ready(n.cluster.t.Context()) })
}

// PID is the id of the process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Exited reports whether the process has ended.
func (n *Node) Exited() bool {
	select {
	case <-n.exited:
		return true
	default:
		return false
	}
}

// Kill9 kills the process without a warning, and waits for its end.
func (n *Node) Kill9() {
	n.cluster.t.Helper()
	n.signal(syscall.SIGKILL)
	n.UntilExit()
}

// Stop ends the process in order, and waits for its end.
func (n *Node) Stop() {
	n.cluster.t.Helper()
	n.signal(syscall.SIGTERM)
	require.Zero(n.cluster.t, n.UntilExit(), "exit code of %s", n.ID)
}

// Pause stops the process from running, as a stalled machine does, until Resume.
func (n *Node) Pause() {
	n.cluster.t.Helper()
	n.signal(syscall.SIGSTOP)
}

// Resume lets a paused process go on.
func (n *Node) Resume() {
	n.cluster.t.Helper()
	n.signal(syscall.SIGCONT)
}

// Restart starts a process that has ended again, with these arguments besides
// the usual ones. It does not wait.
func (n *Node) Restart(args ...string) {
	n.cluster.t.Helper()
	n.start(args...)
}

// Place is where a node listens.
type Place struct {
	HTTPPort         int
	Internal, Gossip string
}

// Place returns where the node listens.
func (n *Node) Place() Place {
	n.cluster.t.Helper()
	r := n.Record()
	return Place{n.port, r.InternalAddr, r.GossipAddr}
}

// NewPlace returns one that is free.
func (c *Cluster) NewPlace() Place {
	c.t.Helper()
	port, err := ports.Take(3)
	require.NoError(c.t, err)
	return Place{port, fmt.Sprintf("127.0.0.1:%d", port+1), fmt.Sprintf("127.0.0.1:%d", port+2)}
}

// Metrics returns the node's metrics that have no labels, by name.
func (n *Node) Metrics() map[string]float64 {
	n.cluster.t.Helper()
	response, err := http.Get(n.URL + "/metrics")
	require.NoError(n.cluster.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(n.cluster.t, err)
	metrics := make(map[string]float64)
	for line := range strings.Lines(string(body)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil && !strings.Contains(name, "{") {
			metrics[name] = value
		}
	}
	return metrics
}

// Move has a node whose process has ended listen elsewhere from its next start on.
func (n *Node) Move(to Place) {
	n.port, n.URL = to.HTTPPort, fmt.Sprintf("http://127.0.0.1:%d", to.HTTPPort)
	n.addrs = []string{"--internal-addr", to.Internal, "--gossip-addr", to.Gossip}
}

// Record is what the node keeps in its data directory.
func (n *Node) Record() *nodedir.Record {
	n.cluster.t.Helper()
	r, err := nodedir.Load(n.Dir)
	require.NoError(n.cluster.t, err)
	return r
}

// Log is all that the node's processes have logged.
func (n *Node) Log() string {
	n.cluster.t.Helper()
	b, err := os.ReadFile(n.log)
	require.NoError(n.cluster.t, err)
	return string(b)
}

// UntilExit waits for the end of the process and gives its exit code.
func (n *Node) UntilExit() int {
	n.cluster.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(stopTime):
		n.cluster.t.Fatalf("%s does not end", n.ID)
	}
	return n.code
}

func (n *Node) signal(s syscall.Signal) {
	n.cluster.t.Helper()
	require.NoError(n.cluster.t, n.cmd.Process.Signal(s), "%v for %s", s, n.ID)
}

// end ends the process, whatever state it is in.
func (n *Node) end() {
	if n.cmd == nil {
		return
	}
	select {
	case <-n.exited:
	default:
		_ = n.cmd.Process.Kill() // it may have ended just now
		<-n.exited
	}
}
