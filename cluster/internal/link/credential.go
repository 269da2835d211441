package link

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"
)

// Certificates are valid for ever: the cluster's keys and its membership decide
// which nodes may connect, and a wrong clock must not split the cluster.
var (
	validFrom  = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Credential proves this node's identity to other members. It has two parts.
// The cluster's key makes a certificate authority, the same on every node, so
// that no certificate has to be distributed; any holder of the key may connect.
// The certificate that it signs is for the node's own key, which names its
// server, so a holder of the cluster's key cannot pass for another server.
type Credential struct {
	node, cluster string
	own           ed25519.PrivateKey
	current       atomic.Pointer[configs]
	past          map[string]*tls.Config // by server name; see Succeed
}

type configs struct{ server, client *tls.Config }

// NewCredential makes the credential of a node; see Use for the keys.
func NewCredential(clusterID, nodeID string, own ed25519.PrivateKey, keys ...[32]byte) (*Credential, error) {
	c := &Credential{node: nodeID, cluster: clusterID, own: own}
	return c, c.Use(keys...)
}

// Use changes the cluster's keys for new connections: the first one is shown to
// others, and all of them are accepted.
func (c *Credential) Use(keys ...[32]byte) error {
	trusted := x509.NewCertPool()
	var own []tls.Certificate
	for i, key := range keys {
		signer, authority, err := authorityOf(key, c.cluster)
		if err != nil {
			return err
		}
		trusted.AddCert(authority)
		if i > 0 {
			continue
		}
		leaf, err := issue(&x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: c.node}, DNSNames: []string{serverName(c.cluster)},
			NotBefore: validFrom, NotAfter: validUntil, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, authority, c.own.Public(), signer)
		if err != nil {
			return fmt.Errorf("make node certificate: %w", err)
		}
		own = []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: c.own, Leaf: leaf}}
	}
	c.current.Store(&configs{
		server: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: own,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted,
			SessionTicketsDisabled: true, GetConfigForClient: c.forClient,
		},
		client: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: own, RootCAs: trusted, ServerName: serverName(c.cluster)},
	})
	return nil
}

func (c *Credential) server() *tls.Config { return c.current.Load().server }
func (c *Credential) client() *tls.Config { return c.current.Load().client }

// authorityOf derives the certificate authority of a cluster's key.
func authorityOf(key [32]byte, clusterID string) (ed25519.PrivateKey, *x509.Certificate, error) {
	seed, err := hkdf.Key(sha256.New, key[:], []byte(clusterID), "lockstep internal port", ed25519.SeedSize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive certificate authority: %w", err)
	}
	signer := ed25519.NewKeyFromSeed(seed)
	id := sha256.Sum256(signer.Public().(ed25519.PublicKey))
	authority, err := issue(&x509.Certificate{
		// Named by the key: verification looks for an issuer by its name.
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lockstep " + hex.EncodeToString(id[:8])},
		NotBefore: validFrom, NotAfter: validUntil,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, signer.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate authority: %w", err)
	}
	return signer, authority, nil
}

// IncarnationOf returns the name of a node's own key, which is the incarnation
// of the node in its server's name: nobody else can show a certificate for it.
func IncarnationOf(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:16])
}

// issue signs a certificate; without a parent it is self-signed.
func issue(template, parent *x509.Certificate, public any, signer ed25519.PrivateKey) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serverName makes a valid host name of a cluster id of any spelling, so that
// two clusters with the same key still refuse each other.
func serverName(clusterID string) string {
	sum := sha256.Sum256([]byte(clusterID))
	return hex.EncodeToString(sum[:16]) + serverNameSuffix
}

const serverNameSuffix = ".lockstep"
