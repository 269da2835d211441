package link

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
)

// A cluster that was recovered has a key of its own, which members of the old
// one do not know: they would take its ports for strangers'. So a port that
// still has the old key uses it for one thing: a node that asks for the old
// cluster is shown a certificate of that cluster which says that it goes on as
// another one.

// Past is a cluster that this one was before it was recovered. The certificate
// is for the key of the member that it was recovered from, as it was in that
// cluster: only members are believed, and a machine that was removed, which has
// only the cluster's key, is none.
type Past struct {
	ClusterID string
	Keys      [][32]byte // the one that members show first
	Node      string     // id of that member
	NodeKey   ed25519.PrivateKey
}

// RecoveredError is the failure to connect to a node whose cluster was recovered
// without this one.
type RecoveredError struct {
	Cluster string // that this node belongs to
	As      string // that it goes on as
}

// Error implements error.
func (e *RecoveredError) Error() string {
	return fmt.Sprintf("cluster %s was recovered without this node, and goes on as %s", e.Cluster, e.As)
}

// recoveredUnit is the unit in the subject of a certificate that says so; the
// organization is the cluster that the old one goes on as.
const recoveredUnit = "recovered as"

// Succeed makes the node tell members of past clusters which cluster theirs
// goes on as. It is called before the credential is used.
func (c *Credential) Succeed(pasts []Past) error {
	c.past = make(map[string]*tls.Config, len(pasts))
	for _, p := range pasts {
		config := &tls.Config{
			MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(),
			SessionTicketsDisabled: true,
		}
		for i, key := range p.Keys {
			signer, authority, err := authorityOf(key, p.ClusterID)
			if err != nil {
				return err
			}
			config.ClientCAs.AddCert(authority)
			if i > 0 {
				continue
			}
			leaf, err := issue(&x509.Certificate{
				SerialNumber: big.NewInt(3), DNSNames: []string{serverName(p.ClusterID)},
				Subject:   pkix.Name{CommonName: p.Node, OrganizationalUnit: []string{recoveredUnit}, Organization: []string{c.cluster}},
				NotBefore: validFrom, NotAfter: validUntil, KeyUsage: x509.KeyUsageDigitalSignature,
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			}, authority, p.NodeKey.Public(), signer)
			if err != nil {
				return fmt.Errorf("make certificate of a past cluster: %w", err)
			}
			config.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: p.NodeKey, Leaf: leaf}}
		}
		c.past[serverName(p.ClusterID)] = config
	}
	return nil
}

// forClient returns the configuration for the cluster that a client asks for.
func (c *Credential) forClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	return c.past[hello.ServerName], nil // none: that of the cluster as it is
}

// isPast reports whether a connection was of a client that asked for a past cluster.
func (c *Credential) isPast(state tls.ConnectionState) bool { return c.past[state.ServerName] != nil }

// recoveredAs returns what the cluster of a certificate goes on as, or "".
func recoveredAs(certificate *x509.Certificate) string {
	s := certificate.Subject
	if len(s.Organization) != 1 || !slices.Equal(s.OrganizationalUnit, []string{recoveredUnit}) {
		return ""
	}
	return s.Organization[0]
}
