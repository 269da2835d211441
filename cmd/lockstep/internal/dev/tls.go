package dev

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lockstep/cluster/durable"
	"lockstep/server/admin"
	"lockstep/server/certificate"
)

// Variables of the settings of the nodes' certificate.
const (
	certVariable = "LOCKSTEP_TLS_CERT"
	keyVariable  = "LOCKSTEP_TLS_KEY"
	caVariable   = "LOCKSTEP_CA"
)

// secure finds out whether the nodes serve with TLS, and makes what they need for it.
func (c *cluster) secure() error {
	c.scheme, c.http, c.env.CA = "http", &http.Client{Timeout: 15 * time.Second}, ""
	if c.config.TLS {
		ca, err := c.makeCertificate()
		if err != nil {
			return err
		}
		c.env.CA = ca
	} else if c.setting(certVariable) == "" {
		return nil
	} else {
		c.env.CA = c.config.CA
	}
	c.scheme = "https"
	if c.env.CA == "" {
		return nil
	}
	client, err := admin.Trusting(c.env.CA, "")
	if err != nil {
		return err
	}
	c.http = client
	return nil
}

func (c *cluster) setting(variable string) string {
	at := slices.IndexFunc(c.config.Settings, func(s Setting) bool { return s.Variable == variable })
	if at < 0 {
		return ""
	}
	return c.config.Settings[at].Value
}

// lifeTime of a certificate for development; it is made anew in the last part of it.
const (
	lifeTime  = 2 * 365 * 24 * time.Hour
	almostOut = 30 * 24 * time.Hour
)

// makeCertificate makes an authority and a certificate for the nodes, unless there
// are good ones from an earlier start, and returns the authority's file. The key of
// the authority is kept nowhere: it signs nothing else.
func (c *cluster) makeCertificate() (ca string, err error) {
	dir := filepath.Join(c.dir, "tls")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory for certificates: %w", err)
	}
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	c.config.Settings = slices.DeleteFunc(slices.Clone(c.config.Settings), func(s Setting) bool {
		return s.Variable == certVariable || s.Variable == keyVariable || s.Variable == caVariable
	})
	c.config.Settings = append(c.config.Settings, Setting{certVariable, cert, true}, Setting{keyVariable, key, true}, Setting{caVariable, ca, true})
	if f, err := certificate.Open(cert, key, c.config.Logger); err == nil {
		pair, err := f.Get(nil)
		if err == nil && time.Now().Add(almostOut).Before(pair.Leaf.NotAfter) {
			return ca, nil
		}
	}
	until := time.Now().Add(lifeTime)
	authority, err := certificate.NewAuthority("lockstep dev", until)
	if err != nil {
		return "", err
	}
	own, _, err := authority.PEM()
	if err != nil {
		return "", err
	}
	signed, private, err := authority.Issue(until, "localhost", "127.0.0.1", "::1")
	if err != nil {
		return "", err
	}
	for _, f := range []struct {
		path string
		text []byte
	}{{ca, own}, {key, private}, {cert, signed}} { // the last one completes them
		if err := durable.WriteFile(f.path, f.text, 0o600); err != nil {
			return "", fmt.Errorf("write a certificate: %w", err)
		}
	}
	return ca, nil
}
