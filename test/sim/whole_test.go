package sim

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/test/validate"
)

var (
	seedCount = flag.Int("seeds", 30, "clusters that TestWholeClusters simulates")
	firstSeed = flag.Int("seed", 0, "the first one of their seeds")
)

// checkTime bounds the search for an order that explains a history, in real time.
const checkTime = 30 * time.Second

// fence is written when all clients have stopped: what comes before it is decided.
var fence = objects.NewSID(objects.KindDocument, [16]byte{5})

// tally is what all simulations came to.
type tally struct {
	mu                                          sync.Mutex
	clusters, calls, writes, events, reopenings int
	restored                                    int
	virtual                                     time.Duration
	faults                                      map[string]int
}

// outcome is what one simulation leaves to be judged outside of its bubble.
type outcome struct {
	cluster *Cluster
	clients *clients
	faults  map[string]int
	virtual time.Duration

	restored bool
}

// TestWholeClusters breaks everything that can break, while clients write, read
// and subscribe, and heals it. Then the cluster must work again within a minute;
// the history must be linearizable, each write there once, every subscriber have
// heard everything in order over all its connections, and all stores be equal.
func TestWholeClusters(t *testing.T) {
	count := *seedCount
	if testing.Short() {
		count = max(1, count/10)
	}
	all := &tally{faults: make(map[string]int)}
	began := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for seed := *firstSeed; seed < *firstSeed+count; seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				defer func() {
					if t.Failed() {
						t.Logf("again: go test ./test/sim -run 'TestWholeClusters$' -seed %d -seeds 1 -count 20 -failfast", seed)
					}
				}()
				out := inBubble(t, uint64(seed))
				if !t.Failed() {
					require.NoError(t, out.clients.registers.Linearizable(checkTime))
					all.add(out)
				}
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d clusters in %v: %.0f a minute, each %.1f virtual seconds", all.clusters, took.Round(time.Millisecond),
		float64(all.clusters)/took.Minutes(), all.virtual.Seconds()/float64(max(1, all.clusters)))
	t.Logf("%d calls to registers, %d writes acknowledged, %d events heard, %d subscribers had to open anew; %d clusters were restored from a backup", all.calls, all.writes, all.events, all.reopenings, all.restored)
	var kinds []string
	total := 0
	for _, name := range slices.Sorted(maps.Keys(all.faults)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", name, all.faults[name]))
		total += all.faults[name]
	}
	t.Logf("%d faults: %s", total, strings.Join(kinds, ", "))
}

func (a *tally) add(o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clusters++
	a.virtual += o.virtual
	if o.restored {
		a.restored++
	}
	a.calls += o.clients.registers.Len()
	a.writes += o.clients.writes.Done()
	for _, s := range o.clients.subscribers {
		a.reopenings += s.opened
		s.heard.All(func(validate.Event) error { a.events++; return nil })
	}
	for kind, n := range o.faults {
		a.faults[kind] += n
	}
}

// inBubble simulates the cluster of a seed. A node whose disk fails ends without
// raft, if that does not answer what it was asked at that moment; a process ends
// then, but a bubble cannot.
func inBubble(t *testing.T, seed uint64) (out outcome) {
	defer func() {
		held := out.cluster != nil && out.cluster.heldUp
		if why := recover(); why != nil && !(held && strings.Contains(fmt.Sprint(why), "blocked goroutines remain")) {
			panic(why)
		}
	}()
	synctest.Test(t, func(t *testing.T) { simulate(t, seed, &out) })
	return out
}

func simulate(t *testing.T, seed uint64, out *outcome) {
	r := rand.New(rand.NewPCG(seed, 2))
	began := time.Now()
	machines := newClocks(r)
	snapshots, restores := r.IntN(3) > 0, r.IntN(3) == 0
	latency := []time.Duration{3, 12, 48}[r.IntN(3)] * time.Millisecond // the longer, the more a crash takes
	c := Start(t, NewNetwork(r, Calm, Calm), Options{
		Nodes: 3, Rand: fork(r), DiskLatency: latency, QueueLength: 2 + r.IntN(30),
		Edit: func(config *cluster.Config) {
			config.Clock = machines.of(config.ID)
			if snapshots {
				config.SnapshotThreshold, config.TrailingLogs, config.SnapshotInterval = 20, 10, time.Second
			}
		},
	})
	out.cluster = c
	defer c.Close()
	all, err := startClients(t.Context(), c, fork(r))
	require.NoError(t, err)
	defer all.end()

	faults := newFaults(all, fork(r), machines)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second+upTo(r, 8*time.Second))
	defer cancel()
	faults.Run(ctx)
	require.True(t, faults.Heal(t.Context()), "the cluster does not work again: %s; down: %v; %v", c.describe(), faults.down, faults.stuck)
	Sleep(t.Context(), 300*time.Millisecond) // some traffic for a cluster that is well
	all.stop()
	c.Settle()                                                   // what is still on its way, and of unknown outcome, arrives
	Sleep(t.Context(), 100*time.Millisecond)                     // and comes into a log
	must(t, c, &fsm.CreateObject{SID: fence, Data: []byte("0")}) // behind all that is in one
	all.judge(t)
	if out.restored = restores && all.backup != nil; out.restored {
		before := all.openings()
		all.restore(t)
		all.judge(t)
		require.Equal(t, before+len(all.subscribers), all.openings(), "each subscriber opens the map anew, once")
	}
	out.clients, out.faults, out.virtual = all, faults.Counts, time.Since(began)
}

