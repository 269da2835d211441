package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/test/harness"
	"lockstep/test/ports"
)

// pods are nodes as docs/deploy/kubernetes has them: all are started in the same way,
// with the settings that are in place then, and again whenever they end.
type pods struct {
	t        *testing.T
	dir      string
	account  auth.Account
	settings string // the file of settings
	service  string // URL of whichever is ready
	all      []*pod
}

type pod struct {
	pods *pods
	name string
	port int // for clients; the next two are for the other nodes

	mu      sync.Mutex
	process *os.Process // nil: none at the moment
	wanted  bool
	ended   chan struct{}
}

func newPods(t *testing.T) *pods {
	p := &pods{t: t, dir: t.TempDir(), account: auth.NewAccount()}
	p.settings = filepath.Join(p.dir, "lockstep.yaml")
	var urls []string
	for i := range 3 {
		port, err := ports.Take(3)
		require.NoError(t, err)
		p.all = append(p.all, &pod{pods: p, name: fmt.Sprintf("lockstep-%d", i), port: port})
		urls = append(urls, p.all[i].url())
	}
	p.service = harness.Balance(t, urls)
	t.Cleanup(func() {
		for _, x := range p.all {
			x.stop(syscall.SIGKILL)
		}
	})
	return p
}

// apply puts a ConfigMap of docs/deploy in place, with the addresses of these nodes.
func (p *pods) apply(file string) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "deploy", "kubernetes", file))
	require.NoError(p.t, err)
	var read struct {
		Data map[string]string `yaml:"data"`
	}
	require.NoError(p.t, yaml.Unmarshal(text, &read))
	settings := strings.ReplaceAll(read.Data["lockstep.yaml"], "http://lockstep:8080", p.service)
	for _, x := range p.all {
		settings = strings.ReplaceAll(settings, x.name+".lockstep-nodes:7001", fmt.Sprintf("127.0.0.1:%d", x.port+2))
	}
	require.NoError(p.t, os.WriteFile(p.settings, []byte(settings), 0o644))
	out, err := exec.Command(harness.Binary(), "config", "check", "--config", p.settings, "--data-dir", p.dir).CombinedOutput()
	if strings.Contains(settings, "join:") {
		require.Contains(p.t, string(out), "LOCKSTEP_ACCOUNT_SID", "what the file leaves to the environment, and nothing else")
	} else {
		require.NoError(p.t, err, "%s", out)
	}
}

func (x *pod) url() string  { return fmt.Sprintf("http://127.0.0.1:%d", x.port) }
func (x *pod) data() string { return filepath.Join(x.pods.dir, x.name) }
func (x *pod) log() string  { return filepath.Join(x.pods.dir, x.name+".log") }

func (x *pod) said() string {
	text, _ := os.ReadFile(x.log()) // none yet is nothing said
	return string(text)
}

// start runs the node, and again whenever it ends, until stop.
func (x *pod) start() {
	x.wanted, x.ended = true, make(chan struct{})
	go func() {
		defer close(x.ended)
		for x.run() {
			time.Sleep(200 * time.Millisecond)
		}
	}()
}

