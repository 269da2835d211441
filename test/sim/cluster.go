package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

// Service is the default service of a simulated cluster.
var Service = objects.NewSID(objects.KindService, [16]byte{1})

// patience is how long, in virtual time, a healthy cluster may take for anything.
const patience = time.Minute

// Cluster is a cluster of simulated nodes, all voters.
type Cluster struct {
	*Network
	t    testing.TB
	edit func(*cluster.Config)

	mu    sync.Mutex
	disks map[string]*disk
	nodes map[string]*cluster.Node // those that are up
}

// disk is what a node keeps over a crash.
type disk struct {
	log       *raft.InmemStore
	snapshots *raft.InmemSnapshotStore
}

// Start makes a cluster of nodes n1 to nN. edit, which may be nil, changes the
// configuration of each.
func Start(t testing.TB, count int, network *Network, edit func(*cluster.Config)) *Cluster {
	c := &Cluster{Network: network, t: t, edit: edit, disks: make(map[string]*disk), nodes: make(map[string]*cluster.Node)}
	first := c.open("n1", true)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := first.Propose(ctx, Command(&fsm.Initialise{ClusterID: "sim", AccountSID: "AC", AuthToken: "t", Service: Service}))
	require.NoError(t, err)
	require.Nil(t, r.Err)
	for i := 2; i <= count; i++ {
		c.Join(ctx, fmt.Sprintf("n%d", i))
	}
	return c
}

// Join starts a new node, adds it and waits until it votes.
func (c *Cluster) Join(ctx context.Context, id string) {
	n := c.open(id, false)
	for _, member := range c.Nodes() {
		if member == n {
			continue
		}
		require.NoError(c.t, member.AddMember(ctx, cluster.MemberSpec{ID: id, InternalAddr: id}))
		break
	}
	<-n.Ready()
	require.Eventually(c.t, func() bool {
		return slices.ContainsFunc(n.Members(), func(m cluster.Member) bool {
			return m.ID == id && (m.Role == cluster.RoleFollower || m.Role == cluster.RoleLeader)
		})
	}, patience, 10*time.Millisecond)
}

func (c *Cluster) open(id string, bootstrap bool) *cluster.Node {
	c.mu.Lock()
	d := c.disks[id]
	if d == nil {
		d = &disk{raft.NewInmemStore(), raft.NewInmemSnapshotStore()}
		c.disks[id] = d
	}
	c.mu.Unlock()
	e := c.attach(id)
	config := cluster.Config{
		ID: id, ClusterID: "sim", Bootstrap: bootstrap, Logger: slog.New(slog.DiscardHandler),
		Parts: &cluster.Parts{Transport: e, Peers: e, Logs: d.log, Stable: d.log, Snapshots: d.snapshots},
	}
	if c.edit != nil {
		c.edit(&config)
	}
	n, err := cluster.Open(context.Background(), config)
	require.NoError(c.t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id] = n
	return n
}

// Nodes returns the nodes that are up, in the order of their ids.
func (c *Cluster) Nodes() []*cluster.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*cluster.Node, 0, len(c.nodes))
	for _, n := range c.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *cluster.Node) int { return slices.Compare([]byte(a.ID()), []byte(b.ID())) })
	return out
}

// node returns a node if it is up.
func (c *Cluster) node(id string) *cluster.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id]
}

// Leader waits for the node that leads.
func (c *Cluster) Leader() *cluster.Node {
	var leader *cluster.Node
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

// Crash takes a node down without a word to the others, and Restart brings it
// up again on its disk.
func (c *Cluster) Crash(id string) {
	c.mu.Lock()
	n := c.nodes[id]
	delete(c.nodes, id)
	c.mu.Unlock()
	if n == nil {
		return
	}
	c.Network.mu.Lock()
	e := c.endpoints[id]
	c.Network.mu.Unlock()
	e.cancel()
	require.NoError(c.t, n.Close())
}

// Restart brings a node that crashed up again.
func (c *Cluster) Restart(id string) *cluster.Node { return c.open(id, false) }

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
