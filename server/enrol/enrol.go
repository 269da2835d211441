// Package enrol makes a node belong to a cluster: to a new one, to that of a
// member that it is told, or, when a quorum is lost for good, to one that goes on
// from what a single node has.
//
// What was decided is noted in the node's record (package nodedir) before it is
// done, and each start finishes what an earlier one began: Identify says who the
// node is, Enter which cluster it belongs to, and Settle, once its part of the
// cluster is open, that it has its account or its vote.
//
// The package opens no part of the cluster and serves nobody; what it needs of
// those who do is handed in. It starts no goroutine that outlives a call.
package enrol

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"

	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/nodedir"
)

// Enroller is a node that is to belong to a cluster: what it was told at its
// start. What it was told at an earlier one is in its record.
type Enroller struct {
	Dir     string       // the node's data directory, which is this process's own
	NodeID  string       // empty: as in the record, or made up
	Account auth.Account // of the cluster to make or to join; none: made up for a new one

	// InternalAddr and GossipAddr are what the node listens on; port 0 is one that is
	// chosen once, and again only when somebody else has it. Advertise returns the
	// address by which others reach one of these.
	InternalAddr string
	GossipAddr   string
	Advertise    func(addr string) string
	Seeds        []string // gossip addresses of other nodes

	// Bootstrap makes a new cluster, Join names a member of the one to join, through
	// plain HTTP beyond this machine only if InsecureJoin. Replace lets the node take
	// the place of a member with its id.
	Bootstrap    bool
	Join         string
	InsecureJoin bool
	Replace      bool
	Nonvoter     bool // it wants no vote

	// Serve answers operators, whom the account lets in, while the node waits to be
	// told which cluster to join. It returns an error when ctx ends or it cannot go on.
	Serve func(ctx context.Context, account auth.Account, join admin.JoinFunc) error

	// Welcome is told an account that was made up. It may be nil.
	Welcome func(auth.Account)

	// HTTP asks members. Nil: a client that believes the machine's authorities.
	HTTP *http.Client

	TimeoutScale float64 // of waiting for signs of an old cluster; zero: 1
	Version      string
	Logger       *slog.Logger
}

// Identify loads the node's record, or makes one, and brings its addresses up to
// date. The URLs are those by which clients and operators reach the node.
func (e Enroller) Identify(httpURL, adminURL string) (*nodedir.Record, error) {
	r, err := nodedir.Load(e.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = newRecord(e.NodeID, e.Account)
	case err != nil:
		return nil, err
	case e.NodeID != "" && e.NodeID != r.ID:
		return nil, otherNode(r.ID, e.NodeID)
	}
	if r.Recovery != nil {
		if err := finishRecovery(e.Dir, r); err != nil {
			return nil, err
		}
		e.Logger.Warn("a recovery that had been cut off was finished", "cluster", r.ClusterID)
	}
	r.HTTPURL, r.AdminURL = httpURL, adminURL
	if r.InternalAddr, err = keepAddr(e.InternalAddr, r.InternalAddr); err != nil {
		return nil, fmt.Errorf("internal address: %w", err)
	}
	if r.GossipAddr, err = keepAddr(e.GossipAddr, r.GossipAddr); err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	return r, r.Save(e.Dir)
}

// LeaveTakenPorts chooses other ports in the place of those that the node chose itself
// and that somebody else has taken meanwhile, and reports whether there were any. Ports
// that it was told are the operator's to free.
func (e Enroller) LeaveTakenPorts(r *nodedir.Record) (bool, error) {
	left := false
	for _, port := range []struct {
		name, configured string
		kept             *string
	}{{"internal", e.InternalAddr, &r.InternalAddr}, {"gossip", e.GossipAddr, &r.GossipAddr}} {
		if !chosen(port.configured) || nodedir.Free(*port.kept) {
			continue
		}
		other, err := nodedir.FixPort(port.configured)
		if err != nil {
			return false, fmt.Errorf("%s address: %w", port.name, err)
		}
		e.Logger.Warn("somebody else has this node's port, it takes another one", "port", port.name, "taken", *port.kept, "chosen", other)
		*port.kept, left = other, true
	}
	if !left {
		return false, nil
	}
	return true, r.Save(e.Dir)
}

// newRecord makes up what is not given.
func newRecord(id string, account auth.Account) *nodedir.Record {
	if account == (auth.Account{}) {
		account = auth.NewAccount()
	}
	if id == "" {
		id = "node-" + randomHex(4)
	}
	return &nodedir.Record{ID: id, AccountSID: account.SID, AuthToken: account.AuthToken}
}

func otherNode(kept, given string) error {
	return fmt.Errorf("the data directory belongs to node %s, not %s", kept, given)
}

// keepAddr prefers an address that names its port, then the one that was kept,
// and chooses a free port otherwise.
func keepAddr(configured, kept string) (string, error) {
	if chosen(configured) && kept != "" {
		return kept, nil
	}
	return nodedir.FixPort(configured)
}

// chosen reports whether the node itself chooses the port of an address.
func chosen(configured string) bool {
	_, port, err := net.SplitHostPort(configured)
	return err == nil && port == "0"
}

// Enter makes the node belong to a cluster: a new one, or that of the member that
// it is told, for which it waits if need be.
func (e Enroller) Enter(ctx context.Context, r *nodedir.Record) error {
	switch {
	case e.Bootstrap:
		return e.bootstrap(ctx, r)
	case e.Join != "":
		return e.enrol(ctx, r, admin.Join{Member: e.Join, AccountSID: e.Account.SID, AuthToken: e.Account.AuthToken, Replace: e.Replace})
	}
	return e.wait(ctx, r)
}

func newClusterID() string { return "lockstep-" + randomHex(8) }

// randomHex returns n random bytes as text.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
