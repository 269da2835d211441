package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/acme"
)

// ACME has the certificate of the cluster's domain issued and renewed. All nodes have
// the same.
type ACME struct {
	Domain    string
	Email     string // by which the authority reaches the operator
	Directory string // URL of the authority's directory; default: Let's Encrypt
	CA        string // file with authorities, in PEM, that are believed to vouch for that URL; default: the machine's

	// HTTPAddr is a host:port at which the authority is answered in plain HTTP, and
	// everybody else is sent to HTTPS. Default: it is answered where clients connect.
	HTTPAddr string
}

// hostname is a name that an authority can be asked for.
var hostname = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (a ACME) validate(c Config) error {
	switch {
	case a.Domain == "" && a != (ACME{}):
		return errors.New("the --acme flags need --domain")
	case a.Domain == "":
		return nil
	case c.TLS.on():
		return errors.New("--domain has a certificate issued and --tls-cert names one: give one of them")
	case len(a.Domain) > 253 || !hostname.MatchString(a.Domain) || net.ParseIP(a.Domain) != nil:
		return fmt.Errorf("--domain: %q is not a name such as sync.example.com", a.Domain)
	}
	if a.HTTPAddr != "" {
		if _, _, err := splitAddr(a.HTTPAddr); err != nil {
			return fmt.Errorf("--acme-http-addr: %q is not HOST:PORT", a.HTTPAddr)
		}
	}
	return nil
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	return host, port, err
}

func (a ACME) manager(c Config) (acme.Config, error) {
	m := acme.Config{Domain: a.Domain, Email: a.Email, Directory: a.Directory, Logger: c.Logger}
	var err error
	if m.Host, m.TLSPort, err = splitAddr(c.HTTPAddr); err != nil {
		return m, err
	}
	if isAnyHost(m.Host) {
		m.Host = ""
	}
	if a.HTTPAddr != "" {
		if _, m.HTTPPort, err = splitAddr(a.HTTPAddr); err != nil {
			return m, err
		}
	}
	if a.CA != "" {
		pem, err := os.ReadFile(a.CA)
		if err != nil {
			return m, fmt.Errorf("--acme-ca: %w", err)
		}
		m.Roots = x509.NewCertPool()
		if !m.Roots.AppendCertsFromPEM(pem) {
			return m, fmt.Errorf("--acme-ca: %s has no certificate in PEM", a.CA)
		}
	}
	return m, nil
}

// keepCertificate has the domain's certificate issued and renewed as long as the node
// is a member.
func (n *node) keepCertificate(ctx context.Context) {
	select {
	case <-n.cluster.Ready():
	case <-ctx.Done():
		return
	}
	if err := n.acme.Run(ctx, vault{n.store}); err != nil {
		n.log.Error("the certificate is not looked after", "error", err)
	}
}

// vault is the cluster as package acme sees it.
type vault struct{ store }

// Read implements acme.Vault.
func (v vault) Read(ctx context.Context) (*fsm.View, error) {
	return v.cluster.Read(ctx, objects.Bucket{})
}

// Seal implements acme.Vault.
func (v vault) Seal(name string, plain []byte) (fsm.KeyID, []byte, error) {
	return v.cluster.Seal(name, plain)
}

// Unseal implements acme.Vault.
func (v vault) Unseal(s *fsm.Sealed) ([]byte, error) { return v.cluster.Unseal(s) }
