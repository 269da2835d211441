package enrol

import (
	"context"
	"errors"
	"fmt"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/nodedir"
	"lockstep/server/retry"
)

// Node is the open node, as far as it matters here.
type Node interface {
	Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error)
	InternalAddr() string // by which other nodes reach it
	Settled() bool        // it votes, or has caught up and wants no vote
}

// Settle finishes what Enter began, once the node is open: a new cluster gets its
// account, a joining node its vote. It goes on until it succeeds or ctx ends.
func (e Enroller) Settle(ctx context.Context, node Node, record *Record) error {
	r := record.Copy()
	switch {
	case r.Bootstrap:
		if err := e.initialise(ctx, node, r); err != nil {
			return err
		}
		if e.Bootstrap && e.Account == (auth.Account{}) && e.Welcome != nil {
			e.Welcome(auth.Account{SID: r.AccountSID, AuthToken: r.AuthToken})
		}
	case r.JoinThrough != "":
		if err := e.join(ctx, node, r); err != nil {
			return err
		}
	}
	return record.Change(func(r *nodedir.Record) { r.Bootstrap, r.JoinThrough, r.Replace = false, "", false })
}

func (e Enroller) initialise(ctx context.Context, node Node, r nodedir.Record) error {
	_, err := node.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: &fsm.Initialise{
		ClusterID: r.ClusterID, AccountSID: r.AccountSID, AuthToken: r.AuthToken, Service: objects.NewSID(objects.KindService, commandid.New()),
	}})
	if err != nil {
		return fmt.Errorf("initialise the cluster: %w", err)
	}
	e.Logger.Info("cluster initialised", "cluster", r.ClusterID, "account", r.AccountSID)
	return nil
}

// join has the node added by the member through which it enrolled, and waits
// until it votes, or serves if it wants no vote. It may have been added by an earlier
// process: nobody needs to be where that member was then.
func (e Enroller) join(ctx context.Context, node Node, r nodedir.Record) error {
	member := &admin.Client{URLs: []string{r.JoinThrough}, AccountSID: r.AccountSID, AuthToken: r.AuthToken, HTTP: e.HTTP}
	self := admin.Member{ID: r.ID, Raft: node.InternalAddr(), HTTP: r.HTTPURL, Gossip: e.Advertise(r.GossipAddr), Version: e.Version, Replace: r.Replace || e.Replace}
	told := ""
	err := retry.Until(ctx, func() error {
		if node.Settled() {
			return nil
		}
		err := member.AddMember(ctx, self)
		if err != nil && err.Error() != told {
			told = err.Error()
			e.Logger.Warn("not added yet", "through", r.JoinThrough, "error", err)
		}
		return unlessRefused(err)
	})
	if err != nil {
		return fmt.Errorf("join through %s: %w", r.JoinThrough, err)
	}
	e.Logger.Info("added, catching up", "through", r.JoinThrough)
	err = retry.Until(ctx, func() error {
		if !node.Settled() {
			return errNotSettled
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.Logger.Info("this node has settled in", "votes", !e.Nonvoter)
	return nil
}

var errNotSettled = errors.New("this node does not vote yet")
