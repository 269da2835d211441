package enrol

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"lockstep/cluster"
	"lockstep/server/auth"
	"lockstep/server/backup"
	"lockstep/server/nodedir"
)

// Restoration is a new cluster that is to begin with a backup, in a data directory
// for its first node.
type Restoration struct {
	DataDir string
	NodeID  string // default: made up, or as the directory has it
	Replace bool   // a node's state in the directory is put aside
	Logger  *slog.Logger
}

// clockTolerance is by how much the machine's clock may be behind the backup's:
// clocks differ, and how far numbers are moved on makes up for that.
const clockTolerance = time.Minute

// Check returns why there can be no cluster in the directory, if so, and why this
// machine's clock cannot be right. It changes nothing.
func (r Restoration) Check(s backup.Summary) error {
	_, err := r.record()
	return errors.Join(err, checkClock(s, time.Now()))
}

func checkClock(s backup.Summary, now time.Time) error {
	if made := time.UnixMilli(max(s.Time, s.Taken)); now.Before(made.Add(-clockTolerance)) {
		return fmt.Errorf("by this machine's clock it is %s, which is before the backup was made (%s): set the clock first, as numbers that clients know are moved on by the time since",
			now.UTC().Format(time.RFC3339), made.UTC().Format(time.RFC3339))
	}
	return nil
}

// record returns what the directory's record is to begin with: the node's name and
// addresses, if it has some.
func (r Restoration) record() (*nodedir.Record, error) {
	kept, err := nodedir.Load(r.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if cluster.HasState(r.DataDir) && !r.Replace {
			return nil, r.occupied("a node")
		}
		return newRecord(r.NodeID, auth.Account{}), nil
	case err != nil:
		return nil, err
	case (kept.Member() || kept.Recovery != nil) && !r.Replace:
		return nil, r.occupied(fmt.Sprintf("node %s of cluster %s", kept.ID, kept.ClusterID))
	case r.NodeID != "" && r.NodeID != kept.ID:
		return nil, otherNode(kept.ID, r.NodeID)
	case cluster.HasLeft(r.DataDir):
		return nil, cluster.ErrLeft
	}
	return &nodedir.Record{
		ID: kept.ID, InternalAddr: kept.InternalAddr, GossipAddr: kept.GossipAddr, HTTPURL: kept.HTTPURL, AdminURL: kept.AdminURL,
	}, nil
}

func (r Restoration) occupied(by string) error {
	return fmt.Errorf("%s holds the state of %s: take an empty directory, or put that state aside with --replace", r.DataDir, by)
}

// Do makes the new cluster of a backup's state, which is spent, and returns its id
// and the account's credentials, which are those of the state. The node's first
// start finishes what a crash leaves undone once the node's record has it.
func (r Restoration) Do(b backup.Loaded) (clusterID string, account auth.Account, err error) {
	if err := r.Check(b.Summary); err != nil {
		return "", auth.Account{}, err
	}
	if err := nodedir.Make(r.DataDir); err != nil {
		return "", auth.Account{}, err
	}
	release, err := nodedir.Occupy(r.DataDir)
	if err != nil {
		return "", auth.Account{}, err
	}
	defer release()
	record, err := r.record()
	if err != nil {
		return "", auth.Account{}, err
	}
	record.AccountSID, record.AuthToken = b.State.View().Account()
	next := nodedir.Recovery{ClusterID: newClusterID(), ClusterKey: randomHex(32)}
	keys, err := parseKeys([]string{next.ClusterKey})
	if err != nil {
		return "", auth.Account{}, err
	}
	config := cluster.Config{ID: record.ID, DataDir: r.DataDir, Logger: r.Logger}
	if next.Incarnation, err = cluster.Restore(config, b.State, next.ClusterID, keys[0]); err != nil {
		return "", auth.Account{}, err
	}
	record.Recovery = &next
	if err := record.Save(r.DataDir); err != nil { // it is decided
		return "", auth.Account{}, err
	}
	if err := finishRecovery(r.DataDir, record); err != nil {
		return "", auth.Account{}, err
	}
	return record.ClusterID, auth.Account{SID: record.AccountSID, AuthToken: record.AuthToken}, nil
}
