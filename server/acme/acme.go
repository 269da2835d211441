// Package acme has a certificate for the cluster's domain issued and renewed by ACME,
// one for all nodes. It is kept in the replicated state, sealed with the cluster's key:
// whichever node is at work on it holds a lease, and all others take over what it has
// got. So is what the authority asks for: any node answers.
//
// Run owns all that goes on in the background and returns when it has ended.
package acme

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"lockstep/server/certificate"
)

// Protocol is what an authority asks for by TLS when it tests who has a name.
const Protocol = "acme-tls/1"

// Config sets up a Manager.
type Config struct {
	Domain    string
	Email     string         // by which the authority reaches the operator; it may be empty
	Directory string         // of the authority; default: Let's Encrypt
	Roots     *x509.CertPool // whom to believe that it is the authority; nil: the machine's

	// Host and Ports are where this node answers the authority: with TLS, and in plain
	// HTTP unless that is 0.
	Host              string
	TLSPort, HTTPPort int

	Logger *slog.Logger
}

// Manager has the certificate.
type Manager struct {
	config Config
	shown  atomic.Pointer[tls.Certificate] // one of the node's own making until there is a real one

	cache *certmagic.Cache // of Run

	mu      sync.Mutex
	magic   *certmagic.Config // nil before Run
	issuer  *certmagic.ACMEIssuer
	settled chan struct{} // closed when what there is has been loaded

	// Changed is told each certificate just before it is shown. It may be nil, and is set
	// before Run.
	Changed func(*tls.Certificate)
}

// patience is how long who connects waits for a node that has just been started to
// know the certificate.
const patience = 4 * time.Second

// New returns a manager, which shows a certificate of its own making until Run has
// got a real one.
func New(c Config) (*Manager, error) {
	c.Directory = cmp.Or(c.Directory, certmagic.LetsEncryptProductionCA)
	until := time.Now().AddDate(1, 0, 0)
	a, err := certificate.NewAuthority("lockstep", until)
	if err != nil {
		return nil, err
	}
	cert, key, err := a.Issue(until, c.Domain)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	m := &Manager{config: c, settled: make(chan struct{})}
	m.shown.Store(&pair)
	return m, nil
}

// Now returns the certificate that is shown at present.
func (m *Manager) Now() *tls.Certificate { return m.shown.Load() }

// Get is tls.Config.GetCertificate.
func (m *Manager) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == m.config.Domain {
		select {
		case <-m.settled:
		case <-time.After(patience):
		case <-hello.Context().Done():
		}
	}
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == Protocol {
		m.mu.Lock()
		magic := m.magic
		m.mu.Unlock()
		if magic == nil {
			return nil, errStarting
		}
		return magic.GetCertificate(hello)
	}
	return m.Now(), nil
}

var errStarting = errors.New("acme: this node is starting")

// ServeHTTP answers the authority, and sends everybody else to HTTPS.
func (m *Manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	issuer := m.issuer
	m.mu.Unlock()
	if issuer != nil && issuer.HandleHTTPChallenge(w, r) {
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "ask by https://", http.StatusForbidden) // what came with it was readable on the way
		return
	}
	port := ""
	if m.config.TLSPort != 443 {
		port = fmt.Sprintf(":%d", m.config.TLSPort)
	}
	http.Redirect(w, r, "https://"+m.config.Domain+port+r.URL.RequestURI(), http.StatusPermanentRedirect)
}

// Run keeps the certificate until the context ends. The vault is that of a node that
// has caught up.
func (m *Manager) Run(ctx context.Context, v Vault) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s, log := newStorage(ctx, v, m.config.Logger), newLog(m.config.Logger)
	defer s.close()
	defer stop() // before it waits
	m.compose(s, log)
	defer m.cache.Stop()
	_, err := m.magic.CacheManagedCertificate(ctx, m.config.Domain)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		m.config.Logger.Warn("the certificate could not be loaded", "domain", m.config.Domain, "error", err)
	}
	m.show()
	close(m.settled)
	if err := m.magic.ManageAsync(ctx, []string{m.config.Domain}); err != nil && ctx.Err() == nil {
		return fmt.Errorf("manage the certificate of %s: %w", m.config.Domain, err)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			m.show()
		}
	}
}

// interval is how often a node looks whether there is another certificate.
const interval = 500 * time.Millisecond

// show has the newest certificate that there is shown from now on.
func (m *Manager) show() {
	var now *tls.Certificate
	for _, c := range m.cache.AllMatchingCertificates(m.config.Domain) {
		if now == nil || c.Leaf.NotAfter.After(now.Leaf.NotAfter) {
			now = &c.Certificate
		}
	}
	if now == nil || now.Leaf.Equal(m.Now().Leaf) {
		return
	}
	m.config.Logger.Info("another certificate is shown to clients", "domain", m.config.Domain, "issuer", now.Leaf.Issuer.String(), "until", now.Leaf.NotAfter.UTC())
	if m.Changed != nil {
		m.Changed(now)
	}
	m.shown.Store(now)
}

func (m *Manager) compose(s *storage, log *zap.Logger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.magic, nil }, Logger: log,
	})
	m.magic = certmagic.New(m.cache, certmagic.Config{Storage: s, Logger: log, DefaultServerName: m.config.Domain})
	m.issuer = certmagic.NewACMEIssuer(m.magic, certmagic.ACMEIssuer{
		CA: m.config.Directory, Email: m.config.Email, Agreed: true, TrustedRoots: m.config.Roots,
		DisableHTTPChallenge: m.config.HTTPPort == 0, ListenHost: m.config.Host, AltTLSALPNPort: m.config.TLSPort, AltHTTPPort: m.config.HTTPPort,
		Logger: log,
	})
	m.magic.Issuers = []certmagic.Issuer{m.issuer}
}
