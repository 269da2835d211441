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
	"time"
)

// Certificates are valid for ever: who may connect is decided by the cluster
// key alone, and a clock that is wrong must not split the cluster.
var (
	validFrom  = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Credential proves to other members that this node belongs to the cluster.
type Credential struct {
	server *tls.Config
	client *tls.Config
}

// NewCredential derives the cluster's certificate authority from its key, the
// same on every node, and signs a fresh certificate that names this node and, as
// the subject's serial number, the incarnation of its log. So whoever has the key is a peer, and no certificate has to be handed around.
func NewCredential(key [32]byte, clusterID, nodeID, incarnation string) (*Credential, error) {
	seed, err := hkdf.Key(sha256.New, key[:], []byte(clusterID), "lockstep internal port", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive certificate authority: %w", err)
	}
	signer := ed25519.NewKeyFromSeed(seed)
	authority, err := issue(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lockstep"},
		NotBefore: validFrom, NotAfter: validUntil,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make node key: %w", err)
	}
	name := serverName(clusterID)
	leaf, err := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: nodeID, SerialNumber: incarnation}, DNSNames: []string{name},
		NotBefore: validFrom, NotAfter: validUntil, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, authority, public, signer)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(authority)
	own := []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: private, Leaf: leaf}}
	return &Credential{
		server: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: own,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted,
			SessionTicketsDisabled: true,
		},
		client: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: own, RootCAs: trusted, ServerName: name},
	}, nil
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
	return hex.EncodeToString(sum[:16]) + ".lockstep"
}
