// Package harness runs clusters of real processes for black-box tests: it
// builds the program once, starts, kills, pauses and restarts nodes, and shows
// their logs when a test fails.
//
// Every process that it starts ends with the test that started it. A goroutine
// for each waits for its end.
package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/test/ports"
)

// binary is the program under test, built by Main.
var binary string

// Main builds the program, runs a package's tests and cleans up: the body of
// TestMain. With the race detector on, the program has it too. The variable
// LOCKSTEP_BINARY names a program to test in place of one built now.
func Main(m *testing.M) int {
	if binary = os.Getenv("LOCKSTEP_BINARY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "lockstep-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "lockstep")
	if err := build(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build(path string, args ...string) error {
	args = append([]string{"build", "-o", path}, args...)
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "lockstep/cmd/lockstep")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}

// NextRelease builds the program as a release to come would be: it knows one
// format level more, and one operation.
func NextRelease(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "lockstep-next")
	require.NoError(t, build(path, "-tags", "nextlevel"))
	return path
}

// RaceDetector reports whether the program has the race detector, and takes its time.
func RaceDetector() bool { return raceEnabled }

// Binary is the path of the program that Main built.
func Binary() string { return binary }

// Config sets up a cluster.
type Config struct {
	Nodes int      // default 3
	Env   []string // settings for every node, NAME=VALUE

	// Mount is called with the data directory of each node before its first start,
	// to put it on a file system of its own.
	Mount func(dir string)

	// Relayed puts Cluster.Network between the nodes' internal ports.
	Relayed bool
}

// Cluster is a number of nodes, each a process.
type Cluster struct {
	Nodes   []*Node
	Account auth.Account
	Network *Network // nil without Config.Relayed

	made  []*Node // all, those that a test has taken out of Nodes too
	t     testing.TB
	dir   string
	env   []string
	mount func(dir string)
	key   *admin.Key // of Token
}

// Deadlines for conditions that come about in a fraction of that on an idle
// machine.
const (
	readyTime = time.Minute
	stopTime  = 30 * time.Second
	poll      = 20 * time.Millisecond
)

// Start starts a cluster without rate limits, whose webhooks may reach this
// machine, and waits until all its nodes vote.
func Start(t testing.TB, c Config) *Cluster {
	t.Helper()
	if c.Nodes == 0 {
		c.Nodes = 3
	}
	cluster := &Cluster{
		t: t, dir: t.TempDir(), mount: c.Mount, Account: auth.NewAccount(),
		env: append([]string{"LOCKSTEP_RATE_LIMITS=off", "LOCKSTEP_WEBHOOK_ALLOW=127.0.0.0/8"}, c.Env...),
	}
	if c.Relayed {
		cluster.Network = newNetwork(t)
		t.Cleanup(cluster.Network.close)
	}
	t.Cleanup(cluster.close)
	first := cluster.newNode()
	first.start("--bootstrap")
	first.UntilReady()
	for len(cluster.Nodes) < c.Nodes {
		cluster.newNode().start("--join", first.URL)
	}
	cluster.UntilAllVote()
	return cluster
}

// Add starts one more node, which joins through a member, with these arguments
// besides the usual ones. It does not wait.
func (c *Cluster) Add(through *Node, args ...string) *Node {
	c.t.Helper()
	n := c.newNode()
	n.start(append([]string{"--join", through.URL}, args...)...)
	return n
}

func (c *Cluster) newNode() *Node {
	c.t.Helper()
	port, err := ports.Take(3)
	require.NoError(c.t, err)
	id := fmt.Sprintf("n%d", len(c.Nodes)+1)
	n := &Node{ID: id, Dir: filepath.Join(c.dir, id), URL: fmt.Sprintf("http://127.0.0.1:%d", port), cluster: c, port: port}
	n.log = filepath.Join(c.dir, id+".log")
	if c.Network != nil {
		// Its own address but for the internal port, which is the relay's there.
		host := fmt.Sprintf("127.0.1.%d", len(c.Nodes)+1)
		internal := fmt.Sprintf("127.0.0.1:%d", port+1)
		n.URL = fmt.Sprintf("http://%s:%d", host, port)
		n.addrs = []string{
			"--http-addr", host, "--advertise", host, "--internal-addr", internal, "--gossip-addr", fmt.Sprintf("%s:%d", host, port+2),
		}
		c.Network.relay(n, fmt.Sprintf("%s:%d", host, port+1), internal)
	}
	if c.mount != nil {
		require.NoError(c.t, os.Mkdir(n.Dir, 0o700))
		c.mount(n.Dir)
	}
	c.Nodes, c.made = append(c.Nodes, n), append(c.made, n)
	return n
}

