package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/audit"
	"lockstep/server/bounds"
	"lockstep/server/guard"
	"lockstep/server/nodedir"
	"lockstep/server/origin"
	"lockstep/server/rest"
	"lockstep/server/retry"
)

// identify loads the node's record, or makes one, and brings its addresses up
// to date.
func (s *Server) identify(front *front) (*nodedir.Record, error) {
	c := s.config
	r, err := nodedir.Load(c.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = newRecord(c.NodeID, c.Account)
	case err != nil:
		return nil, err
	case c.NodeID != "" && c.NodeID != r.ID:
		return nil, otherNode(r.ID, c.NodeID)
	}
	if r.Recovery != nil {
		if err := finishRecovery(c.DataDir, r); err != nil {
			return nil, err
		}
		s.log.Warn("a recovery that had been cut off was finished", "cluster", r.ClusterID)
	}
	r.HTTPURL, r.AdminURL = front.url, front.adminURL
	if r.InternalAddr, err = keepAddr(c.InternalAddr, r.InternalAddr); err != nil {
		return nil, fmt.Errorf("internal address: %w", err)
	}
	if r.GossipAddr, err = keepAddr(c.GossipAddr, r.GossipAddr); err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	return r, r.Save(c.DataDir)
}

// newRecord makes up what is not given.
func newRecord(id string, account Account) *nodedir.Record {
	if account == (Account{}) {
		account = NewAccount()
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
	if _, port, err := net.SplitHostPort(configured); err != nil || port != "0" || kept == "" {
		return nodedir.FixPort(configured)
	}
	return kept, nil
}

// enter makes the node belong to a cluster: a new one, or that of the member
// that it is told.
func (s *Server) enter(ctx context.Context, front *front, r *nodedir.Record) error {
	switch c := s.config; {
	case c.Bootstrap:
		return s.bootstrap(ctx, r)
	case c.Join != "":
		return s.enrol(ctx, r, admin.Join{Member: c.Join, AccountSID: c.Account.SID, AuthToken: c.Account.AuthToken, Replace: c.Replace})
	}
	return s.waitToJoin(ctx, front, r)
}

// waitToJoin serves the operator until told which cluster to join.
func (s *Server) waitToJoin(ctx context.Context, front *front, r *nodedir.Record) error {
	c := s.config
	joined := make(chan struct{}, 1)
	one := make(chan struct{}, 1) // enrols at a time
	join := func(ctx context.Context, j admin.Join) (string, error) {
		one <- struct{}{}
		defer func() { <-one }()
		if r.Member() {
			return r.ID, nil
		}
		if err := (Account{SID: j.AccountSID, AuthToken: j.AuthToken}).Validate(); err != nil {
			return "", objects.ErrParameter.With("%v", err)
		}
		j.Member = origin.Complete(j.Member)
		if err := origin.Validate(j.Member); err != nil {
			return "", objects.ErrParameter.With("member: %v", err)
		}
		if err := SecureJoin(j.Member, j.Insecure || c.InsecureJoin); err != nil {
			return "", objects.ErrParameter.With("member: %v", err)
		}
		if err := s.enrol(ctx, r, j); err != nil {
			return "", err
		}
		joined <- struct{}{}
		return r.ID, nil
	}
	watch := guard.New(guard.Config{Delay: c.Bounds.FailureDelay, Waiting: c.Bounds.FailuresWaiting, Audit: audit.New(c.Audit)})
	defer runBeside(watch.Run)()
	allow := func(q *http.Request) (audit.Actor, error) {
		return allowAccount(q, recordKeyring{r.AccountSID, r.AuthToken}, watch, c.TrustedProxies)
	}
	const reason = "it belongs to no cluster yet; see lockstep join"
	front.show(rest.Unavailable(reason), admin.Waiting(reason, rest.Unavailable(reason), allow, join))
	s.log.Info("waiting to join a cluster", "with", "lockstep join MEMBER_URL --data-dir "+s.config.DataDir)
	select {
	case <-joined:
		return nil
	case err := <-front.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enrolTimeout bounds how long a member is asked for the cluster's key.
const enrolTimeout = 30 * time.Second

// enrol asks a member for what a node needs to become a peer, and keeps it.
func (s *Server) enrol(ctx context.Context, r *nodedir.Record, j admin.Join) error {
	e, err := s.askEnrolment(ctx, r.ID, j)
	if err != nil {
		return err
	}
	return s.keepEnrolment(r, j, e)
}

func (s *Server) askEnrolment(ctx context.Context, id string, j admin.Join) (e admin.Enrolment, err error) {
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	client := &admin.Client{URLs: []string{j.Member}, AccountSID: j.AccountSID, AuthToken: j.AuthToken}
	err = retry.Until(ctx, func() (err error) {
		e, err = client.Enrol(ctx, admin.Enrol{ID: id, Replace: j.Replace})
		return unlessRefused(err)
	})
	if err != nil {
		return e, fmt.Errorf("enrol at %s: %w", j.Member, err)
	}
	return e, nil
}

func (s *Server) keepEnrolment(r *nodedir.Record, j admin.Join, e admin.Enrolment) error {
	next := *r
	next.ClusterID, next.ClusterKey, next.Seeds, next.JoinThrough = e.ClusterID, e.ClusterKey, e.Seeds, j.Member
	next.OtherKeys, next.Members = e.OtherKeys, e.Members
	next.Incarnation, next.Bootstrap, next.Replace = "", false, j.Replace
	next.Former, next.RecoveredAs = nil, ""
	for _, f := range e.Former {
		next.Former = append(next.Former, nodedir.Former(f))
	}
	next.AccountSID, next.AuthToken = j.AccountSID, j.AuthToken
	if err := next.Save(s.config.DataDir); err != nil {
		return err
	}
	*r = next
	s.log.Info("enrolled", "cluster", r.ClusterID, "through", j.Member)
	return nil
}

// unlessRefused makes an error final if a node refused: it would do so again.
func unlessRefused(err error) error {
	var refused *objects.Error
	if errors.As(err, &refused) && refused.Status < 500 {
		return retry.Final(err)
	}
	return err
}

// open starts the node's part of the cluster.
func (s *Server) open(ctx context.Context, r *nodedir.Record, admission admission, keep keepKeys) (*cluster.Node, error) {
	c := s.config
	config := cluster.Config{
		ID: r.ID, Incarnation: r.Incarnation, DataDir: c.DataDir, ClusterID: r.ClusterID,
		InternalAddr: r.InternalAddr, InternalAdvertise: c.advertised(r.InternalAddr), GossipAddr: r.GossipAddr,
		HTTPURL: r.HTTPURL, AdminURL: r.AdminURL, Version: c.Version, Bootstrap: r.Bootstrap, Seeds: append(slices.Clone(c.Seeds), r.Seeds...), TimeoutScale: c.TimeoutScale,
		SnapshotThreshold: c.SnapshotThreshold, TrailingLogs: c.TrailingLogs,
		FeedBytes: int64(c.Bounds.FeedBytes), TrailingBytes: int64(c.Bounds.LogBytes), Limits: clusterLimits(c.Bounds),
		DiskShort: admission.room.short, DisksFull: admission.room.told, Admit: admission.admit, AdmitReads: admission.limits.AdmitReads, Clock: c.Clock, Logger: c.Logger,
	}
	config.KeepKeys, config.Members = keep, r.Members
	var err error
	if config.Key, config.OtherKeys, err = clusterKeys(r); err != nil {
		return nil, err
	}
	if config.Past, err = pastClusters(r); err != nil {
		return nil, err
	}
	if config.GossipAdvertise, err = resolve(ctx, c.advertised(r.GossipAddr)); err != nil {
		return nil, err
	}
	node, err := cluster.Open(ctx, config)
	if r.Bootstrap && errors.Is(err, cluster.ErrHasState) {
		// An earlier start made the cluster and came no further.
		config.Bootstrap = false
		node, err = cluster.Open(ctx, config)
	}
	return node, err
}

// resolve turns the name in host:port into an address: gossip knows no names.
func resolve(ctx context.Context, addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil {
		return addr, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("look up %s: %w", host, err)
	}
	return net.JoinHostPort(found[0].Unmap().String(), port), nil
}

// settle finishes what enter began, once the node is open: a new cluster gets
// its account, a joining node its vote. It goes on until it succeeds or ctx ends.
func (s *Server) settle(ctx context.Context, node *cluster.Node, book *book) error {
	r := book.copy()
	switch {
	case r.Bootstrap:
		if err := s.initialise(ctx, node, &r); err != nil {
			return err
		}
		if s.config.Bootstrap && s.config.Account == (Account{}) && s.config.Welcome != nil {
			s.config.Welcome(Account{SID: r.AccountSID, AuthToken: r.AuthToken})
		}
	case r.JoinThrough != "":
		if err := s.join(ctx, node, &r); err != nil {
			return err
		}
	}
	return book.change(func(r *nodedir.Record) { r.Bootstrap, r.JoinThrough, r.Replace = false, "", false })
}

func (s *Server) initialise(ctx context.Context, node *cluster.Node, r *nodedir.Record) error {
	_, err := node.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: &fsm.Initialise{
		ClusterID: r.ClusterID, AccountSID: r.AccountSID, AuthToken: r.AuthToken, Service: newSID(objects.KindService),
	}})
	if err != nil {
		return fmt.Errorf("initialise the cluster: %w", err)
	}
	s.log.Info("cluster initialised", "cluster", r.ClusterID, "account", r.AccountSID)
	return nil
}

// clusterLimits returns the bounds of the ports for other nodes.
func clusterLimits(b bounds.Bounds) cluster.Limits {
	return cluster.Limits{
		InternalStrangers: b.InternalStrangers, InternalStrangersPerSource: b.InternalStrangersPerSource,
		InternalMembers: b.InternalMembers, InternalPerMember: b.InternalPerMember,
		GossipStreams: b.GossipStreams, GossipStreamsPerSource: b.GossipStreamsPerSource,
		GossipStreamBytes: int64(b.GossipStreamBytes), GossipPackets: b.GossipPackets,
	}
}

// join has the node added by the member through which it enrolled, and waits
// until it votes.
func (s *Server) join(ctx context.Context, node *cluster.Node, r *nodedir.Record) error {
	member := &admin.Client{URLs: []string{r.JoinThrough}, AccountSID: r.AccountSID, AuthToken: r.AuthToken}
	self := admin.Member{ID: r.ID, Raft: node.InternalAddr(), HTTP: r.HTTPURL, Gossip: s.config.advertised(r.GossipAddr), Version: s.config.Version, Replace: r.Replace || s.config.Replace}
	said := ""
	add := func() error {
		err := member.AddMember(ctx, self)
		if err != nil && err.Error() != said {
			said = err.Error()
			s.log.Warn("not added yet", "through", r.JoinThrough, "error", err)
		}
		return unlessRefused(err)
	}
	if err := retry.Until(ctx, add); err != nil {
		return fmt.Errorf("join through %s: %w", r.JoinThrough, err)
	}
	s.log.Info("added as nonvoter, catching up", "through", r.JoinThrough)
	votes := func() error {
		if node.Votes() {
			return nil
		}
		return errNoVote
	}
	if err := retry.Until(ctx, votes); err != nil {
		return err
	}
	s.log.Info("this node votes")
	return nil
}

var errNoVote = errors.New("this node does not vote yet")
