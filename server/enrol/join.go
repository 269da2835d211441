package enrol

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"lockstep/cluster"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/nodedir"
	"lockstep/server/origin"
	"lockstep/server/retry"
)

// WaitsToJoin is what a node that waits tells those who ask it for anything else.
const WaitsToJoin = "it belongs to no cluster yet; see lockstep join"

// wait lets operators be served until one of them has told which cluster to join.
func (e Enroller) wait(ctx context.Context, r *nodedir.Record) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	id, joined := r.ID, make(chan struct{})
	var joining sync.Mutex // held while it enrols: one at a time
	join := func(ctx context.Context, j admin.Join) (string, error) {
		joining.Lock()
		defer joining.Unlock()
		select {
		case <-joined:
			return id, nil
		default:
		}
		if err := e.obey(ctx, r, j); err != nil {
			return "", err
		}
		close(joined)
		stop()
		return id, nil
	}
	e.Logger.Info("waiting to join a cluster", "with", "lockstep join MEMBER_URL --data-dir "+e.Dir)
	err := e.Serve(ctx, auth.Account{SID: r.AccountSID, AuthToken: r.AuthToken}, join)
	select {
	case <-joined:
		return nil
	default:
		return err
	}
}

// obey enrols as an operator says.
func (e Enroller) obey(ctx context.Context, r *nodedir.Record, j admin.Join) error {
	if err := (auth.Account{SID: j.AccountSID, AuthToken: j.AuthToken}).Validate(); err != nil {
		return objects.ErrParameter.With("%v", err)
	}
	j.Member = origin.Complete(j.Member)
	if err := origin.Validate(j.Member); err != nil {
		return objects.ErrParameter.With("member: %v", err)
	}
	if err := CheckPrivacy(j.Member, j.Insecure || e.InsecureJoin); err != nil {
		return objects.ErrParameter.With("member: %v", err)
	}
	return e.enrol(ctx, r, j)
}

// CheckPrivacy returns an error if the account's credentials would be sent to a
// member, and the cluster's key taken from it, where others can read along, unless
// that is allowed.
func CheckPrivacy(member string, insecure bool) error {
	u, err := url.Parse(member)
	if insecure || err != nil || u.Scheme != "http" || origin.IsLoopback(u.Hostname()) {
		return nil
	}
	return errors.New("joining sends the account's auth token and the cluster's key, which anyone on the way can read over plain http: name an https:// URL, that of a proxy in front of the member, or say --insecure-join if the network is yours")
}

// enrolTimeout bounds how long a member is asked for the cluster's key.
const enrolTimeout = 30 * time.Second

// enrol asks a member for what a node needs to become a peer, and keeps it.
func (e Enroller) enrol(ctx context.Context, r *nodedir.Record, j admin.Join) error {
	given, err := e.ask(ctx, r.ID, j)
	if err != nil {
		return err
	}
	return e.keep(r, j, given)
}

func (e Enroller) ask(ctx context.Context, id string, j admin.Join) (given admin.Enrolment, err error) {
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	client := &admin.Client{URLs: []string{j.Member}, AccountSID: j.AccountSID, AuthToken: j.AuthToken, HTTP: e.HTTP}
	err = retry.Until(ctx, func() (err error) {
		given, err = client.Enrol(ctx, admin.Enrol{ID: id, Replace: j.Replace})
		return unlessRefused(err)
	})
	if err != nil {
		return given, fmt.Errorf("enrol at %s: %w", j.Member, err)
	}
	return given, nil
}

// unlessRefused makes an error final if a node refused: it would do so again.
func unlessRefused(err error) error {
	if refused, ok := errors.AsType[*objects.Error](err); ok && refused.Status < 500 {
		return retry.Final(err)
	}
	return err
}

func (e Enroller) keep(r *nodedir.Record, j admin.Join, given admin.Enrolment) error {
	next := *r
	next.ClusterID, next.ClusterKey, next.Seeds, next.JoinThrough = given.ClusterID, given.ClusterKey, given.Seeds, j.Member
	next.OtherKeys, next.Members = given.OtherKeys, given.Members
	next.Incarnation, next.Bootstrap, next.Replace = "", false, j.Replace
	next.Former, next.RecoveredAs = nil, ""
	for _, f := range given.Former {
		next.Former = append(next.Former, nodedir.Former(f))
	}
	next.AccountSID, next.AuthToken = j.AccountSID, j.AuthToken
	if err := next.Save(e.Dir); err != nil {
		return err
	}
	*r = next
	e.Logger.Info("enrolled", "cluster", r.ClusterID, "through", j.Member)
	return nil
}

// Rejoin has a node whose state is lost begin anew in its own place: it puts what
// the node has of raft's state aside, once a member has told that it may come back.
func (e Enroller) Rejoin(ctx context.Context, r *nodedir.Record) error {
	j := admin.Join{Member: e.Join, AccountSID: r.AccountSID, AuthToken: r.AuthToken, Replace: true}
	if e.Account != (auth.Account{}) {
		j.AccountSID, j.AuthToken = e.Account.SID, e.Account.AuthToken
	}
	given, err := e.ask(ctx, r.ID, j)
	if err != nil {
		return err
	}
	if err := cluster.PutAside(e.Dir); err != nil {
		return err
	}
	return e.keep(r, j, given)
}