// Environment is that of a process that may do everything with the cluster.
func (c *Cluster) Environment() []string {
	return append(clean(os.Environ()), append(c.env,
		"LOCKSTEP_ACCOUNT_SID="+c.Account.SID, "LOCKSTEP_AUTH_TOKEN="+c.Account.AuthToken)...)
}

// clean leaves out what the machine's owner has set for clusters of his own.
func clean(env []string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, "LOCKSTEP_") {
			out = append(out, v)
		}
	}
	return out
}

// URLs of all nodes.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, n.URL)
	}
	return urls
}

// Admin is the operator's API of whichever node answers.
func (c *Cluster) Admin() *admin.Client {
	return &admin.Client{URLs: c.URLs(), AccountSID: c.Account.SID, AuthToken: c.Account.AuthToken}
}

// UntilAllVote waits until every node is a voter and serves.
func (c *Cluster) UntilAllVote() {
	c.t.Helper()
	c.Until("all nodes vote", func() error {
		s, err := c.Admin().Status(c.t.Context())
		if err != nil {
			return err
		}
		for _, n := range c.Nodes {
			if m, ok := s.Find(n.ID); !ok || !m.Votes() {
				return fmt.Errorf("%s does not vote: %+v", n.ID, s)
			}
		}
		return nil
	})
	for _, n := range c.Nodes {
		n.UntilReady()
	}
}

// Leader returns the node that leads, waiting for one.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	var leader *Node
	c.Until("there is a leader", func() error {
		s, err := c.Admin().Status(c.t.Context())
		if err != nil {
			return err
		}
		for _, n := range c.Nodes {
			if m, ok := s.Find(n.ID); ok && m.Role == admin.RoleLeader {
				leader = n
				return nil
			}
		}
		return fmt.Errorf("none leads: %+v", s)
	})
	return leader
}

// Follower returns a node that does not lead.
func (c *Cluster) Follower() *Node {
	c.t.Helper()
	leader := c.Leader()
	for _, n := range c.Nodes {
		if n != leader {
			return n
		}
	}
	c.t.Fatal("there is no follower")
	return nil
}

// Until waits for a condition, and fails the test with what the condition said
// last if it does not come about.
func (c *Cluster) Until(what string, check func() error) {
	c.t.Helper()
	Until(c.t, what, check)
}

// Until waits for a condition of any test.
func Until(t testing.TB, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(readyTime); time.Now().Before(end); time.Sleep(poll) {
		if err = check(); err == nil {
			return
		}
	}
	require.NoError(t, err, "waiting until %s", what)
}

// Run runs the program once, with the cluster's credentials in its environment.
func (c *Cluster) Run(ctx context.Context, args ...string) (output string, err error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = c.Environment()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// close ends every process, and looks at what they left in their logs.
func (c *Cluster) close() {
	for _, n := range c.made {
		n.end()
	}
	for _, n := range c.made {
		if n.cmd == nil {
			continue
		}
		b, err := os.ReadFile(n.log)
		if err != nil {
			c.t.Errorf("%s: %v", n.ID, err)
			continue
		}
		log := string(b)
		for _, report := range races(log) {
			c.t.Errorf("%s: %s", n.ID, report)
		}
		for _, sign := range []string{"panic:", "fatal error:", "altered in memory"} {
			if strings.Contains(log, sign) {
				c.t.Errorf("%s: %s", n.ID, sign)
			}
		}
		if c.t.Failed() {
			lines := strings.Split(log, "\n")
			c.t.Logf("log of %s:\n%s", n.ID, strings.Join(lines[max(0, len(lines)-100):], "\n"))
		}
	}
}
