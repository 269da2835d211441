// Package cluster is one running member: it replicates commands with raft,
// applies them to its fsm, and serves linearizable reads of it, whichever node
// is asked.
//
// A write is proposed under its command id to the leader, again and again
// until its outcome is known; the store's dedup window makes that happen once.
// A read takes the leader's commit index, which the leader gives only after a
// majority of voters has confirmed its term, and waits until the local store has
// applied it. A leader's own work (the batcher, expiry, promotion of joining
// nodes, nudges, what OnLead registers) lives and ends with its term.
//
// Goroutines: Open starts a fixed set, all of which Close ends and waits for.
// One of them (terms) owns leadership and waits for what a term started. FSM
// callbacks come on raft's apply goroutine and never block.
//
// Locks, here and in cluster/internal, are leaves: none is held while another one
// is taken, or across I/O.
//
// The package carries opaque commands: it does not know what a Document is. It
// decides no membership by itself, except to promote a node that was added and
// has caught up.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/asynclog"
	"lockstep/cluster/internal/clock"
	"lockstep/cluster/internal/disk"
	"lockstep/cluster/internal/keyring"
	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/link"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/membership"
	"lockstep/cluster/internal/nudge"
	"lockstep/cluster/internal/proposer"
	"lockstep/cluster/internal/readindex"
	"lockstep/cluster/internal/recall"
	"lockstep/cluster/internal/replica"
	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/takeover"
	"lockstep/cluster/internal/transport"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/objects"
)

// Node is a running member of a cluster. Its methods may be called from any
// goroutine.
type Node struct {
	config  Config
	self    string // this server: the node's id and its incarnation
	process uint64 // tells processes apart that run on copies of one directory
	life    *lifetime.Lifetime

	stores    *stores
	disk      *disk.Disk // what the stores write to
	diskShort atomic.Bool
	log       *asynclog.Log // what raft writes to
	meter     *meter        // of the log
	snapshots *timedSnapshots
	history   history
	fsm       *fsm.FSM
	raft      *raft.Raft
	members   member.Configuration
	transport *transport.Guard
	peers     Peers
	port      *link.Port // peers, unless there are Parts
	table     map[byte]wire.Handler
	gossip    *gossip // nil without

	keys       *keyring.Keyring
	credential *link.Credential // nil with Parts
	places     places

	leadership *leadership.Leadership
	proposer   *proposer.Proposer
	reads      *readindex.Reads
	takeover   *takeover.Watcher
	replica    *replica.Replica
	recall     *recall.Recall
	survey     *status.Survey
	admission  *membership.Admission
	transfers  *membership.Transfers
	changes    *membership.Changes
	place      *membership.Place

	clock   *clock.Clock
	keeper  *clock.Keeper
	applied chan struct{}         // one slot: a batch was applied
	altered atomic.Pointer[error] // of a snapshot that this node started with

	opened  time.Time
	current atomic.Int64 // nanoseconds after opened at which the store had everything

	ready      chan struct{}
	failed     chan struct{}
	failedOnce sync.Once
	failure    error // valid once failed is closed

	stopping sync.Once
	stopErr  error

	asked atomic.Pointer[Answerer]
}

// Open starts a node on its data directory. A node that neither bootstraps nor
// has state waits to be added by a member (AddMember). The context bounds the
// opening only.
func Open(ctx context.Context, config Config) (_ *Node, err error) {
	config = config.withDefaults()
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("cluster configuration: %w", err)
	}
	n := &Node{
		config:  config,
		process: rand.Uint64(),
		life:    lifetime.New(),
		disk:    disk.New(),
		history: history{opened: time.Now()},
		clock:   clock.New(config.Clock),
		opened:  time.Now(),
		applied: make(chan struct{}, 1),
		ready:   make(chan struct{}),
		failed:  make(chan struct{}),
	}
	n.keys = keyring.New(append([][32]byte{config.Key}, config.OtherKeys...))
	waiters := proposer.NewWaiters()
	n.fsm = fsm.New(fsm.Config{FeedBytes: config.FeedBytes, Applied: func(batch []fsm.Applied) {
		n.history.applied(n.fsm.View().Index())
		waiters.Resolve(batch)
		n.onApplied()
	}})
	n.leadership = leadership.New(leadership.Config{
		Store: n.fsm, Life: n.life, Logger: config.Logger, Prepare: n.prepareTerm, Stamp: n.stamp, Batches: n.batches(),
	})
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
		}
	}()
	if err := n.openParts(); err != nil {
		return nil, err
	}
	n.survey = &status.Survey{Self: n.self, Own: n.ownStatus, Peers: n.peers, Scale: config.scaled, Heard: n.heard}
	if config.GossipAddr != "" { // before raft, which asks it for addresses
		if n.gossip, err = startGossip(config, n.keys.All(), n.self, n.peers.Addr()); err != nil {
			return nil, err
		}
	}
	if err := n.startRaft(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n.compose(waiters)
	n.start()
	return n, nil
}