// run runs the node once, and reports whether it is to run again.
func (x *pod) run() bool {
	log, err := os.OpenFile(x.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	defer log.Close()
	cmd := exec.Command(harness.Binary(), "serve", "--config", x.pods.settings)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{
		"LOCKSTEP_ACCOUNT_SID=" + x.pods.account.SID, "LOCKSTEP_AUTH_TOKEN=" + x.pods.account.AuthToken,
		"LOCKSTEP_NODE_ID=" + x.name, "LOCKSTEP_DATA_DIR=" + filepath.Join(x.data(), "node"), "GORACE=atexit_sleep_ms=0",
		fmt.Sprintf("LOCKSTEP_HTTP_PORT=%d", x.port),
		fmt.Sprintf("LOCKSTEP_INTERNAL_ADDR=127.0.0.1:%d", x.port+1), fmt.Sprintf("LOCKSTEP_GOSSIP_ADDR=127.0.0.1:%d", x.port+2),
	}
	x.mu.Lock()
	if !x.wanted || cmd.Start() != nil {
		x.mu.Unlock()
		return false
	}
	x.process = cmd.Process
	x.mu.Unlock()
	_ = cmd.Wait() // however it ended
	x.mu.Lock()
	defer x.mu.Unlock()
	x.process = nil
	return x.wanted
}

func (x *pod) stop(how syscall.Signal) {
	if x.ended == nil {
		return
	}
	x.mu.Lock()
	x.wanted = false
	if x.process != nil {
		_ = x.process.Signal(how) // or it has just ended
	}
	x.mu.Unlock()
	<-x.ended
}

// lose takes the pod's volume away.
func (x *pod) lose() { require.NoError(x.pods.t, os.RemoveAll(x.data())) }

func (x *pod) client() *admin.Client {
	return &admin.Client{URLs: []string{x.url()}, AccountSID: x.pods.account.SID, AuthToken: x.pods.account.AuthToken}
}

// untilServing waits until so many nodes are there, the first ones, and all vote and serve.
func (p *pods) untilServing(nodes int) {
	p.t.Helper()
	harness.Until(p.t, fmt.Sprintf("%d nodes serve", nodes), func() error {
		for _, x := range p.all[:nodes] {
			if err := x.client().Ready(p.t.Context()); err != nil {
				return fmt.Errorf("%s: %w\n%s", x.name, err, x.said())
			}
		}
		s, err := p.all[0].client().Status(p.t.Context())
		if err != nil {
			return err
		}
		if len(s.Nodes) != nodes {
			return fmt.Errorf("%d nodes", len(s.Nodes))
		}
		for _, n := range s.Nodes {
			if !n.Votes() {
				return fmt.Errorf("%s does not vote", n.ID)
			}
		}
		return nil
	})
}

// lockstep runs a command against the first pod.
func (p *pods) lockstep(args ...string) string {
	p.t.Helper()
	cmd := exec.Command(harness.Binary(), append(args, "--url", p.all[0].url())...)
	cmd.Env = []string{"HOME=" + p.dir, "LOCKSTEP_ACCOUNT_SID=" + p.account.SID, "LOCKSTEP_AUTH_TOKEN=" + p.account.AuthToken, "GORACE=atexit_sleep_ms=0"}
	out, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "%v: %s", args, out)
	return string(out)
}

// The procedure of docs/operations.md for Kubernetes, with processes: one node makes the
// cluster, three, back to one, three again; a lost volume, of the node that made the
// cluster, too; and all at once after an outage.
func TestNodesOnKubernetesComeAndGo(t *testing.T) {
	p := newPods(t)
	p.apply("found.yaml")
	p.all[0].start()
	p.untilServing(1)
	p.lockstep("doc", "create", "kept", `{"here":true}`)
	kept := func() { t.Helper(); require.Contains(t, p.lockstep("doc", "get", "kept", "--data"), "here") }

	p.all[1].start() // before join.yaml was applied
	harness.Until(t, "no second cluster is made", func() error {
		if !strings.Contains(p.all[1].said(), "no second cluster was made") {
			return fmt.Errorf("it says %s", p.all[1].said())
		}
		return nil
	})
	p.apply("join.yaml")
	p.all[2].start()
	p.untilServing(3)

	p.all[0].stop(syscall.SIGTERM) // its volume is lost with the machine
	p.all[0].lose()
	p.all[0].start()
	p.untilServing(3)
	kept()

	for at := 2; at > 0; at-- { // kubectl scale, one by one
		p.lockstep("leave", p.all[at].name)
		p.all[at].stop(syscall.SIGTERM)
		p.all[at].lose()
	}
	p.untilServing(1)
	kept()
	for _, x := range p.all[1:] {
		x.start()
	}
	p.untilServing(3)

	for _, x := range p.all {
		x.stop(syscall.SIGKILL)
	}
	for _, x := range p.all {
		x.start()
	}
	p.untilServing(3)
	kept()
}
