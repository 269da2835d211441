package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/link"
	"lockstep/cluster/internal/readindex"
	"lockstep/cluster/internal/transport"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// Config sets up a Node.
type Config struct {
	// ID names the node, uniquely and for good: 1 to 64 characters.
	ID string

	// Incarnation is that of the node's log as it was when the node last ran (see
	// Node.Incarnation). If the log in the data directory is of another one, what
	// the node promised is lost, and Open fails with ErrStateLost. Empty: the node
	// has not run before.
	Incarnation string

	// DataDir holds the node's log, term and snapshots. It is made, with mode
	// 0700, if it does not exist.
	DataDir string

	// InMemory has the node keep log, term and snapshots in memory, with the process,
	// in the place of a data directory: for an emulator of one node, which Bootstrap
	// makes anew at each start.
	InMemory bool

	// ClusterID names the cluster. Nodes of another one are refused.
	ClusterID string

	// Key is the cluster's secret: it authenticates the internal port and encrypts
	// gossip. Any holder may connect; only members are answered. OtherKeys are
	// accepted, too, while the key is being changed.
	Key       [32]byte
	OtherKeys [][32]byte

	// Past are the clusters that this one was before it was recovered. Their
	// members that come back are told so, and get nothing else.
	Past []Past

	// KeepKeys keeps changes of Key and OtherKeys for the next start. The node
	// uses a key only after KeepKeys has kept it. Nil: they are not kept.
	KeepKeys func(key [32]byte, others [][32]byte) error

	// Members are the servers (see Node.Server) whose raft requests a node accepts
	// before it has been added: those of its cluster when it enrolled. Empty: any
	// holder of the cluster's key.
	Members []string

	// InternalAddr is the host:port on which the node talks to its peers, and
	// InternalAdvertise what it tells them, if that differs; a DNS name is
	// resolved at each connection.
	InternalAddr      string
	InternalAdvertise string

	// GossipAddr is the host:port, for TCP and UDP, on which nodes find each
	// other; empty: no gossip. GossipAdvertise, if it differs, is an IP:port.
	GossipAddr      string
	GossipAdvertise string

	// Seeds are gossip addresses of other nodes, HOST:PORT, tried again and again.
	// The host may be a name, which is looked up each time.
	Seeds []string

	// Limits bounds the connections and packets of the ports for other nodes.
	Limits Limits

	// HTTPURL, AdminURL (where operators have a listener of their own) and Version
	// are told to the other nodes.
	HTTPURL  string
	AdminURL string
	Version  string

	// Bootstrap makes a new cluster of this node alone. Open refuses it when
	// DataDir holds a cluster already.
	Bootstrap bool

	// Joining says that the node has not had its vote yet, and that whoever has it
	// join (AddMember) goes on until it has. It does not take itself for removed
	// then because a leader does not know of it.
	Joining bool

	// Nonvoter keeps the node from getting a vote. A node that has one already keeps
	// it. With Reserve it takes the place of a voter that has been silent for so long,
	// and gives it back when that one has caught up.
	Nonvoter bool
	Reserve  time.Duration

	// TimeoutScale multiplies raft's time-outs, which are 1 s for heartbeat and
	// election and 500 ms for the leader's lease. Default 1; raise it for slow
	// disks and long distances.
	TimeoutScale float64

	// A snapshot is taken after SnapshotThreshold log entries since the last one,
	// which is checked every SnapshotInterval. TrailingLogs entries before it stay
	// in the log, so that a node that was away for a while gets entries and not a
	// snapshot. Defaults 16384, 30 s, 65536.
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	TrailingLogs      uint64

	// FeedBytes bounds the events that the store keeps for followers of its feed.
	// Default 64 MiB.
	FeedBytes int64

	// TrailingBytes, too, bounds what stays in the log behind a snapshot, and what
	// is written to the log before the next one is taken. Of a small state it is less
	// (see logBytes). Default 256 MiB.
	TrailingBytes int64

	// Admit is called on the leader for each command before it is written, with
	// the leader's latest view. known says that the store remembers the command as
	// applied, so this is a copy that asks for the result. If Admit returns an
	// error, that is the answer, and nothing is written. It must not block. Nil:
	// all are admitted.
	Admit func(v *fsm.View, c *fsm.Command, known bool) *fsm.Result

	// AdmitReads is called on the leader for the reads that share a round, and
	// returns a grant for each charge. It must not block. Nil: all are admitted.
	AdmitReads func([]ReadCharge) []ReadGrant

	// DiskShort reports, once a second, whether this node's disk has too little
	// room for more. DisksFull is then called with whether this node, if it leads,
	// must refuse more: its own disk is short, or those of so many voters that no
	// majority is left. Nil: there is always room.
	DiskShort func() bool
	DisksFull func(bool)

	// Clock is the machine's clock, towards which the cluster's is steered.
	// Default time.Now.
	Clock func() time.Time

	Logger *slog.Logger

	// Observe is told how long the stages of writes and reads take, and how large
	// their groups are. It is called on the goroutines that do the work, must not
	// block, and may be called by several at a time. Nil: nobody is told.
	Observe func(what Measure, value float64)

	// Tracer follows commands through the cluster. Nil: none is followed.
	Tracer Tracer

	// Parts replaces the network and the disk; for simulations.
	Parts *Parts

	// wrapLogs puts something around the log that the node made; for tests.
	wrapLogs func(raft.LogStore) raft.LogStore

	// wrapStable does the same with the stable store.
	wrapStable func(raft.StableStore) raft.StableStore
}

