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
	// Node.Incarnation). A data directory whose log is not of that incarnation has
	// lost what the node promised, and Open fails with ErrStateLost. Empty: the
	// node has not run before.
	Incarnation string

	// DataDir holds the node's log, term and snapshots. It is made, with mode
	// 0700, if it does not exist.
	DataDir string

	// ClusterID names the cluster. Nodes of another one are refused.
	ClusterID string

	// Key is the cluster's secret: it authenticates the internal port and encrypts
	// gossip. Whoever has it may connect; only members are answered. OtherKeys are
	// accepted, too, while the key is being changed.
	Key       [32]byte
	OtherKeys [][32]byte

	// Past are the clusters that this one was before it was recovered. Members of
	// them that come back are told so, and get nothing.
	Past []Past

	// KeepKeys is told of changes of the two, which the next start needs. The node
	// uses a key only after KeepKeys has kept it. Nil: they are not kept.
	KeepKeys func(key [32]byte, others [][32]byte) error

	// Members are the servers (see Node.Server) that a node which has not been
	// added yet takes raft's requests from: its cluster's, as it was told when it
	// enrolled. Empty: whoever has the cluster's key.
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

	// Limits bounds what comes in at the ports for other nodes.
	Limits Limits

	// HTTPURL, AdminURL (where operators have a listener of their own) and Version
	// are told to the other nodes.
	HTTPURL  string
	AdminURL string
	Version  string

	// Bootstrap makes a new cluster of this node alone. It is refused when
	// DataDir holds one already.
	Bootstrap bool

	// TimeoutScale multiplies raft's time-outs, which are 1 s for heartbeat and
	// election and 500 ms for the leader's lease. Default 1; raise it for slow
	// disks and long distances.
	TimeoutScale float64

	// Snapshots are taken when this many log entries came since the last one,
	// looked at every SnapshotInterval; TrailingLogs entries stay in the log
	// behind it, so that a node that was away for a while gets entries and not a
	// snapshot. Defaults 16384, 30 s, 65536.
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	TrailingLogs      uint64

	// FeedBytes bounds the events that the store keeps for followers of its feed.
	// Default 64 MiB.
	FeedBytes int64

	// TrailingBytes bounds, besides TrailingLogs, what stays in the log behind a
	// snapshot, and what is written to it before the next one is taken. Default
	// 256 MiB.
	TrailingBytes int64

	// Admit is asked on the leader about each command before it is written, with
	// the leader's latest view; known reports that the store remembers the command
	// as applied, so that this is a copy that wants to hear what became of it. A
	// result other than nil is the answer, and nothing is written. It must not
	// block. Nil: all are admitted.
	Admit func(v *fsm.View, c *fsm.Command, known bool) *fsm.Result

	// AdmitReads is asked on the leader about the reads that share a round, and
	// gives a grant for each charge. It must not block. Nil: all are admitted.
	AdmitReads func([]ReadCharge) []ReadGrant

	// DiskShort is asked once a second whether this node's disk has too little room
	// for more. DisksFull is told thereupon whether this node, if it leads, is to
	// admit no more: its own disk is short, or those of so many voters that no
	// majority is left. Nil: there is always room.
	DiskShort func() bool
	DisksFull func(bool)

	// Clock is the machine's clock, towards which the cluster's is steered.
	// Default time.Now.
	Clock func() time.Time

	Logger *slog.Logger

	// Parts replaces the network and the disk; for simulations.
	Parts *Parts

	// wrapLogs puts something around the log that the node made; for tests.
	wrapLogs func(raft.LogStore) raft.LogStore

	// wrapStable does the same with the stable store.
	wrapStable func(raft.StableStore) raft.StableStore
}

// Limits bounds what others can have a node hold at its internal and its gossip
// port. Whoever has not proved to be a member is a stranger. A connection beyond a
// bound takes the place of the oldest one, of the owner that has most. Zero is the
// default.
type Limits struct {
	// InternalStrangers and InternalMembers are connections to the internal port,
	// at most so many of them of one source address or one member. Defaults 512
	// and 128, 512 and 32.
	InternalStrangers, InternalStrangersPerSource int
	InternalMembers, InternalPerMember            int

	// GossipStreams are those to the gossip port, at most so many of one source
	// address. Each brings GossipStreamBytes at most: a member tells there all it
	// knows of the nodes, some 250 bytes of each, 700 at most. Defaults 64, 16 and
	// 256 KiB.
	GossipStreams, GossipStreamsPerSource int
	GossipStreamBytes                     int64

	// GossipPackets are read a second; the kernel drops more. Default 10,000.
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

// ReadCharge is the number of reads of one round that count against one bucket,
// and ReadGrant how many of them may go on.
type (
	ReadCharge = readindex.Charge
	ReadGrant  = readindex.Grant
)

// Peers carries requests between members.
type Peers = wire.Peers

// Transport is raft's transport, with what a node needs besides.
type Transport = transport.Transport

// Parts are what a node otherwise makes of its addresses and its data
// directory. The node does not close them, except for Transport and Peers.
type Parts struct {
	Transport Transport
	Peers     Peers
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore

	// LeaseTimeout, if set, replaces the leader's lease, and may be as long as
	// the heartbeat time-out: a leader then leads longer than it should. Nothing
	// but the speed of failing requests may depend on the lease.
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

// Validate says what is wrong with a configuration, if anything.
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
		if c.DataDir == "" {
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

// raftConfig has the reasons for each value that differs from raft's default.
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
