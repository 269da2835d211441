package acme

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/stretchr/testify/require"
)

// authority is Pebble, Let's Encrypt's authority for tests, with a name server of its
// own.
type authority struct {
	directory string
	trust     string         // file with the certificate of its own API
	roots     *x509.CertPool // of the certificates that it issues
	rootsFile string
	names     *challtestsrv.ChallSrv
	gate      chan struct{} // closed when it answers
}

// newAuthority starts one that connects to these ports. It answers when open is called.
func newAuthority(t *testing.T, httpPort, tlsPort int) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "5")
	quiet := log.New(io.Discard, "", 0)
	dns := fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
	names, err := challtestsrv.New(challtestsrv.Config{Log: quiet, DNSAddrs: []string{dns}})
	require.NoError(t, err)
	names.SetDefaultDNSIPv4("")
	names.SetDefaultDNSIPv6("")
	go names.Run()
	t.Cleanup(names.Shutdown)

	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the default"}})
	front := wfe.New(quiet, store, va.New(quiet, httpPort, tlsPort, false, dns, store), issuer, []string{"pebble.letsencrypt.org"}, false, false, 1, 1)
	a := &authority{names: names, roots: x509.NewCertPool(), gate: make(chan struct{})}
	handler := front.Handler()
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-a.gate:
			handler.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(api.Close)
	a.directory = api.URL + wfe.DirectoryPath
	dir := t.TempDir()
	a.trust = filepath.Join(dir, "trust.pem")
	require.NoError(t, os.WriteFile(a.trust, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}), 0o600))
	root := issuer.GetRootCert(0).PEM()
	require.True(t, a.roots.AppendCertsFromPEM(root))
	a.rootsFile = filepath.Join(dir, "roots.pem")
	require.NoError(t, os.WriteFile(a.rootsFile, root, 0o600))
	return a
}

// resolve has a name stand for one address.
func (a *authority) resolve(name, address string) { a.names.AddDNSARecord(name, []string{address}) }

func (a *authority) open() { close(a.gate) }

// freePort returns a port that is free on all of the addresses, below those that nodes
// choose for themselves, and those that the system gives to outgoing connections.
func freePort(t *testing.T, addresses ...string) int {
	t.Helper()
	for range 100 {
		port, free := 10000+rand.IntN(10000), true
		for _, address := range addresses {
			l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, port))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// until waits for a condition.
func until(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
