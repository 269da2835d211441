package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/server/certificate"
	"lockstep/server/limits"
	"lockstep/server/nodedir"
)

// testPair is the files of a certificate.
type testPair struct {
	TLS
	ca string
}

func newTestPair(t *testing.T) testPair {
	dir := t.TempDir()
	return testPair{TLS{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}, filepath.Join(dir, "ca.pem")}
}

// write makes an authority and a certificate.
func (p testPair) write(t *testing.T, hosts ...string) {
	t.Helper()
	until := time.Now().Add(time.Hour)
	a, err := certificate.NewAuthority("test", until)
	require.NoError(t, err)
	ca, _, err := a.PEM()
	require.NoError(t, err)
	cert, key, err := a.Issue(until, hosts...)
	require.NoError(t, err)
	for path, text := range map[string][]byte{p.ca: ca, p.Cert: cert, p.Key: key} {
		require.NoError(t, os.WriteFile(path, text, 0o600))
	}
}

// startTLS starts a server that has a certificate, and returns it.
func startTLS(t *testing.T, c Config, ca string) (*Server, *running) {
	t.Helper()
	c.HTTPAddr, c.RateLimits, c.Account, c.Logger = "127.0.0.1:0", limits.Default(), testAccount, slog.New(slog.DiscardHandler)
	s, err := New(c)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{dir: c.DataDir, done: make(chan error, 1), stop: stop}
	go func() { r.done <- s.Run(ctx) }()
	t.Cleanup(stop)
	client, err := admin.Trusting(ca, "")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		record, err := nodedir.Load(c.DataDir)
		if err != nil || record.HTTPURL == "" {
			return false
		}
		r.url = record.HTTPURL
		r.Client = &admin.Client{URLs: []string{record.OperatorURL()}, AccountSID: testAccount.SID, AuthToken: testAccount.AuthToken, HTTP: client}
		return r.Ready(t.Context()) == nil
	}, 30*time.Second, 20*time.Millisecond, "ready")
	return s, r
}

func TestClientsAreServedWithTLS(t *testing.T) {
	p := newTestPair(t)
	p.write(t, "sync.example.com", "127.0.0.1")
	s, n := startTLS(t, Config{DataDir: dataDir(t), Bootstrap: true, TLS: p.TLS}, p.ca)
	require.True(t, strings.HasPrefix(n.url, "https://"), n.url)

	// A second node joins through the first, whose authority it is told.
	_, second := startTLS(t, Config{DataDir: dataDir(t), Join: n.url, TLS: p.TLS, CA: p.ca}, p.ca)
	status, err := second.Status(t.Context())
	require.NoError(t, err)
	require.Len(t, status.Nodes, 2)

	// URLs in answers have the scheme by which the client came.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+"/v1/Services/default", nil)
	require.NoError(t, err)
	req.SetBasicAuth(testAccount.SID, testAccount.AuthToken)
	res, err := n.HTTP.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, string(body), `"url":"`+n.url+`/v1/`)
	require.Equal(t, 1, res.ProtoMajor)

	// Realtime is there, too.
	trusted := n.HTTP.Transport.(*http.Transport).TLSClientConfig
	ws, _, err := (&websocket.Dialer{TLSClientConfig: trusted}).Dial("wss"+strings.TrimPrefix(n.url, "https")+"/v3/wsconnect", nil)
	require.NoError(t, err)
	ws.Close()

	// Old versions and plain HTTP are not.
	addr := strings.TrimPrefix(n.url, "https://")
	old := trusted.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	_, err = tls.Dial("tcp", addr, old)
	require.Error(t, err)
	res, err = http.Get("http://" + addr + "/healthz")
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	res.Body.Close()

	// Commands on this machine know the node by the certificate in its directory, and
	// by the next one when it has changed.
	byDirectory := func() *admin.Client {
		text, err := os.ReadFile(filepath.Join(n.dir, nodedir.CertificateFile))
		require.NoError(t, err)
		block, _ := pem.Decode(text)
		return &admin.Client{URLs: []string{n.url}, HTTP: admin.Knowing(block.Bytes)}
	}
	before := byDirectory()
	require.NoError(t, before.Ready(t.Context()))
	next := newTestPair(t)
	next.write(t, "another.example.com")
	s.Change(Live{RateLimits: limits.Default(), TLS: next.TLS})
	require.ErrorContains(t, before.Ready(t.Context()), "another certificate")
	require.NoError(t, byDirectory().Ready(t.Context()))

	// A pair that is not good changes nothing.
	s.Change(Live{RateLimits: limits.Default(), TLS: TLS{Cert: next.Cert, Key: p.Key}})
	require.NoError(t, byDirectory().Ready(t.Context()))

	metrics, err := byDirectory().HTTP.Get(n.url + "/metrics")
	require.NoError(t, err)
	defer metrics.Body.Close()
	text, err := io.ReadAll(metrics.Body)
	require.NoError(t, err)
	require.True(t, bytes.Contains(text, []byte("lockstep_certificate_ends_timestamp_seconds")))
	ready, err := byDirectory().HTTP.Get(n.url + "/readyz")
	require.NoError(t, err)
	defer ready.Body.Close()
	text, err = io.ReadAll(ready.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), "the certificate for clients ends at", "it is good for an hour")
	require.NoError(t, n.end(t))
	require.NoError(t, second.end(t))
}

func TestJoiningBelievesNoUnknownAuthority(t *testing.T) {
	p, other := newTestPair(t), newTestPair(t)
	p.write(t, "127.0.0.1")
	other.write(t, "127.0.0.1")
	_, n := startTLS(t, Config{DataDir: dataDir(t), Bootstrap: true, TLS: p.TLS}, p.ca)
	client, err := admin.Trusting(other.ca, "")
	require.NoError(t, err)
	_, err = (&admin.Client{URLs: []string{n.url}, HTTP: client}).Status(t.Context())
	require.ErrorContains(t, err, "certificate")
	_, err = admin.Trusting(other.Key, "")
	require.ErrorContains(t, err, "no certificate")
	require.NoError(t, n.end(t))
}

func TestTLSNeedsBothFilesAndGoodOnes(t *testing.T) {
	p := newTestPair(t)
	p.write(t, "127.0.0.1")
	base := Config{DataDir: dataDir(t), HTTPAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	for _, bad := range []TLS{{Cert: p.Cert}, {Key: p.Key}, {Cert: p.Key, Key: p.Cert}, {Cert: p.Cert, Key: p.ca}} {
		c := base
		c.TLS = bad
		_, err := New(c)
		require.ErrorContains(t, err, "--tls-cert", "%v", bad)
	}
	base.CA = p.Key
	_, err := New(base)
	require.ErrorContains(t, err, "--ca")
}
