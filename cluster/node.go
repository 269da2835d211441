// Package cluster is one running member: it replicates commands with raft,
// applies them to its fsm, and serves linearizable reads of it, whichever node
// is asked.
//
// A write is proposed under its command id to whoever leads, again and again
// until its outcome is known; the store's dedup window makes that happen once.
// A read takes the leader's commit index, which the leader gives only after a
// majority of voters has affirmed its term, and waits until the local store has
// applied it. A leader's own work (the batcher, expiry, promotion of joining
// nodes, nudges, what OnLead registers) lives and ends with its term.
//
// Goroutines: Open starts a fixed set, all of which Close ends and waits for.
// One of them (terms) owns leadership and waits for what a term started. FSM
// callbacks come on raft's apply goroutine and never block.
//
// Locks: Node.mu, Node.jobsMu, waiters.mu, reader.mu, queue.mu, clock.mu, keys.mu,
// vouched.mu and cell.mu are leaves; none is held while taking another, or across
// I/O.
//
// The package carries opaque commands: it does not know what a Document is. It
// decides no membership by itself, except to promote a node that was added and
// has caught up.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/link"
	"lockstep/fsm"
)

// transportTimeout bounds one raft request; for a snapshot raft scales it.
const transportTimeout = 10 * time.Second

// Node is a running member of a cluster. Its methods may be called from any
// goroutine.
type Node struct {
	config    Config
	self      string // this server: the node's id and its incarnation
	process   uint64 // tells processes apart that run on copies of one directory
	fsm       *fsm.FSM
	raft      *raft.Raft
	transport *guard
	peers     Peers
	port      *link.Port // peers, unless there are Parts
	stores    *stores
	meter     *meter  // of the log
	gossip    *gossip // nil without

	keys       keys
	credential *link.Credential // nil with Parts
	vouched    vouched

	ctx    context.Context // ends when Close begins to stop things
	cancel context.CancelFunc

	state   cell[raftState]
	leading cell[*term] // the term this node leads, once it has started

	clock   *clock
	waiters *waiters
	forward *forwarder
	reader  *reader
	applied chan struct{} // one slot: a batch was applied
	changes chan struct{} // one slot, taken while the membership is being changed

	opened  time.Time
	current atomic.Int64 // nanoseconds after opened at which the store had everything

	ready       chan struct{}
	removed     chan struct{}
	removedOnce sync.Once
	failed      chan struct{}
	failedOnce  sync.Once
	failure     error // valid once failed is closed

	jobsMu sync.Mutex
	jobs   []job
	open   *term // as leading, for jobs

	mu     sync.Mutex
	closed bool
	onRaft sync.WaitGroup // waits for raft's answers: ends before raft does
	work   sync.WaitGroup // all other goroutines

	stopping sync.Once
	stopErr  error
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
		clock:   newClock(config.Clock),
		opened:  time.Now(),
		waiters: newWaiters(),
		applied: make(chan struct{}, 1),
		changes: make(chan struct{}, 1),
		ready:   make(chan struct{}),
		removed: make(chan struct{}),
		failed:  make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.keys.step = make(chan struct{}, 1)
	n.keys.list = append([][32]byte{config.Key}, config.OtherKeys...)
	n.fsm = fsm.New(fsm.Config{Applied: n.onApplied, FeedBytes: config.FeedBytes})
	n.forward = newForwarder(n)
	n.reader = newReader(n)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
		}
	}()
	if err := n.openParts(); err != nil {
		return nil, err
	}
	if err := n.startRaft(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if config.GossipAddr != "" {
		if n.gossip, err = startGossip(config, n.keys.all(), n.self, n.peers.Addr()); err != nil {
			return nil, err
		}
	}
	n.start()
	return n, nil
}

// openParts makes the stores, the internal port and raft's transport over it.
func (n *Node) openParts() error {
	var err error
	if n.stores, err = openStores(n.config); err != nil {
		return err
	}
	if wrap := n.config.wrapLogs; wrap != nil {
		n.stores.logs = wrap(n.stores.logs)
	}
	n.meter = &meter{LogStore: n.stores.logs}
	n.stores.logs = n.meter
	key, incarnation, err := incarnate(n.stores.stable, n.config.Incarnation)
	if err != nil {
		return err
	}
	n.self = string(serverOf(n.config.ID, incarnation))
	if err := n.stores.verify(); err != nil {
		return err
	}
	n.stores.checked.damaged = n.fail
	if p := n.config.Parts; p != nil {
		n.transport, n.peers = newGuard(n, p.Transport), p.Peers
		return nil
	}
	if n.credential, err = link.NewCredential(n.config.ClusterID, n.config.ID, key, n.keys.all()...); err != nil {
		return err
	}
	if err := n.credential.Succeed(n.config.Past); err != nil {
		return err
	}
	port, err := link.Listen(link.Config{
		Bind: n.config.InternalAddr, Advertise: n.config.InternalAdvertise,
		Credential: n.credential, Logger: n.config.Logger,
		Expect: n.expected, Anybody: func(kind byte) bool { return kind == kindStatus }, Admit: n.admits,
		Recovered: func(err *RecoveredError) { n.fail(err) },
	})
	if err != nil {
		return err
	}
	n.peers, n.port = port, port
	streams := port.Streams()
	n.transport = newGuard(n, &patientTransport{node: n, streams: streams, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: streams, MaxPool: 3, Timeout: transportTimeout, Logger: newRaftLogger(n.config.Logger),
	})})
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
	r, err := raft.NewRaft(config, n.fsm, n.stores.logs, n.stores.stable, n.stores.snapshots, n.transport)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	n.mu.Lock() // the internal port may ask for the configuration already
	n.raft = r
	n.mu.Unlock()
	return nil
}