// Limits bounds what others can make a node hold at its internal and its gossip
// port. A client that has not proved to be a member is a stranger. A connection
// beyond a bound takes the place of the oldest one of the owner that has most.
// Zero is the default.
type Limits struct {
	// InternalStrangers and InternalMembers bound the connections to the internal
	// port, and the fields with Per those of one source address or one member.
	// Defaults 512 and 128, 512 and 32.
	InternalStrangers, InternalStrangersPerSource int
	InternalMembers, InternalPerMember            int

	// GossipStreams bounds the connections to the gossip port, GossipPerSource
	// those of one source address, and GossipStreamBytes what each may carry: a
	// member sends all it knows of the nodes, some 250 bytes for each, 700 at
	// most. Defaults 64, 16 and 256 KiB.
	GossipStreams, GossipStreamsPerSource int
	GossipStreamBytes                     int64

	// GossipPackets is how many packets are read a second; the kernel drops more.
	// Default 10,000.
	GossipPackets float64
}

func (l Limits) withDefaults() Limits {
	l.GossipStreams = cmp.Or(l.GossipStreams, 64)
	l.GossipStreamsPerSource = cmp.Or(l.GossipStreamsPerSource, 16)
	l.GossipStreamBytes = cmp.Or(l.GossipStreamBytes, 256<<10)
	l.GossipPackets = cmp.Or(l.GossipPackets, 10_000)
	return l
}

// internal returns the part of the internal port, which has its own defaults.
func (l Limits) internal() link.Limits {
	return link.Limits{
		Strangers: l.InternalStrangers, StrangersPerSource: l.InternalStrangersPerSource,
		Members: l.InternalMembers, PerMember: l.InternalPerMember,
	}
}

// ReadCharge is the number of reads of one round that are charged to one
// bucket, and ReadGrant says how many of them may go on.
type (
	ReadCharge = readindex.Charge
	ReadGrant  = readindex.Grant
)

// Span names the span of a trace: trace, span and flags, as W3C Trace Context has them.
type Span = wire.Span

// Tracer knows which commands are followed, and records what is done for them. Its
// methods are called on the goroutines that do the work, and must not block.
type Tracer interface {
	// Of returns the span in which a command of this node is followed, or nil.
	Of(id fsm.CommandID) *Span

	// Record notes a span within another one, of this node or of the one that asked.
	Record(within *Span, name string, begun, ended time.Time)
}

// Peers carries requests between members.
type Peers = wire.Peers

// Transport is raft's transport, with what else a node needs.
type Transport = transport.Transport

// Parts replaces what a node otherwise makes from its addresses and its data
// directory. The node closes Transport and Peers, and no others.
type Parts struct {
	Transport Transport
	Peers     Peers
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore

	// LeaseTimeout, if set, replaces the leader's lease, and may be as long as the
	// heartbeat time-out: a leader then leads for longer than it should. Only the
	// speed at which requests fail may depend on the lease.
	LeaseTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.TimeoutScale == 0 {
		c.TimeoutScale = 1
	}
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 16384
	}
	if c.SnapshotInterval == 0 {
		c.SnapshotInterval = 30 * time.Second
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = 65536
	}
	if c.TrailingBytes <= 0 {
		c.TrailingBytes = defaultTrailingBytes
	}
	if c.DiskShort == nil {
		c.DiskShort, c.DisksFull = func() bool { return false }, func(bool) {}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("node", c.ID)
	return c
}

// Validate returns an error that says what is wrong with a configuration.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.ID) == 0 || len(c.ID) > 64 {
		fault("node id must have 1 to 64 characters")
	}
	if len(c.ClusterID) == 0 || len(c.ClusterID) > 64 {
		fault("cluster id must have 1 to 64 characters")
	}
	if c.TimeoutScale < 0 {
		fault("time-out scale must be positive")
	}
	if c.Parts == nil {
		if c.DataDir == "" && !c.InMemory {
			fault("data directory is missing")
		}
		if c.Key == [32]byte{} {
			fault("cluster key is missing")
		}
		if _, _, err := net.SplitHostPort(c.InternalAddr); err != nil {
			fault("internal address: %w", err)
		}
	}
	if c.GossipAddr != "" {
		if _, _, err := net.SplitHostPort(c.GossipAddr); err != nil {
			fault("gossip address: %w", err)
		}
	}
	return errors.Join(faults...)
}

// The three time-outs that TimeoutScale multiplies.
func (c Config) heartbeatTimeout() time.Duration { return c.scaled(time.Second) }
func (c Config) electionTimeout() time.Duration  { return c.scaled(time.Second) }

func (c Config) leaseTimeout() time.Duration {
	if c.Parts != nil && c.Parts.LeaseTimeout > 0 {
		return c.Parts.LeaseTimeout
	}
	return c.scaled(500 * time.Millisecond)
}

func (c Config) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * c.TimeoutScale)
}

// raftConfig returns raft's configuration, with the reason for each value that
// is not raft's default.
func (c Config) raftConfig(self string) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(self)
	r.Logger = newRaftLogger(c.Logger)
	r.HeartbeatTimeout = c.heartbeatTimeout()
	r.ElectionTimeout = c.electionTimeout()
	r.LeaderLeaseTimeout = c.leaseTimeout()
	r.CommitTimeout = 50 * time.Millisecond // the nudge is faster; this is what remains when one is lost
	r.MaxAppendEntries = 256                // also the size of raft's own group commit
	r.SnapshotThreshold = c.SnapshotThreshold
	r.SnapshotInterval = c.SnapshotInterval
	r.TrailingLogs = c.TrailingLogs
	r.ShutdownOnRemove = false // removal is this package's business
	r.NoLegacyTelemetry = true
	return r
}
