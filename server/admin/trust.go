package admin

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// clientTimeout bounds a request.
const clientTimeout = time.Minute

// Trusting returns an HTTP client that believes the authorities whose certificates
// are in a file, in PEM, besides those of the machine; an empty name is no file. Whoever
// it calls shows a certificate for name, unless that is empty: then for what it is
// called by.
func Trusting(file, name string) (*http.Client, error) {
	if file == "" {
		return newHTTP(&tls.Config{ServerName: name}), nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // this system has none of its own
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authorities: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return newHTTP(&tls.Config{RootCAs: roots, ServerName: name}), nil
}

// errOther: whoever answers is not the node, or has got another certificate just now.
var errOther = errors.New("it shows another certificate than the node in that directory")

// Knowing returns an HTTP client for the one node that shows a certificate, in DER,
// by whichever name it is called.
func Knowing(certificate []byte) *http.Client {
	return newHTTP(&tls.Config{
		InsecureSkipVerify: true, // it is compared instead, whatever its names are
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, certificate) {
				return errOther
			}
			return nil
		},
	})
}

// Whoever returns an HTTP client that believes everybody: for questions that have no
// secret in them, and whose answers decide nothing alone.
func Whoever() *http.Client { return newHTTP(&tls.Config{InsecureSkipVerify: true}) }

// newHTTP keeps no connections: requests are few and far between.
func newHTTP(c *tls.Config) *http.Client {
	return &http.Client{Timeout: clientTimeout, Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment, TLSClientConfig: c}}
}
