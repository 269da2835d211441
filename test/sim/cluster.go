package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
	"lockstep/server/hub"
)

// Service is the default service of a simulated cluster.
var Service = objects.NewSID(objects.KindService, [16]byte{1})

// patience is how long, in virtual time, a healthy cluster may take for anything.
const patience = time.Minute

// Options are what a cluster is made of.
type Options struct {
	Nodes int // n1 and so on, all voters
	Rand  *rand.Rand

	// DiskLatency is how long a write may take. Zero: no time at all.
	DiskLatency time.Duration

	// QueueLength bounds the frames that wait for a subscriber; zero is the
	// hub's default.
	QueueLength int

	// Edit, which may be nil, changes the configuration of each node.
	Edit func(*cluster.Config)
}

// Cluster is a cluster of simulated nodes.
type Cluster struct {
	*Network
	t       testing.TB
	options Options

	mu        sync.Mutex
	clusterID string
	disks     map[string]*Disk
	nodes     map[string]*member // those that are up
	heldUp    bool               // a node ended, and raft has not: it never will
}

// member is a node in one of its lives, with its hub.
type member struct {
	*cluster.Node
	endpoint *endpoint
	hub      *hub.Hub
	ended    context.Context // ends with this life
	end      context.CancelFunc
	work     sync.WaitGroup
}

// Start makes a cluster.
func Start(t testing.TB, network *Network, o Options) *Cluster {
	c := &Cluster{Network: network, t: t, options: o, clusterID: "sim", disks: make(map[string]*Disk), nodes: make(map[string]*member)}
	first, err := c.open("n1", true)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := first.Propose(ctx, Command(&fsm.Initialise{ClusterID: "sim", AccountSID: "AC", AuthToken: "t", Service: Service}))
	require.NoError(t, err)
	require.Nil(t, r.Err)
	for i := 2; i <= o.Nodes; i++ {
		c.Join(ctx, fmt.Sprintf("n%d", i))
	}
	return c
}

// Join starts a new node, adds it and waits until it votes.
func (c *Cluster) Join(ctx context.Context, id string) {
	require.NoError(c.t, c.enter(ctx, id))
}

// enter has a node, which has no state, become a voter: as a new member, or in the
// place of the one of its id that there was.
func (c *Cluster) enter(ctx context.Context, id string) error {
	n, err := c.open(id, false)
	if err != nil {
		return err
	}
	return c.admit(ctx, n)
}

// admit has a node that is up, and no voter yet, become one.
func (c *Cluster) admit(ctx context.Context, n *member) error {
	id := n.ID()
	spec := cluster.MemberSpec{ID: id, InternalAddr: id, Replace: true}
	added := false
	for !added {
		for _, other := range c.Nodes() {
			if other == n || !other.Votes() {
				continue
			}
			attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
			added = other.AddMember(attempt, spec) == nil
			cancel()
			if added {
				break
			}
		}
		if !added {
			Sleep(ctx, 50*time.Millisecond)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for !n.Votes() || !closed(n.Ready()) {
		Sleep(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	c.disk(id).settled.Store(true)
	return nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// disk returns that of a node, which is new if there is none.
func (c *Cluster) disk(id string) *Disk {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.disks[id]
	if d == nil {
		d = newDisk(c.options.Rand, c.options.DiskLatency)
		c.disks[id] = d
	}
	return d
}

// open starts a node on its disk.
func (c *Cluster) open(id string, bootstrap bool) (*member, error) {
	d := c.disk(id)
	stores := d.open()
	e := c.attach(id)
	c.mu.Lock()
	clusterID := c.clusterID
	c.mu.Unlock()
	config := cluster.Config{
		ID: id, ClusterID: clusterID, Incarnation: d.incarnation, Bootstrap: bootstrap, Joining: !bootstrap && !d.settled.Load(), Logger: slog.New(slog.DiscardHandler),
		Parts: &cluster.Parts{Transport: e, Peers: e, Logs: stores, Stable: stores, Snapshots: stores},
	}
	if c.options.Edit != nil {
		c.options.Edit(&config)
	}
	n, err := cluster.Open(context.Background(), config)
	if err != nil {
		d.Crash(false)
		e.cancel()
		return nil, err
	}
	d.incarnation = n.Incarnation()
	m := &member{Node: n, endpoint: e}
	m.ended, m.end = context.WithCancel(context.Background())
	m.hub = hub.New(hub.Config{Feed: n.FSM().Feed(), View: n.FSM().View, Encode: encodeLive, Join: joinLive, QueueLength: c.options.QueueLength})
	m.work.Go(func() { m.hub.Run(m.ended) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id] = m
	return m, nil
}

// Nodes returns the nodes that are up, in the order of their ids.
func (c *Cluster) Nodes() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*member, 0, len(c.nodes))
	for _, n := range c.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *member) int { return strings.Compare(a.ID(), b.ID()) })
	return out
}

// node returns a node if it is up.
func (c *Cluster) node(id string) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id]
}