// restore loses a cluster with all its disks, and begins another one with the
// backup: what was acknowledged before that was begun is there once, no event id is
// given again, and all subscribers open the map anew.
func (c *clients) restore(t *testing.T) {
	for _, n := range c.cluster.Nodes() {
		c.cluster.Crash(n.ID())
	}
	c.writes.Doubt(c.backup.acknowledged)
	require.NoError(t, c.cluster.Restore("n1", "restored", [32]byte{7}, c.backup.content))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	c.cluster.Join(ctx, "n2")
	c.cluster.Join(ctx, "n3")
	c.writeAgain(ctx, t)
}

// openings returns how often subscribers have opened the map anew. None may be
// doing so.
func (c *clients) openings() (n int) {
	for _, s := range c.subscribers {
		n += s.opened
	}
	return n
}

// writeAgain writes through each node of a cluster that is well.
func (c *clients) writeAgain(ctx context.Context, t *testing.T) {
	for i, n := range c.cluster.Nodes() {
		data := fmt.Sprintf(`"after-%d"`, i)
		result, fate := c.write(ctx, n, &fsm.WriteItem{Kind: objects.KindList, Object: fsm.Ref{SID: list}, Mode: fsm.AppendItem, Data: []byte(data)})
		require.Equal(t, validate.Done, fate)
		require.Nil(t, result.Err)
		c.writes.Note(data, validate.Done)
		for k := range 5 {
			must(t, c.cluster, &fsm.WriteItem{
				Kind: objects.KindMap, Object: fsm.Ref{SID: entryMap}, Item: fsm.ItemKey{Key: fmt.Sprint("k", k)}, Mode: fsm.PutItem, Data: fmt.Append(nil, i),
			})
		}
	}
}

// judge compares what clients know with what a cluster that is well has.
func (c *clients) judge(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if refused := c.refused.Load(); refused != nil {
		t.Errorf("refused: %v", refused)
	}
	events := new(validate.Events)
	for _, n := range c.cluster.Nodes() {
		view, err := n.Read(ctx, objects.Bucket{})
		require.NoError(t, err, n.ID())
		require.NoError(t, c.writes.Stored(itemsOf(view)), n.ID())
		require.NoError(t, c.writes.InOrder(listed(view), placeOf), n.ID())
		require.NoError(t, view.Verify(), n.ID())
		last, want := lastEvent(view, entryMap), entries(view, entryMap)
		for i, s := range c.subscribers {
			for s.heard.Last() < last && ctx.Err() == nil {
				Sleep(ctx, 10*time.Millisecond)
			}
			require.NoError(t, s.heard.EndsIn(last, want), "subscriber %d and %s", i, n.ID())
		}
	}
	for i, s := range c.subscribers {
		require.NoError(t, s.heard.All(events.Add), "subscriber %d", i)
	}
	for i, s := range c.subscribers {
		require.NoError(t, s.heard.Check(events), "subscriber %d", i)
	}
	require.NoError(t, c.cluster.equalStores(ctx))
}

func lastEvent(view *fsm.View, sid objects.SID) uint64 {
	o, _ := view.ObjectBySID(sid)
	return uint64(o.EventID)
}

// equalStores compares the digests of all nodes at the newest log index that all
// of them have applied.
func (c *Cluster) equalStores(ctx context.Context) error {
	nodes := c.Nodes()
	var newest uint64
	for _, n := range nodes {
		newest = max(newest, n.FSM().View().Digest().Index)
	}
	digests := make(map[string]validate.Digest)
	for _, n := range nodes {
		if _, err := n.FSM().Wait(ctx, newest); err != nil {
			return err
		}
		d, ok := n.FSM().Digest(newest)
		if !ok {
			return fmt.Errorf("sim: %s has forgotten its digest at %d", n.ID(), newest)
		}
		digests[n.ID()] = validate.Digest{Index: d.Index, Hash: fmt.Sprintf("%016x", d.Hash)}
	}
	return validate.Digests(digests)
}