// start runs the node's own goroutines.
func (n *Node) start() {
	n.peers.Serve(n.self, n.handle)
	n.work.Go(n.watchRaft)
	n.onRaft.Go(n.terms)
	n.work.Go(n.forward.run)
	n.work.Go(n.reader.run)
	n.work.Go(n.watchLeader)
	n.work.Go(n.watchMembership)
	if n.port != nil {
		n.work.Go(n.followKeys)
		n.work.Go(n.dismissStrangers)
	}
	n.work.Go(n.keepUp)
	n.work.Go(n.watchClock)
	n.work.Go(n.trimLog)
	if voters := n.voters(); len(voters) == 1 && string(voters[0].ID) == n.self {
		n.work.Go(n.stand) // nobody else could lead: no need to wait for a time-out
	}
	if n.gossip != nil {
		n.work.Go(func() { n.gossip.run(n.ctx) })
	}
}

// FSM gives the node's store. Reading its view directly may give stale data.
func (n *Node) FSM() *fsm.FSM { return n.fsm }

// ID gives the node's id.
func (n *Node) ID() string { return n.config.ID }

// Incarnation returns what was made up with the node's log, for Config.Incarnation
// of the next start.
func (n *Node) Incarnation() string { return strings.TrimPrefix(n.self, n.config.ID+".") }

// ClusterID gives the cluster's id.
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

// Removed is closed when the node learns that it is no longer a member.
func (n *Node) Removed() <-chan struct{} { return n.removed }

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

// IsLeader says whether this node leads and its term has started.
func (n *Node) IsLeader() bool {
	t, _ := n.leading.get()
	return t != nil
}

// Close stops the node in order: it hands leadership over (best effort), then
// ends its own goroutines, raft, the network and the stores, and waits for all.
func (n *Node) Close() error {
	if n.ctx.Err() == nil && len(n.voters()) > 1 {
		ctx, cancel := context.WithTimeout(n.ctx, 2*n.config.electionTimeout())
		defer cancel()
		if err := n.TransferLeadership(ctx); err != nil {
			n.config.Logger.Warn("leadership not handed over", "error", err)
		}
	}
	return n.stop()
}

// stop ends whatever Open has started.
func (n *Node) stop() error {
	n.stopping.Do(func() { n.stopErr = n.stopParts() })
	return n.stopErr
}

// stopParts lets raft go on until it has answered all that it was asked: what
// it has handed to the store when it is shut down, it never answers.
func (n *Node) stopParts() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	n.onRaft.Wait()
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
	n.work.Wait()
	if n.gossip != nil {
		errs = append(errs, n.gossip.close(n.hasLeft()))
	}
	if n.stores != nil {
		errs = append(errs, n.stores.close())
	}
	return errors.Join(errs...)
}

// spawn runs f as part of the node, unless it is closed.
func (n *Node) spawn(group *sync.WaitGroup, f func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	group.Go(f)
	return nil
}

// wait waits for one of raft's futures, which know no context. If ctx ends
// first, the node goes on waiting for it.
func (n *Node) wait(ctx context.Context, future raft.Future) error {
	done := make(chan error, 1)
	if err := n.spawn(&n.onRaft, func() { done <- future.Error() }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onApplied is called on raft's apply goroutine.
func (n *Node) onApplied(batch []fsm.Applied) {
	n.waiters.settle(batch)
	select {
	case n.applied <- struct{}{}:
	default:
	}
}

// Snapshot writes the state to disk now, so that the log before it can go.
func (n *Node) Snapshot(ctx context.Context) error {
	for {
		err := n.wait(ctx, n.raft.Snapshot())
		switch {
		case err == nil, errors.Is(err, raft.ErrNothingNewToSnapshot):
			return nil
		case errors.Is(err, raft.ErrLeadershipTransferInProgress):
			n.pause(ctx, 50*time.Millisecond)
		default:
			return fmt.Errorf("take snapshot: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// TransferLeadership hands leadership to the voter whose log is furthest. It
// succeeds when this node leads no more.
func (n *Node) TransferLeadership(ctx context.Context) error {
	if n.raft.State() != raft.Leader {
		return nil
	}
	if err := n.wait(ctx, n.raft.LeadershipTransfer()); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	return nil
}

// pause waits for d or the end of ctx.
func (n *Node) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// configuration is the latest that raft has in its log; nil before it started.
func (n *Node) configuration() []raft.Server {
	n.mu.Lock()
	r := n.raft
	n.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.GetConfiguration().Configuration().Servers
}

// voters is the voting part of the configuration, in the order of ids.
func (n *Node) voters() []raft.Server {
	voters := slices.DeleteFunc(slices.Clone(n.configuration()), func(s raft.Server) bool { return s.Suffrage != raft.Voter })
	slices.SortFunc(voters, func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
	return voters
}

// expected names whose internal address this is by the configuration, if anybody's.
func (n *Node) expected(addr string) (node, incarnation string) {
	for _, s := range n.configuration() {
		if string(s.Address) == addr {
			node = nodeOf(s.ID)
			return node, strings.TrimPrefix(string(s.ID), node+".")
		}
	}
	return "", ""
}