// openParts makes the stores, the internal port and raft's transport over it.
func (n *Node) openParts() error {
	var err error
	if n.stores, err = openStores(n.config, n.disk); err != nil {
		return err
	}
	if wrap := n.config.wrapLogs; wrap != nil {
		n.stores.logs = wrap(n.stores.logs)
	}
	if wrap := n.config.wrapStable; wrap != nil {
		n.stores.stable.StableStore = wrap(n.stores.stable.StableStore)
	}
	n.disk.Observe(n.config.took(MeasureAppended), n.config.took(MeasureCut), n.config.took(MeasurePromised))
	n.log = asynclog.New(n.disk.Log(n.stores.logs))
	n.stores.stable.StableStore = n.disk.Stable(n.stores.stable.StableStore)
	n.meter = &meter{LogStore: &vettedLog{n.log, n.fail}}
	n.stores.logs = n.meter
	n.snapshots = newTimedSnapshots(n.stores.snapshots, n.config.took(MeasureSnapshot))
	n.stores.snapshots = n.snapshots
	key, incarnation, err := incarnate(n.stores.stable, n.config.Incarnation)
	if err != nil {
		return err
	}
	n.self = string(member.ServerOf(n.config.ID, incarnation))
	n.admission = &membership.Admission{
		Self: n.self, Servers: &n.members, Peers: func() wire.Caller { return n.peers }, Life: n.life, Scale: n.config.scaled,
		Enrolled: n.config.Members,
	}
	if err := n.stores.verify(); err != nil {
		return err
	}
	n.stores.checked.damaged, n.stores.stable.damaged = n.fail, n.fail
	if n.recall, err = n.newRecall(); err != nil {
		return err
	}
	if p := n.config.Parts; p != nil {
		n.transport, n.peers = transport.NewGuard(p.Transport, n.self, n.mayVote, n.diskHolds, n.log.Written), p.Peers
		return nil
	}
	if n.credential, err = link.NewCredential(n.config.ClusterID, n.config.ID, key, n.keys.All()...); err != nil {
		return err
	}
	if err := n.credential.Succeed(n.config.Past); err != nil {
		return err
	}
	port, err := link.Listen(link.Config{
		Bind: n.config.InternalAddr, Advertise: n.config.InternalAdvertise,
		Credential: n.credential, Limits: n.config.Limits.internal(), Logger: n.config.Logger,
		Find: n.find, Met: n.met, Admit: n.admission.Admits,
		Recovered: n.recovered,
	})
	if err != nil {
		return err
	}
	n.peers, n.port = port, port
	streams := port.Streams()
	n.transport = transport.NewGuard(&transport.Retrying{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: streams, ServerAddressProvider: byID{}, MaxPool: 3, Timeout: transport.RequestTimeout, Logger: newRaftLogger(n.config.Logger),
		}),
		Streams: streams, Context: n.life.Context(), Wanted: n.replicatesTo, Logger: n.config.Logger,
	}, n.self, n.mayVote, n.diskHolds, n.log.Written)
	return nil
}

