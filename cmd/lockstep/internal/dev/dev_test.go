package dev

import (
	"crypto/tls"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/server/nodedir"
)

func TestMain(m *testing.M) {
	// memberlist's Shutdown does not wait for a probe under way, which takes a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

func TestEnv(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadEnv(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	want := Env{
		URLs: []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}, AccountSID: "AC1", AuthToken: "t",
		APIKey: "SK1", APISecret: "s", ServiceSID: "IS1",
	}
	require.NoError(t, want.write(dir))
	got, err := ReadEnv(dir)
	require.NoError(t, err)
	require.Equal(t, want, got)
	info, err := os.Stat(filepath.Join(dir, EnvFile))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())

	shell := exec.Command("sh", "-c", `. "$0"; echo "$LOCKSTEP_URLS $LOCKSTEP_SERVICE_SID"`, filepath.Join(dir, EnvFile))
	out, err := shell.Output()
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:1,http://127.0.0.1:2 IS1\n", string(out))
}

// newCluster prepares a cluster in a folder with a name that is hard on shells.
// Its program shows how it was called.
func newCluster(t *testing.T, program string) *cluster {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "it's a $HOME")
	require.NoError(t, os.Mkdir(dir, 0o700))
	binary := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(binary, []byte("#!/bin/sh\n"+program), 0o700))
	c, err := prepare(Config{
		DataDir: dir, Nodes: 3, HTTPPort: 9000, Binary: binary, Settings: []Setting{{"LOCKSTEP_RATE_LIMITS", "writes=1'0", true}, {Variable: "LOCKSTEP_WEBHOOK_ALLOW"}}, AccountSID: "AC1", AuthToken: "t",
		Out: io.Discard, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return c
}

func TestScriptPassesSettingsOn(t *testing.T) {
	t.Setenv("LOCKSTEP_JOIN", "http://elsewhere")
	c := newCluster(t, `echo "$LOCKSTEP_RATE_LIMITS|$LOCKSTEP_JOIN|$LOCKSTEP_ACCOUNT_SID|$LOCKSTEP_WEBHOOK_ALLOW"; for a; do echo "$a"; done`)
	n := c.nodes[1]
	require.NoError(t, n.start(c.environment(), "--join", "http://127.0.0.1:9000"))
	<-n.exited
	log, err := os.ReadFile(n.logFile())
	require.NoError(t, err)
	require.Equal(t, []string{
		"writes=1'0||AC1|127.0.0.0/8,::1/128", "serve", "--config", "none", "--data-dir", n.dir, "--node-id", "node2", "--http-addr", "127.0.0.1", "--http-port", "9001",
		"--join", "http://127.0.0.1:9000", "",
	}, strings.Split(string(log), "\n"))

	byHand := exec.Command(n.script())
	byHand.Env = []string{"LOCKSTEP_RATE_LIMITS=off"}
	out, err := byHand.Output()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(out), "off|||127.0.0.0/8,::1/128\n"), "the environment comes first: %s", out)
}

func TestNodeThatEndsDuringTheStartIsTold(t *testing.T) {
	c := newCluster(t, `echo "cannot listen"; exit 1`)
	err := c.start(t.Context())
	require.ErrorContains(t, err, "node1 ended during the start")
	require.ErrorContains(t, err, "cannot listen")
}

func TestStopEndsWhatIsRunning(t *testing.T) {
	c := newCluster(t, `exec sleep 60`)
	n := c.nodes[0]
	require.NoError(t, n.start(c.environment()))
	require.Len(t, n.processes(), 1)
	require.NoError(t, n.stop())
	require.Empty(t, n.processes())
	require.NoError(t, n.stop(), "nothing runs")
	require.NoError(t, c.nodes[1].stop(), "it was never started")
}

func TestPrepareKeepsCredentialsAndRefusesSecondRun(t *testing.T) {
	c := newCluster(t, "")
	config := c.config
	config.AccountSID, config.AuthToken, config.HTTPPort = "AC2", "other", 9100
	again, err := prepare(config)
	require.NoError(t, err)
	require.Equal(t, "AC1", again.env.AccountSID)
	require.Equal(t, "t", again.env.AuthToken)
	require.Equal(t, []string{"http://127.0.0.1:9100", "http://127.0.0.1:9101", "http://127.0.0.1:9102"}, again.env.URLs)

	release, err := nodedir.Occupy(c.nodes[2].dir)
	require.NoError(t, err)
	defer release()
	_, err = prepare(config)
	require.ErrorContains(t, err, "node3")
	require.ErrorContains(t, err, "running already")
}

func TestNodesServeTLSWithACertificateOfTheirOwn(t *testing.T) {
	c := newCluster(t, "")
	config := c.config
	config.TLS = true
	secured, err := prepare(config)
	require.NoError(t, err)
	require.Equal(t, "https://127.0.0.1:9000", secured.env.URLs[0])
	env, err := ReadEnv(c.dir)
	require.NoError(t, err)
	require.FileExists(t, env.CA)
	shell := exec.Command("sh", "-c", `. "$0"; cat "$LOCKSTEP_CA"`, filepath.Join(c.dir, EnvFile))
	out, err := shell.Output()
	require.NoError(t, err)
	before, err := os.ReadFile(env.CA)
	require.NoError(t, err)
	require.Equal(t, string(before), string(out), "a shell finds it")

	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	defer s.Close()
	pair, err := tls.LoadX509KeyPair(secured.setting(certVariable), secured.setting(keyVariable))
	require.NoError(t, err)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	res, err := secured.http.Get(s.URL)
	require.NoError(t, err, "the nodes are believed")
	res.Body.Close()
	script, err := os.ReadFile(c.nodes[0].script())
	require.NoError(t, err)
	require.Contains(t, string(script), "LOCKSTEP_TLS_CERT=${LOCKSTEP_TLS_CERT-")

	again, err := prepare(config)
	require.NoError(t, err)
	after, err := os.ReadFile(again.env.CA)
	require.NoError(t, err)
	require.Equal(t, before, after, "it is kept")

	plain, err := prepare(c.config)
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:9000", plain.env.URLs[0])
	require.Empty(t, plain.env.CA)
}

func TestWelcome(t *testing.T) {
	c := newCluster(t, "")
	c.env.APIKey, c.env.APISecret = "SK1", "s"
	var out strings.Builder
	require.NoError(t, c.welcome(&out))
	text := out.String()
	for _, part := range []string{
		"node3    http://127.0.0.1:9002", "curl -u AC1:t http://127.0.0.1:9000/v1/Services/default/Documents",
		"new AccessToken('AC1', 'SK1', 's', { identity: 'alice' })", "uri: 'ws://127.0.0.1:9000/v3/wsconnect'",
	} {
		require.Contains(t, text, part)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	require.True(t, strings.HasPrefix(lines[len(lines)-1], "ready"))
	require.Equal(t, 10, strings.Count(c.env.snippet(), "\n"), "ten lines")
	require.Equal(t, 1, strings.Count(text, "ready"), "the word is there once, and last")
}

func TestClusterIsNotStartedWithFewerNodesThanItHas(t *testing.T) {
	c := newCluster(t, "")
	require.NoError(t, (&nodedir.Record{ID: "node3", ClusterID: "c"}).Save(c.nodes[2].dir))
	fewer := c.config
	fewer.Nodes = 1
	_, err := prepare(fewer)
	require.ErrorContains(t, err, "more than 1 nodes")
	more := c.config
	more.Nodes = 5
	_, err = prepare(more)
	require.NoError(t, err)
}
