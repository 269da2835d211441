package enrol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"lockstep/cluster"
	"lockstep/server/auth"
	"lockstep/server/nodedir"
)

// A cluster is made once. A start that is told to make one each time, as a unit
// file or a container's command does, must not make a second one when the first
// node's data directory was lost: the other members go on with the data.

// bootstrapWait is how long a node that is about to make a cluster listens for
// members of an old one, which look for it about each second. It is scaled.
const bootstrapWait = 2 * time.Second

// Init makes a new cluster in a data directory in which there is none, of the one
// node that is to be started there, and returns its account: the one that is
// given, or one that is made up.
func Init(dataDir, nodeID string, account auth.Account) (_ auth.Account, clusterID string, err error) {
	if err := account.Validate(); err != nil {
		return auth.Account{}, "", err
	}
	release, err := nodedir.Claim(dataDir)
	if err != nil {
		return auth.Account{}, "", err
	}
	defer release()
	r, err := nodedir.Load(dataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = newRecord(nodeID, account)
	case err != nil:
		return auth.Account{}, "", err
	case r.Member():
		return auth.Account{}, "", fmt.Errorf("%s is the data directory of node %s of cluster %s already: start it with lockstep serve", dataDir, r.ID, r.ClusterID)
	case nodeID != "" && nodeID != r.ID:
		return auth.Account{}, "", otherNode(r.ID, nodeID)
	case account != (auth.Account{}):
		r.AccountSID, r.AuthToken = account.SID, account.AuthToken
	}
	if err := beginCluster(dataDir, r); err != nil {
		return auth.Account{}, "", err
	}
	return auth.Account{SID: r.AccountSID, AuthToken: r.AuthToken}, r.ClusterID, nil
}

// beginCluster notes that the node makes a cluster; its start does, and finishes
// what an earlier one began.
func beginCluster(dataDir string, r *nodedir.Record) error {
	if err := (auth.Account{SID: r.AccountSID, AuthToken: r.AuthToken}).ValidateStrength(); err != nil {
		return err
	}
	r.ClusterID, r.ClusterKey, r.Bootstrap = newClusterID(), randomHex(32), true
	return r.Save(dataDir)
}

// bootstrap makes a new cluster, unless there are signs of an old one that this
// node was a member of.
func (e Enroller) bootstrap(ctx context.Context, r *nodedir.Record) error {
	if err := e.refuseSecondCluster(ctx, r.InternalAddr); err != nil {
		// The directory is as good as empty, for another node id perhaps.
		return errors.Join(err, nodedir.Forget(e.Dir))
	}
	if err := beginCluster(e.Dir, r); err != nil {
		return err
	}
	e.Logger.Info("making a new cluster", "cluster", r.ClusterID)
	return nil
}

// refuseSecondCluster looks for members of an old cluster: at the seeds, where a
// node gossips only if it belongs to a cluster, and at the internal address, where
// they look for this one. There is nobody to wait for at a port that was chosen
// just now.
func (e Enroller) refuseSecondCluster(ctx context.Context, addr string) error {
	scale := e.TimeoutScale
	if scale == 0 {
		scale = 1
	}
	wait := time.Duration(float64(bootstrapWait) * scale)
	if seed := answering(ctx, e.Seeds, wait); seed != "" {
		return e.secondCluster("a node of a cluster answers at the seed " + seed)
	}
	if chosen(e.InternalAddr) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	from, err := cluster.AwaitKnock(waiting, addr)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case from != "":
		return e.secondCluster(from + " takes " + addr + " for the internal port of a member of its cluster")
	}
	return nil
}

func (e Enroller) secondCluster(sign string) error {
	id := e.NodeID
	if id == "" {
		id = "ITS_ID"
	}
	return StateError{Reason: fmt.Errorf("no second cluster was made: %s, so this data directory, which is empty, may be that of a member that lost its disk. "+
		"To have it come back with the data of the others: lockstep serve --data-dir %s --node-id %s --join URL_OF_ANOTHER_NODE --replace. To make a new cluster all the same: lockstep init --data-dir %s", sign, e.Dir, id, e.Dir)}
}

// answering returns one of the addresses at which somebody accepts a connection,
// or "". All are tried at once.
func answering(ctx context.Context, addrs []string, timeout time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers := make(chan string, len(addrs))
	for _, addr := range addrs {
		go func() { // ends with the attempt, which ctx bounds, and is waited for below
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				answers <- ""
				return
			}
			c.Close()
			answers <- addr
		}()
	}
	found := ""
	for range addrs {
		if a := <-answers; a != "" {
			found = a
			cancel()
		}
	}
	return found
}