func (n *Node) startRaft() error {
	config := n.config.raftConfig(n.self)
	if n.config.Bootstrap {
		if err := n.stores.clearUnbegun(); err != nil {
			return err
		}
	}
	exists, err := raft.HasExistingState(n.stores.logs, n.stores.stable, n.stores.snapshots)
	switch {
	case err != nil:
		return fmt.Errorf("read data directory: %w", err)
	case exists && n.config.Bootstrap:
		return ErrHasState
	case n.config.Bootstrap:
		alone := raft.Configuration{Servers: []raft.Server{{ID: config.LocalID, Address: n.transport.LocalAddr()}}}
		if err := raft.BootstrapCluster(config, n.stores.logs, n.stores.stable, n.stores.snapshots, n.transport, alone); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if n.replica, err = n.newReplica(); err != nil {
		return err
	}
	r, err := n.newRaft(config, &timedStore{FSM: replica.FSM{FSM: n.fsm, Life: n.life, Altered: n.noteAltered}, node: n})
	n.raft = r
	switch altered := n.altered.Load(); {
	case altered != nil: // raft may have gone on with an older one, which the log does not join
		return *altered
	case err != nil:
		return fmt.Errorf("start raft: %w", err)
	}
	n.members.Use(r) // whom the internal port may have asked for already
	n.leadership.Use(r)
	n.log.Use(func() bool { return r.State() == raft.Leader })
	return nil
}

// newRaft starts raft on a disk that is guarded from then on. Raft writes its term
// at once, in a goroutine that must be one that may end there.
func (n *Node) newRaft(config *raft.Config, store raft.FSM) (r *raft.Raft, err error) {
	n.disk.Guard()
	var starting sync.WaitGroup
	starting.Go(func() {
		r, err = raft.NewRaft(config, store, n.stores.logs, n.stores.stable, n.stores.snapshots, n.transport)
	})
	starting.Wait()
	if r == nil && err == nil {
		err = n.disk.Failure()
	}
	return r, err
}

// compose makes the parts that stand on raft.
func (n *Node) compose(waiters *proposer.Waiters) {
	n.proposer = proposer.New(proposer.Config{
		Self: n.self, Leadership: n.leadership, Peers: n.peers, Store: n.fsm, Waiters: waiters, Life: n.life,
		Admit: n.config.Admit, Forwarded: n.config.took(MeasureForwarded),
	})
	if n.config.Tracer != nil {
		n.proposer.Follows, n.proposer.Record = n.config.Tracer.Of, n.config.Tracer.Record
	}
	n.reads = readindex.New(readindex.Config{
		Self: n.self, Leadership: n.leadership, Raft: n.raft, Servers: &n.members, Peers: n.peers, Store: n.fsm, Life: n.life,
		Scale: n.config.scaled, Admit: n.config.AdmitReads,
		Asked: func(reads int, took time.Duration) {
			n.config.observe(MeasureRoundReads, float64(reads))
			n.config.observe(MeasureRound, took.Seconds())
		},
	})
	config := membership.Config{
		Self: n.self, Leadership: n.leadership, Raft: n.raft, Store: n.fsm, Servers: &n.members, Survey: n.survey, Peers: n.peers, Life: n.life,
		Logger: n.config.Logger, Configured: n.stores.checked.configuration.Load, Scale: n.config.scaled,
	}
	n.transfers = &membership.Transfers{Config: config, Held: n.diskError}
	n.changes = membership.NewChanges(membership.Changes{Config: config, Transfers: n.transfers, Refuse: n.refuseOld, KeysMatter: n.port != nil})
	n.place = (&membership.Place{
		Config: config, Changes: n.changes, Mark: n.stores.markLeft, Fail: n.fail, Joining: n.config.Joining,
		Spec: membership.Spec{ID: n.config.ID, HTTPURL: n.config.HTTPURL, Version: n.config.Version},
	}).Init()
	n.keeper = &clock.Keeper{
		Self: n.self, Clock: n.clock, Voters: n.members.Voters, Survey: n.survey, Life: n.life, Logger: n.config.Logger,
		Leads: func() bool { return n.raft.State() == raft.Leader },
		Heard: n.assessDisks, HandOver: n.transfers.To, Timeout: 2 * n.config.electionTimeout(),
	}
	n.keys.Start(keyring.Config{
		Self: n.self, Store: n.fsm, Servers: &n.members, Peers: n.peers, Life: n.life, Logger: n.config.Logger,
		Leads: n.IsLeader, Ready: n.ready, Scale: n.config.scaled,
		Read:    func(ctx context.Context) (*fsm.View, error) { return n.Read(ctx, objects.Bucket{}) },
		Propose: n.Propose, Exclusively: n.changes.Exclusively, Use: n.useKeys,
	})
	n.takeover = &takeover.Watcher{
		Self: n.self, Leadership: n.leadership, Raft: n.raft, Transport: n.transport, Life: n.life, Logger: n.config.Logger,
		Refused: n.peers.Refused, Voters: n.members.Voters, Reports: n.logReports, Unfit: n.unfit, Scale: n.config.scaled,
	}
	nudger := &nudge.Nudger{
		Self: n.self, Store: n.fsm, Transport: n.transport, Servers: n.members.All, Leads: n.leadership.Leads, Life: n.life,
		Applied: n.applied,
	}
	expiry := &expiry{store: n.fsm, stamp: n.stamp, log: n.config.Logger}
	n.leadership.OnLead("expiry", expiry.run)
	n.leadership.OnLead("promotion", n.changes.Promote)
	n.leadership.OnLead("nudges", nudger.Run)
	n.leadership.OnLead("format level", n.raiseLevel)
	n.table = n.handlers()
}

// start runs the node's own goroutines.
func (n *Node) start() {
	n.peers.Serve(n.self, n.serve)
	_ = n.life.GoOnRaft(n.leadership.Run)
	work := []func(){n.leadership.Watch, n.proposer.Run, n.reads.Run, n.takeover.Run, n.place.Watch, n.keepUp, n.keeper.Watch, n.trimLog, n.replica.Run, n.replica.RunRecount, n.recall.Run, n.recall.Ask, n.giveWay, n.watchDisk}
	if n.port != nil {
		work = append(work, n.keys.Follow, func() { n.admission.DismissStrangers(n.port) })
	}
	if voters := n.members.Voters(); len(voters) == 1 && string(voters[0].ID) == n.self {
		work = append(work, n.takeover.Campaign) // nobody else could lead: no need to wait for a time-out
	}
	if n.gossip != nil {
		work = append(work, func() { n.gossip.run(n.life.Context(), n.gossipSeeds) })
	}
	for _, f := range work {
		_ = n.life.Go(f) // the node is not closed yet
	}
}

// Propose has a command written, once, and returns its result; it may be called
// on any node. Refusals by the domain are results. An error says that there is
// no answer: ErrNoLeader, ErrOverloaded, ErrNotMember, ErrTooLarge and
// ErrClosed, or what Fault returns, if nothing was written, ErrUnknownOutcome if that is not certain.
//
// The result is shared: it must not be changed.
//
// Without a deadline in ctx it gives up after 30 seconds. If Issued is zero, it
// is set to this store's index, as for an id that was just made.
func (n *Node) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	if err := n.mayServe(); err != nil {
		return nil, err
	}
	return n.proposer.Propose(ctx, c)
}

