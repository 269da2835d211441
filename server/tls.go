package server

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/durable"
	"lockstep/server/acme"
	"lockstep/server/admin"
	"lockstep/server/certificate"
	"lockstep/server/nodedir"
)

// certificateInterval is how often the files of the certificate are looked at.
const certificateInterval = 10 * time.Second

// certificates is where the certificate comes from that clients are shown.
type certificates interface {
	Get(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Now() *tls.Certificate
}

// newCertificate makes what the certificate comes from, if there is to be one.
func (s *Server) newCertificate() (err error) {
	c := s.config
	changed := func(pair *tls.Certificate) {
		if err := noteCertificate(c.DataDir, pair); err != nil {
			c.Logger.Error("commands on this machine will not know the node's certificate", "error", err)
		}
	}
	switch {
	case c.TLS.on():
		if s.files, err = certificate.Open(c.TLS.Cert, c.TLS.Key, c.Logger); err != nil {
			return fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		s.files.Changed, s.certificate = changed, s.files
	case c.ACME.Domain != "":
		config, err := c.ACME.manager(c)
		if err != nil {
			return err
		}
		if s.acme, err = acme.New(config); err != nil {
			return err
		}
		s.acme.Changed, s.certificate = changed, s.acme
	}
	return nil
}

// tlsConfig is how clients are served, whose realtime protocol is one of HTTP/1.1.
func (s *Server) tlsConfig() *tls.Config {
	if s.certificate == nil {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: s.certificate.Get}
	if s.acme != nil {
		c.NextProtos = append(c.NextProtos, acme.Protocol)
	}
	return c
}

// noteCertificate leaves the certificate where commands on this machine find it, by
// which they know the node whatever it is called; nil: none.
func noteCertificate(dir string, pair *tls.Certificate) error {
	path := filepath.Join(dir, nodedir.CertificateFile)
	if pair == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget a certificate: %w", err)
		}
		return nil
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("note the certificate: %w", err)
	}
	return nil
}

// noteFirstCertificate notes what the node shows from its start on.
func (s *Server) noteFirstCertificate() error {
	if s.certificate == nil {
		return noteCertificate(s.config.DataDir, nil)
	}
	return noteCertificate(s.config.DataDir, s.certificate.Now())
}

// watchCertificate follows the files until the function that it returns is called.
func (s *Server) watchCertificate() (stop func()) {
	if s.files == nil {
		return func() {}
	}
	return runBeside(func(ctx context.Context) { s.files.Watch(ctx, certificateInterval) })
}

// membersClient asks members to let the node in.
func (c Config) membersClient() (*http.Client, error) {
	if c.CA == "" && c.ACME.Domain == "" {
		return nil, nil
	}
	client, err := admin.Trusting(c.CA, c.ACME.Domain) // one certificate is that of all members
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	return client, nil
}

// soon is how long before its end a certificate is something to look after.
const soon = 7 * 24 * time.Hour

// certificateNote is what an operator should know of the certificate; "": nothing.
func (n *node) certificateNote() string {
	until := n.certificateEnds()
	if until.IsZero() || n.config.Clock().Add(soon).Before(until) {
		return ""
	}
	return "the certificate for clients ends at " + until.UTC().Format(time.RFC3339)
}

func (n *node) certificateEnds() time.Time {
	if n.certificate == nil {
		return time.Time{}
	}
	return n.certificate.Now().Leaf.NotAfter
}

func (n *node) measureCertificate() {
	if n.certificate == nil {
		return
	}
	n.metrics.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lockstep_certificate_ends_timestamp_seconds", Help: "When the certificate for clients ends, as Unix time.",
	}, func() float64 { return float64(n.certificateEnds().Unix()) }))
}
