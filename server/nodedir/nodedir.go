// Package nodedir keeps what a node must remember about itself between two
// starts: who it is, the cluster's secret, its addresses and the account's
// credentials. It lives in node.json in the node's data directory, which nobody
// but the owner may read.
//
// The record of a node without a directory, which is "", is kept nowhere: such a node
// begins anew at each start.
//
// The package does not know what a cluster is and opens nothing but files. It
// starts no goroutine; one process uses a directory at a time.
package nodedir

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lockstep/cluster/durable"
)

// Record is the content of node.json.
type Record struct {
	ID string `json:"id"`

	// Incarnation is that of the node's raft state. Once it is here, raft state
	// of another one, or none, means that this node's promises are lost.
	Incarnation string `json:"incarnation,omitempty"`

	// Of the cluster; empty as long as the node belongs to none.
	ClusterID  string   `json:"cluster_id,omitempty"`
	ClusterKey string   `json:"cluster_key,omitempty"` // 64 hexadecimal digits
	OtherKeys  []string `json:"other_keys,omitempty"`  // accepted, too, while the key is being changed
	Seeds      []string `json:"seeds,omitempty"`       // gossip addresses of other members
	Members    []string `json:"members,omitempty"`     // the servers that there were when the node enrolled

	// Bootstrap says that the node makes the cluster and has not finished.
	// JoinThrough is the URL of the member through which it joins, until it votes,
	// and Replace says that it takes the place of a member with its id.
	Bootstrap   bool   `json:"bootstrap,omitempty"`
	JoinThrough string `json:"join_through,omitempty"`
	Replace     bool   `json:"replace,omitempty"`

	// Recovery is one that was decided and is not finished. Former are the clusters
	// that this one was before it was recovered, the newest last. RecoveredAs is
	// what this node's cluster went on as, after it was recovered without this node.
	Recovery    *Recovery `json:"recovery,omitempty"`
	Former      []Former  `json:"former,omitempty"`
	RecoveredAs string    `json:"recovered_as,omitempty"`

	// Peers are the URLs of the other members for operators, as last heard.
	Peers []string `json:"peers,omitempty"`

	HTTPURL      string `json:"http_url"`            // where this node answers clients
	AdminURL     string `json:"admin_url,omitempty"` // and operators, if elsewhere
	InternalAddr string `json:"internal_addr"`
	GossipAddr   string `json:"gossip_addr"`

	AccountSID string `json:"account_sid"`
	AuthToken  string `json:"auth_token"`
}

// Recovery is what a recovered cluster is called and known by, and the incarnation
// of the node that it begins with. FormerKey is the node's own key, as the
// incarnation that it was; a cluster that begins with a backup has none.
type Recovery struct {
	ClusterID   string `json:"cluster_id"`
	ClusterKey  string `json:"cluster_key"`
	Incarnation string `json:"incarnation"`
	FormerKey   string `json:"former_key,omitempty"`
}

// Former is a cluster of the past, with the keys by which its members know each
// other, and the member that it was recovered from, with that one's own key.
type Former struct {
	ClusterID   string   `json:"cluster_id"`
	ClusterKeys []string `json:"cluster_keys"`
	NodeID      string   `json:"node_id"`
	NodeKey     string   `json:"node_key"`
}

// maxFormer is how many clusters of the past are kept, the newest.
const maxFormer = 8

// Recovered makes the record that of the one node of a recovered cluster.
func (r *Record) Recovered() {
	if r.Recovery.FormerKey != "" {
		r.Former = append(r.Former, Former{
			ClusterID: r.ClusterID, ClusterKeys: append([]string{r.ClusterKey}, r.OtherKeys...), NodeID: r.ID, NodeKey: r.Recovery.FormerKey,
		})
	}
	r.Former = r.Former[max(0, len(r.Former)-maxFormer):]
	r.ClusterID, r.ClusterKey, r.Incarnation = r.Recovery.ClusterID, r.Recovery.ClusterKey, r.Recovery.Incarnation
	r.OtherKeys, r.Seeds, r.Members, r.Peers, r.Recovery = nil, nil, nil, nil, nil
	r.Bootstrap, r.JoinThrough, r.Replace, r.RecoveredAs = false, "", false, ""
}

// Member reports whether the node belongs to a cluster, or is on its way into one.
func (r *Record) Member() bool { return r.ClusterID != "" }

// OperatorURL returns where the node answers operators.
func (r *Record) OperatorURL() string { return cmp.Or(r.AdminURL, r.HTTPURL) }

// CertificateFile is the name of the file, in the directory, with the certificate that
// the node shows to its clients, if it shows one.
const CertificateFile = "tls.pem"

// RecordFile is the name of the file in the directory.
const RecordFile = "node.json"

// ErrOpen is a data directory that other users of the machine can look into.
var ErrOpen = errors.New("the data directory is open to other users")

// Make makes the directory if it does not exist. An empty one that others can
// look into is closed to them; one with content is refused: it may be something
// else, and it will hold secrets and everybody's data.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: chmod 700 %s", ErrOpen, dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close data directory to others: %w", err)
	}
	return nil
}

// Load reads the record. The error is fs.ErrNotExist if there is none.
func Load(dir string) (*Record, error) {
	if dir == "" {
		return nil, fmt.Errorf("read node record: %w", fs.ErrNotExist)
	}
	b, err := os.ReadFile(filepath.Join(dir, RecordFile))
	if err != nil {
		return nil, fmt.Errorf("read node record: %w", err)
	}
	r := new(Record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read node record %s: %w", filepath.Join(dir, RecordFile), err)
	}
	return r, nil
}

// Save writes the record so that a crash leaves the old one or the new one.
func (r *Record) Save(dir string) error {
	if dir == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write node record: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, RecordFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write node record: %w", err)
	}
	return nil
}

// Forget removes the record.
func Forget(dir string) error {
	if err := os.Remove(filepath.Join(dir, RecordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove node record: %w", err)
	}
	return durable.SyncDir(dir)
}