// ProposeAll is Propose for commands that take effect in their order, whoever leads
// meanwhile. It calls told with the outcome of each, once, as soon as that is known.
// A command that is told ErrUnknownOutcome may still take effect, after the others.
func (n *Node) ProposeAll(ctx context.Context, commands []*fsm.Command, told func(i int, r *fsm.Result, err error)) {
	if err := n.mayServe(); err != nil {
		for i := range commands {
			told(i, nil, err)
		}
		return
	}
	n.proposer.ProposeAll(ctx, commands, told)
}

// Read returns a view that contains everything acknowledged before the call,
// whichever node acknowledged it, and may be called on any node. The read is
// charged to the bucket on the leader, unless that is none; a refusal is a
// *RateLimited. Without a leader it waits and tries again until ctx ends, or 30
// seconds if that has no deadline, and then fails with ErrNoLeader. While there is
// a Fault, it fails with that.
func (n *Node) Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	if err := n.mayServe(); err != nil {
		return nil, err
	}
	return n.reads.Read(ctx, bucket)
}

// OnLead has run called, in a goroutine of its own, in each term that this node
// leads, once the term has started: then the store contains all that was
// acknowledged before. Its context ends with the term, and the node waits for
// it to return before it leads again or closes. If the node leads already, run
// is called at once.
func (n *Node) OnLead(name string, run func(ctx context.Context)) {
	n.leadership.OnLead(name, func(t *leadership.Term) { run(t.Context()) })
}

// FSM returns the node's store. Reading its view directly may give stale data.
func (n *Node) FSM() *fsm.FSM { return n.fsm }

// ID returns the node's id.
func (n *Node) ID() string { return n.config.ID }

// Incarnation returns what was made up with the node's log, for Config.Incarnation
// of the next start.
func (n *Node) Incarnation() string { return strings.TrimPrefix(n.self, n.config.ID+".") }

// ClusterID returns the cluster's id.
func (n *Node) ClusterID() string { return n.config.ClusterID }

// InternalAddr is the address of the internal port as told to other members.
func (n *Node) InternalAddr() string { return n.peers.Addr() }

// GossipAddr is the address at which other nodes find this one; empty without gossip.
func (n *Node) GossipAddr() string {
	if n.gossip == nil {
		return ""
	}
	return n.gossip.addr()
}

