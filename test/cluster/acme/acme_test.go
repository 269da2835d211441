// Package acme tests that a cluster gets a certificate for its domain from a real
// authority, and keeps it.
package acme

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const domain = "sync.example.test"

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lockstep-acme-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "lockstep")
	build := exec.Command("go", "build", "-C", filepath.Join("..", "..", ".."), "-o", binary, "./cmd/lockstep")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// node is a process of the cluster.
type node struct {
	t       *testing.T
	address string
	port    int
	dir     string
	args    []string
	cmd     *exec.Cmd
}

var environment = []string{"LOCKSTEP_ACCOUNT_SID=AC" + strings.Repeat("a1", 16), "LOCKSTEP_AUTH_TOKEN=token1234567890abcdefghi", "LOCKSTEP_CONFIG=none", "LOCKSTEP_LOG_LEVEL=debug"}

func newNode(t *testing.T, a *authority, address string, port int, args ...string) *node {
	n := &node{t: t, address: address, port: port, dir: filepath.Join(t.TempDir(), "node")}
	n.args = append([]string{
		"serve", "--data-dir", n.dir, "--node-id", "node-" + address, "--http-addr", address, "--http-port", strconv.Itoa(port),
		"--domain", domain, "--acme-directory", a.directory, "--acme-ca", a.trust, "--ca", a.rootsFile,
	}, args...)
	return n
}

func (n *node) log() string {
	b, _ := os.ReadFile(n.dir + ".log")
	return string(b)
}

func (n *node) start(args ...string) {
	n.t.Helper()
	require.NoError(n.t, os.MkdirAll(filepath.Dir(n.dir), 0o700))
	log, err := os.OpenFile(n.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(n.t, err)
	defer log.Close()
	n.cmd = exec.Command(binary, append(slices.Clone(n.args), args...)...)
	n.cmd.Env = append(os.Environ(), environment...)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	require.NoError(n.t, n.cmd.Start())
	n.t.Cleanup(n.stop)
}

func (n *node) stop() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(os.Interrupt)
	_ = n.cmd.Wait()
	n.cmd = nil
	if n.t.Failed() {
		n.t.Logf("log of %s:\n%s", n.address, n.log())
	}
}

// serial is that of the certificate that the node shows, if it is one of the
// authority's.
func (n *node) serial(a *authority) (string, error) {
	c, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", n.address, n.port), &tls.Config{ServerName: domain, RootCAs: a.roots})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func (n *node) untilCertified(a *authority) (serial string) {
	n.t.Helper()
	until(n.t, n.address+" shows a certificate of the authority", func() (err error) {
		serial, err = n.serial(a)
		return err
	})
	return serial
}

// command runs one on the node's directory.
func (n *node) command(args ...string) (string, error) {
	cmd := exec.Command(binary, append(args, "--data-dir", n.dir)...)
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (n *node) untilVotes(count int) {
	n.t.Helper()
	until(n.t, fmt.Sprintf("%d nodes vote", count), func() error {
		out, err := n.command("status")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if strings.Count(out, " leader ")+strings.Count(out, " follower ") != count {
			return errors.New(out)
		}
		return nil
	})
}

// One certificate is issued for three nodes. The authority asks another node than the
// one that it issues the certificate to. Nodes that start again have it from the state,
// whose key has changed meanwhile.
func TestOneCertificateForTheCluster(t *testing.T) {
	addresses := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}
	port := freePort(t, addresses...)
	a := newAuthority(t, freePort(t, addresses...), port)
	first := newNode(t, a, addresses[0], port)
	first.start("--bootstrap")
	until(t, "a certificate of the node's own", func() error {
		_, err := os.Stat(filepath.Join(first.dir, "tls.pem"))
		return err
	})
	own, err := os.ReadFile(filepath.Join(first.dir, "tls.pem"))
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem") // until there is another one
	require.NoError(t, os.WriteFile(ca, own, 0o600))
	nodes := []*node{first}
	for _, address := range addresses[1:] {
		n := newNode(t, a, address, port, "--join", fmt.Sprintf("https://%s:%d", addresses[0], port))
		n.args = append(n.args, "--ca", ca)
		n.start()
		nodes = append(nodes, n)
	}
	first.untilVotes(3)

	// Who has the lease asks the authority, which does not answer yet.
	var asking, asked *node
	until(t, "one of them is at work", func() error {
		for i, n := range nodes {
			if strings.Contains(n.log(), "lock acquired") {
				asking, asked = n, nodes[(i+1)%3]
				return nil
			}
		}
		return errors.New("none")
	})
	a.resolve(domain, asked.address)
	a.open()
	serial := asking.untilCertified(a)
	require.Contains(t, asked.log(), "served key authentication certificate", "another node answered")
	require.NotContains(t, asking.log(), "served key authentication certificate")
	for _, n := range nodes {
		require.Equal(t, serial, n.untilCertified(a), "issued once")
	}

	// Clients are told the cluster's name, and commands know each node by its directory.
	out, err := nodes[2].command("status")
	require.NoError(t, err, out)

	out, err = first.command("keys", "rotate-cluster-key")
	require.NoError(t, err, out)
	for _, n := range nodes {
		n.stop()
	}
	for _, n := range nodes {
		n.start()
	}
	for _, n := range nodes {
		require.Equal(t, serial, n.untilCertified(a), "it is the one of before")
	}

	// Its key stands nowhere as it is.
	out, err = first.command("snapshot")
	require.NoError(t, err, out)
	for _, n := range nodes {
		require.NoError(t, filepath.WalkDir(n.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			require.False(t, bytes.Contains(b, []byte("PRIVATE KEY")), path)
			return err
		}))
	}
}

// Where the authority cannot connect with TLS, it is answered in plain HTTP, and all
// others are sent to HTTPS.
func TestCertificateByPlainHTTP(t *testing.T) {
	const address = "127.0.0.1"
	port, plain, closed := freePort(t, address), freePort(t, address), freePort(t, address)
	a := newAuthority(t, plain, closed)
	a.resolve(domain, address)
	a.open()
	n := newNode(t, a, address, port, "--acme-http-addr", fmt.Sprintf("%s:%d", address, plain), "--acme-email", "operator@example.com")
	n.start("--bootstrap")
	n.untilCertified(a)

	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(fmt.Sprintf("http://%s:%d/v1/Services?PageSize=1", address, plain))
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusPermanentRedirect, res.StatusCode)
	require.Equal(t, fmt.Sprintf("https://%s:%d/v1/Services?PageSize=1", domain, port), res.Header.Get("Location"))
	res, err = client.Post(fmt.Sprintf("http://%s:%d/v1/Services", address, plain), "text/plain", nil)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusForbidden, res.StatusCode)
}
