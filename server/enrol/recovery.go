package enrol

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/server/admin"
	"lockstep/server/nodedir"
)

// Recovery makes a cluster of its own of a node that does not run, whose cluster
// has lost its quorum for good. It holds the data directory until it is closed.
type Recovery struct {
	NodeID      string
	ClusterID   string           // as the node's record has it
	RecoveredAs string           // another node's recovery made this of it
	Cut         bool             // this node's own was decided, and has not been finished
	Remains     *cluster.Remains // nil then

	dir     string
	record  *nodedir.Record
	release func()
}

// OpenRecovery looks at what the node of a data directory has, and changes none
// of it. The error is a StateError if a cluster cannot go on from that.
func OpenRecovery(dataDir string, logger *slog.Logger) (*Recovery, error) {
	record, err := nodedir.Load(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not the data directory of a node", dataDir)
	}
	if err != nil {
		return nil, err
	}
	release, err := nodedir.Occupy(dataDir)
	if err != nil {
		return nil, fmt.Errorf("%w: stop it first", err)
	}
	r := &Recovery{
		NodeID: record.ID, ClusterID: record.ClusterID, RecoveredAs: record.RecoveredAs, Cut: record.Recovery != nil,
		dir: dataDir, record: record, release: release,
	}
	if r.Cut {
		return r, nil
	}
	if err := r.open(logger); err != nil {
		release()
		return nil, err
	}
	return r, nil
}

func (r *Recovery) open(logger *slog.Logger) error {
	if !r.record.Member() {
		return StateError{Reason: fmt.Errorf("node %s belongs to no cluster", r.NodeID)}
	}
	var err error
	r.Remains, err = cluster.OpenRemains(cluster.Config{ID: r.NodeID, Incarnation: r.record.Incarnation, DataDir: r.dir, Logger: logger})
	if Lost(err) || errors.Is(err, fsm.ErrNewer) || errors.Is(err, cluster.ErrNoState) || errors.Is(err, cluster.ErrLeft) {
		return StateError{Reason: err}
	}
	return err
}

// Close releases the data directory.
func (r *Recovery) Close() error {
	defer r.release()
	if r.Remains == nil {
		return nil
	}
	return r.Remains.Close()
}

// Peer is what another member says that was known when the node last ran.
type Peer struct {
	URL    string
	Says   string
	Leader bool // it sees one: the cluster lives
}

// peerTimeout bounds asking one of them; all are asked at once.
const peerTimeout = 3 * time.Second

// AskPeers asks the other members whether they see a leader.
func (r *Recovery) AskPeers(ctx context.Context) []Peer {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	peers := make([]Peer, len(r.record.Peers))
	var asking sync.WaitGroup
	for i, url := range r.record.Peers {
		asking.Go(func() {
			client := &admin.Client{URLs: []string{url}, AccountSID: r.record.AccountSID, AuthToken: r.record.AuthToken}
			peers[i] = askPeer(ctx, client)
		})
	}
	asking.Wait()
	return peers
}

// askPeer asks a member whether it is ready, which it tells anybody, and, where the
// account's credentials may travel, for its status: a leader that it sees does not
// make it ready at once.
func askPeer(ctx context.Context, client *admin.Client) Peer {
	p := Peer{URL: client.URLs[0]}
	if CheckPrivacy(p.URL, false) != nil {
		client.AccountSID, client.AuthToken = "", ""
	} else if status, err := client.Status(ctx); err == nil {
		for _, n := range status.Nodes {
			if n.Role == admin.RoleLeader {
				p.Says, p.Leader = "sees the leader "+n.ID+" of cluster "+status.ClusterID, true
			}
		}
	}
	if p.Leader {
		return p
	}
	// Whether it is ready it tells anybody, and it need not be who it says it is: what
	// it says can only keep a cluster from being recovered.
	client = &admin.Client{URLs: client.URLs, HTTP: admin.Whoever()}
	switch err := client.Ready(ctx); {
	case err == nil:
		p.Says, p.Leader = "serves clients", true
	case errors.Is(err, admin.ErrUnreachable):
		p.Says = "does not answer"
	default:
		p.Says = "answers, and does not serve: " + err.Error()
	}
	return p
}

// Decide makes the state of a new cluster, whose only node is this one and which
// goes on from what the node has, and notes that it is to take the place of the old
// state. It does so from then on: Finish, or the node's next start, sees to it.
func (r *Recovery) Decide() error {
	next := nodedir.Recovery{ClusterID: newClusterID(), ClusterKey: randomHex(32), FormerKey: hex.EncodeToString(r.Remains.NodeKey.Seed())}
	keys, err := parseKeys([]string{next.ClusterKey})
	if err != nil {
		return err
	}
	if next.Incarnation, err = r.Remains.Recover(next.ClusterID, keys[0]); err != nil {
		return err
	}
	err = r.Remains.Close() // before its files are moved
	r.Remains = nil
	if err != nil {
		return fmt.Errorf("close the old state: %w", err)
	}
	r.record.Recovery = &next
	return r.record.Save(r.dir)
}

// Finish does what a recovery that was decided, now or before it was cut off,
// leaves to do, and returns the new cluster's id.
func (r *Recovery) Finish() (clusterID string, err error) {
	if err := finishRecovery(r.dir, r.record); err != nil {
		return "", err
	}
	return r.record.ClusterID, nil
}

// finishRecovery does what a recovery that was decided leaves to do. It may be
// repeated.
func finishRecovery(dir string, r *nodedir.Record) error {
	if err := cluster.FinishRecovery(dir); err != nil {
		return err
	}
	r.Recovered()
	return r.Save(dir)
}