// Ready is closed once the store has reached a read index that was taken after
// the start: what the node replayed from its own log is then history.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Failed is closed when the node must not go on: Failure then says why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Failure returns why the node must not go on, once Failed is closed.
func (n *Node) Failure() error { return n.failure }

// fail ends the node's part in the cluster for a reason that its owner has to
// know: the owner closes it.
func (n *Node) fail(err error) {
	n.failedOnce.Do(func() {
		n.config.Logger.Error("this node cannot go on", "error", err)
		n.failure = err
		close(n.failed)
	})
}

// IsLeader reports whether this node leads and its term has started.
func (n *Node) IsLeader() bool {
	return n.leadership.Leading() != nil
}

// Close stops the node in order: it hands leadership over (best effort), then
// ends its own goroutines, raft, the network and the stores, and waits for all.
func (n *Node) Close() error {
	if !n.life.Ended() && len(n.members.Voters()) > 1 && n.diskError() == nil {
		ctx, cancel := context.WithTimeout(n.life.Context(), 2*n.config.electionTimeout())
		defer cancel()
		if err := n.TransferLeadership(ctx); err != nil {
			n.config.Logger.Warn("leadership not handed over", "error", err)
		}
	}
	return n.stop()
}

// stop ends whatever Open has started.
func (n *Node) stop() error {
	n.stopping.Do(func() {
		stopped := make(chan error, 1)
		go func() { stopped <- n.stopParts() }()
		n.stopErr = n.unlessDiskHangs(stopped)
	})
	return n.stopErr
}

// stopParts lets raft go on until it has answered all that it was asked: what
// it has handed to the store when it is shut down, it never answers.
func (n *Node) stopParts() error {
	n.life.End()
	answered := n.letRaftAnswer()
	var errs []error
	var halted raft.Future
	if n.raft != nil {
		halted = n.raft.Shutdown()
	}
	// The network goes before raft's end is waited for: its requests under way,
	// to hosts that are gone perhaps, then fail at once.
	if n.transport != nil {
		errs = append(errs, n.transport.Close())
	}
	if n.peers != nil {
		errs = append(errs, n.peers.Close())
	}
	if halted != nil {
		errs = append(errs, halted.Error())
	}
	<-answered
	n.life.Wait()
	if n.gossip != nil {
		errs = append(errs, n.gossip.close(n.place != nil && n.place.HasLeft()))
	}
	if n.log != nil {
		n.log.Close()
	}
	if n.stores != nil {
		errs = append(errs, n.stores.close())
	}
	return errors.Join(errs...)
}

// onApplied is called on raft's apply goroutine.
func (n *Node) onApplied() {
	select {
	case n.applied <- struct{}{}:
	default:
	}
}

// Snapshot writes the state to disk now, so that the log before it can go.
func (n *Node) Snapshot(ctx context.Context) error {
	for {
		err := n.life.Ask(ctx, func() raft.Future { return n.raft.Snapshot() }) // one at a time, however long that takes
		switch {
		case err == nil, errors.Is(err, raft.ErrNothingNewToSnapshot):
			return nil
		case errors.Is(err, raft.ErrLeadershipTransferInProgress):
			lifetime.Pause(ctx, 50*time.Millisecond)
		default:
			return fmt.Errorf("take snapshot: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// added reports whether this node has a configuration.
func (n *Node) added() bool { return len(n.members.All()) > 0 }

// replicatesTo reports whether this node leads a term, and has a follower.
func (n *Node) replicatesTo(id raft.ServerID, term uint64) bool {
	return n.leadership.Leads(term) && n.members.Has(string(id))
}

// logReports asks servers for what decides who takes over.
func (n *Node) logReports(ctx context.Context, servers []raft.Server) map[string]takeover.Report {
	reports := make(map[string]takeover.Report)
	for server, r := range n.survey.Reports(ctx, servers) {
		reports[server] = takeover.Report{Log: r.LogEnd(), Term: r.Term, Candidate: r.Candidate}
	}
	return reports
}

// ClockOffset returns how far this machine's clock is ahead of the cluster's
// time, and whether a majority has it that the clock is wrong: such a node does
// not lead.
func (n *Node) ClockOffset() (ahead time.Duration, farOff bool) {
	return n.clock.Offset(), n.clock.FarOff()
}

// stamp returns the time for a batch, in Unix milliseconds. The store's time never
// goes backwards, so neither does the stamp.
func (n *Node) stamp() int64 { return n.clock.Stamp(n.fsm.View().Time()) }