// Leader waits for the node that leads.
func (c *Cluster) Leader() *member {
	var leader *member
	require.Eventually(c.t, func() bool {
		for _, n := range c.Nodes() {
			if n.IsLeader() {
				leader = n
			}
		}
		return leader != nil
	}, patience, 10*time.Millisecond)
	return leader
}

// Crash takes a node down without a word to the others: what it was writing may
// be lost. Restart brings it up again on its disk.
func (c *Cluster) Crash(id string) { c.crash(id, false) }

// crash is Crash; with tear, what it was writing may be there by half.
func (c *Cluster) crash(id string, tear bool) {
	c.mu.Lock()
	n, d := c.nodes[id], c.disks[id]
	delete(c.nodes, id)
	c.mu.Unlock()
	if n == nil {
		return
	}
	n.endpoint.cancel()
	d.Crash(tear)
	n.end()
	// What it was writing has failed by then, so that it does not ask raft, whose
	// main goroutine that has ended, to hand leadership over.
	Sleep(context.Background(), refusalDelay)
	if err := n.Close(); errors.Is(err, cluster.ErrHeldUp) {
		c.mu.Lock()
		c.heldUp = true
		c.mu.Unlock()
	} // else it cannot write any more, and says so
	n.work.Wait()
}

// Restart brings a node that crashed up again.
func (c *Cluster) Restart(id string) *member {
	n, err := c.open(id, false)
	require.NoError(c.t, err)
	return n
}

// Wipe takes everything from the disk of a node that is down.
func (c *Cluster) Wipe(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.disks, id)
}

// revive brings a node that is down up again, as its operator would: one whose
// disk is damaged gets a new one, and takes its own place. If that came to no end,
// it goes on with it.
func (c *Cluster) revive(ctx context.Context, id string) error {
	if n := c.node(id); n != nil {
		return c.admit(ctx, n)
	}
	_, err := c.open(id, false)
	if !errors.Is(err, cluster.ErrDamaged) {
		return err
	}
	c.Wipe(id)
	return c.enter(ctx, id)
}

// Close ends the cluster.
func (c *Cluster) Close() {
	for _, n := range c.Nodes() {
		c.Crash(n.ID())
	}
}

// Trouble disturbs the cluster until ctx ends: it cuts nodes off, or crashes one
// and restarts it, by turns of up to a few seconds. Then all is well again.
func (c *Cluster) Trouble(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		nodes := c.Nodes()
		victim := nodes[r.IntN(len(nodes))].ID()
		for _, n := range nodes {
			if n.IsLeader() && r.IntN(2) == 0 {
				victim = n.ID()
			}
		}
		switch r.IntN(4) {
		case 0:
			c.Isolate(victim)
		case 1:
			c.Cut(victim, nodes[r.IntN(len(nodes))].ID())
		case 2:
			c.Crash(victim)
			Sleep(ctx, upTo(r, 3*time.Second))
			c.Restart(victim)
		case 3: // peace
		}
		Sleep(ctx, upTo(r, 4*time.Second))
		if r.IntN(3) > 0 {
			c.Heal()
		}
	}
	c.Heal()
}

// describe is what nodes say of themselves, for a test that fails.
func (c *Cluster) describe() string {
	var all []string
	for _, n := range c.Nodes() {
		members := ""
		for _, m := range n.Members() {
			members += fmt.Sprintf(" %s:%s", m.ID, m.Role)
		}
		_, fault := n.Fault()
		all = append(all, fmt.Sprintf("%s leads=%v votes=%v ready=%v removed=%v failure=%v fault=%v members=[%s]", n.ID(), n.IsLeader(), n.Votes(), closed(n.Ready()), closed(n.Removed()), failureOf(n), fault, members))
	}
	return strings.Join(all, "; ")
}

func failureOf(n *member) error {
	if closed(n.Failed()) {
		return n.Failure()
	}
	return nil
}

// Sleep waits for d or the end of ctx.
func Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Command makes a command with a fresh id.
func Command(op fsm.Op) *fsm.Command {
	return &fsm.Command{ID: commandid.New(), Service: Service, Op: op}
}
