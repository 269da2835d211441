package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"lockstep/objects"
)

// Faults breaks a cluster, and everything in it, by a seed. Any of the nodes
// may be asked; no more than one disk is lost at a time, and the next one only
// when that node votes again.
type Faults struct {
	cluster *Cluster
	clients *clients
	rand    *rand.Rand
	clocks  *clocks
	base    []string // the nodes that stay

	down   map[string]time.Time // nodes that are down, and from when on they may come up
	slow   time.Time            // until when the network is late
	joined int                  // nodes that were ever added

	Counts map[string]int   // faults, by their kind
	stuck  map[string]error // why nodes that are down did not come up
}

func newFaults(all *clients, r *rand.Rand, machines *clocks) *Faults {
	c := all.cluster
	f := &Faults{
		cluster: c, clients: all, rand: r, clocks: machines, Counts: make(map[string]int),
		down: make(map[string]time.Time), stuck: make(map[string]error),
	}
	for _, n := range c.Nodes() {
		f.base = append(f.base, n.ID())
	}
	return f
}

// kinds are what can go wrong. Each returns without waiting for its end, except
// where the operator would wait, too.
var kinds = []struct {
	name string
	do   func(f *Faults, ctx context.Context, victim string)
}{
	{"isolated", func(f *Faults, _ context.Context, victim string) { f.cluster.Isolate(victim) }},
	{"link cut", func(f *Faults, _ context.Context, victim string) { f.cluster.Cut(victim, f.any()) }},
	{"one-way loss", func(f *Faults, _ context.Context, victim string) { f.cluster.Deafen(victim, f.any()) }},
	{"hears nobody", func(f *Faults, _ context.Context, victim string) {
		for _, other := range f.base {
			f.cluster.Deafen(other, victim)
		}
	}},
	{"messages lost", func(f *Faults, _ context.Context, _ string) { f.cluster.SetLoss(1+f.rand.IntN(20), 0) }},
	{"messages twice", func(f *Faults, _ context.Context, _ string) { f.cluster.SetLoss(0, 10+f.rand.IntN(60)) }},
	{"messages late", func(f *Faults, _ context.Context, _ string) {
		f.cluster.SetDelays(Late, Late)
		f.slow = time.Now().Add(upTo(f.rand, 4*time.Second))
	}},
	{"crash", func(f *Faults, _ context.Context, victim string) { f.crash(victim, false) }},
	{"crash of all", func(f *Faults, _ context.Context, _ string) {
		for _, n := range f.cluster.Nodes() {
			f.crash(n.ID(), false)
		}
	}},
	{"torn write", func(f *Faults, ctx context.Context, victim string) {
		if f.allVote() {
			f.crash(victim, true)
			f.comeBack(ctx, victim)
		}
	}},
	{"write error", func(f *Faults, _ context.Context, victim string) { f.cluster.disk(victim).FailOnce() }},
	{"disk full", func(f *Faults, _ context.Context, victim string) {
		f.cluster.disk(victim).Fill(upTo(f.rand, 4*time.Second))
	}},
	{"disk hangs", func(f *Faults, _ context.Context, victim string) {
		f.cluster.disk(victim).Hang(upTo(f.rand, 8*time.Second))
	}},
	{"disk lost", func(f *Faults, ctx context.Context, victim string) {
		if f.allVote() {
			f.crash(victim, false)
			f.cluster.Wipe(victim)
			f.comeBack(ctx, victim)
		}
	}},
	{"clock step", func(f *Faults, _ context.Context, victim string) { f.clocks.change(victim) }},
	{"another majority", func(f *Faults, ctx context.Context, victim string) { f.changeMajority(ctx, victim) }},
	{"node added", func(f *Faults, ctx context.Context, _ string) {
		f.joined++
		attempt, cancel := context.WithTimeout(ctx, upTo(f.rand, 3*time.Second))
		defer cancel()
		_ = f.cluster.enter(attempt, fmt.Sprintf("m%d", f.joined)) // given up half way, perhaps
	}},
	{"node removed", func(f *Faults, ctx context.Context, victim string) { f.remove(ctx, victim, 2*time.Second) }},
	{"snapshot", func(f *Faults, ctx context.Context, victim string) {
		if n := f.cluster.node(victim); n != nil {
			attempt, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_ = n.Snapshot(attempt) // which another fault may prevent
		}
	}},
	{"backup", func(f *Faults, ctx context.Context, victim string) {
		if n := f.cluster.node(victim); n != nil {
			attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_ = f.clients.backUp(attempt, n) // likewise
		}
	}},
	{"handover", func(f *Faults, ctx context.Context, victim string) {
		if n := f.cluster.node(victim); n != nil && n.IsLeader() {
			attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_ = n.TransferLeadership(attempt) // likewise
		}
	}},
}

// changeMajority cuts a node off for a while, and crashes one of those that went on
// without it, as that one writes. The first is let back in then, and the third cut
// off: what both had written, and not just said to have, is known to the two that
// remain.
func (f *Faults) changeMajority(ctx context.Context, behind string) {
	f.cluster.Isolate(behind)
	Sleep(ctx, upTo(f.rand, time.Second))
	others := slices.DeleteFunc(slices.Clone(f.base), func(id string) bool { return id == behind })
	f.rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	writes := f.cluster.disk(others[0]).Writing
	f.until(ctx, time.Second, time.Millisecond, func() bool { return writes() && f.rand.IntN(8) == 0 })
	f.crash(others[0], false)
	f.down[others[0]] = time.Now()
	f.cluster.Heal()
	f.cluster.Isolate(others[1])
	leads := func(id string) bool {
		n := f.cluster.node(id)
		return n != nil && n.IsLeader()
	}
	f.until(ctx, 5*time.Second, 100*time.Millisecond, func() bool {
		f.tend(ctx, "")
		return leads(behind) || leads(others[0])
	})
}

// until waits until something is so, but no longer than limit. It looks at every
// step.
func (f *Faults) until(ctx context.Context, limit, step time.Duration, so func() bool) {
	for end := time.Now().Add(limit); ctx.Err() == nil && time.Now().Before(end) && !so(); {
		Sleep(ctx, step)
	}
}

// any draws one of the nodes that stay, half of the time the one that leads.
func (f *Faults) any() string {
	leads := ""
	for _, n := range f.cluster.Nodes() {
		if n.IsLeader() && slices.Contains(f.base, n.ID()) {
			leads = n.ID()
		}
	}
	if one := f.base[f.rand.IntN(len(f.base))]; leads == "" || f.rand.IntN(2) == 0 {
		return one
	}
	return leads
}

func (f *Faults) crash(id string, tear bool) {
	f.cluster.crash(id, tear)
	f.down[id] = time.Now().Add(upTo(f.rand, 3*time.Second))
}

// allVote reports whether all members are up and vote, and none is so far behind
// that it would not know another one.
func (f *Faults) allVote() bool {
	for _, id := range f.base {
		n := f.cluster.node(id)
		if n == nil || closed(n.Failed()) || !closed(n.Ready()) {
			return false
		}
		seen := make(map[string]bool)
		for _, m := range n.Members() {
			if seen[m.ID] { // one is being replaced: the old one still counts
				return false
			}
			seen[m.ID] = true
			if other := f.cluster.node(m.ID); other == nil || !other.Votes() || closed(other.Failed()) || len(other.Members()) != len(n.Members()) {
				return false
			}
		}
	}
	return true
}

// allUp reports whether all nodes that stay are up.
func (f *Faults) allUp() bool {
	return !slices.ContainsFunc(f.base, func(id string) bool { return f.cluster.node(id) == nil })
}

// comeBack brings a node up whose disk is new or damaged, and has the rest of the
// cluster well meanwhile.
func (f *Faults) comeBack(ctx context.Context, id string) {
	delete(f.down, id)
	f.repair()
	attempt, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.comeBackNow(attempt, id) }()
	for {
		select {
		case err := <-done: // what is left to do, Heal does
			if err != nil {
				f.stuck[id] = err
			}
			return
		case <-time.After(100 * time.Millisecond):
			f.tend(ctx, id)
		}
	}
}

func (f *Faults) comeBackNow(ctx context.Context, id string) error {
	if f.cluster.disk(id).incarnation == "" {
		return f.cluster.enter(ctx, id)
	}
	return f.cluster.revive(ctx, id)
}

// remove takes a node that was added out again.
func (f *Faults) remove(ctx context.Context, through string, limit time.Duration) {
	n := f.cluster.node(through)
	if n == nil || f.joined == 0 {
		return
	}
	for _, m := range n.Members() {
		if slices.Contains(f.base, m.ID) {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, limit)
		err := n.RemoveMember(attempt, m.ID)
		cancel()
		if err == nil {
			f.cluster.Crash(m.ID)
			f.cluster.Wipe(m.ID)
		}
	}
}

// repair mends the network and the disks.
func (f *Faults) repair() {
	f.cluster.Heal()
	f.cluster.SetDelays(Calm, Calm)
	for _, id := range f.base {
		f.cluster.disk(id).Repair()
	}
}

// tend does what operators and time do: nodes that have failed are taken down,
// those that are down come up in time, and what was late for a while is so no more.
func (f *Faults) tend(ctx context.Context, except string) {
	now := time.Now()
	if !f.slow.IsZero() && now.After(f.slow) {
		f.slow = time.Time{}
		f.cluster.SetDelays(Calm, Calm)
	}
	for _, n := range f.cluster.Nodes() {
		if n.ID() != except && closed(n.Failed()) {
			f.crash(n.ID(), false)
		}
	}
	for _, id := range slices.Sorted(mapKeys(f.down)) {
		if id == except || now.Before(f.down[id]) {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second) // one that begins anew may need another that is down
		if err := f.cluster.revive(attempt, id); err == nil {
			delete(f.down, id)
		} else { // its disk may be full
			f.down[id], f.stuck[id] = now.Add(time.Second), err
		}
		cancel()
	}
}

func mapKeys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// Run breaks things until ctx ends.
func (f *Faults) Run(ctx context.Context) {
	for ctx.Err() == nil {
		kind := kinds[f.rand.IntN(len(kinds))]
		f.Counts[kind.name]++
		kind.do(f, ctx, f.any())
		for until := time.Now().Add(upTo(f.rand, 2*time.Second)); time.Now().Before(until) && ctx.Err() == nil; {
			f.tend(ctx, "")
			Sleep(ctx, 100*time.Millisecond)
		}
		if f.rand.IntN(3) == 0 {
			f.cluster.Heal()
		}
	}
}

// Heal makes all well again, and waits until every node that stays votes and
// serves, and no other one is there. It returns false if that does not come to be
// in a minute.
func (f *Faults) Heal(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f.repair()
	for ctx.Err() == nil {
		f.tend(ctx, "")
		for _, id := range f.base {
			if n := f.cluster.node(id); n == nil {
				if _, waits := f.down[id]; !waits {
					f.down[id] = time.Time{}
				}
			} else if !n.Votes() { // given up half way
				attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
				_ = f.cluster.admit(attempt, n) // or later: the others may not be up yet
				cancel()
			}
		}
		if f.allUp() {
			f.remove(ctx, f.any(), 5*time.Second)
		}
		if f.isWell() && f.serves(ctx) {
			f.dismiss()
			return true
		}
		Sleep(ctx, 100*time.Millisecond)
	}
	return false
}

// serves reports whether every node can be read through. One whose disk has just
// failed says so before it ends.
func (f *Faults) serves(ctx context.Context) bool {
	for _, id := range f.base {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := f.cluster.node(id).Read(attempt, objects.Bucket{})
		cancel()
		if err != nil {
			return false
		}
	}
	return true
}

// dismiss takes nodes down that are no members.
func (f *Faults) dismiss() {
	for _, n := range f.cluster.Nodes() {
		if !slices.Contains(f.base, n.ID()) {
			f.cluster.Crash(n.ID())
		}
	}
}

func (f *Faults) isWell() bool {
	leaders := 0
	for _, id := range f.base {
		n := f.cluster.node(id)
		if n == nil || !n.Votes() || !closed(n.Ready()) || closed(n.Failed()) || closed(n.Removed()) || len(n.Members()) != len(f.base) {
			return false
		}
		if n.IsLeader() {
			leaders++
		}
	}
	return leaders == 1
}

// clocks are the clocks of the nodes' machines.
type clocks struct {
	mu    sync.Mutex
	r     *rand.Rand
	ahead map[string]time.Duration
}

func newClocks(r *rand.Rand) *clocks {
	return &clocks{r: fork(r), ahead: make(map[string]time.Duration)}
}

func (c *clocks) of(id string) func() time.Time {
	return func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return time.Now().Add(c.ahead[id])
	}
}

// change sets a clock anew, to within twenty minutes.
func (c *clocks) change(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead[id] = time.Duration(c.r.Int64N(int64(40*time.Minute))) - 20*time.Minute
}

// step changes a clock every few seconds until the context ends.
func (c *clocks) step(ctx context.Context) {
	for ctx.Err() == nil {
		Sleep(ctx, 3*time.Second)
		c.change([]string{"n1", "n2", "n3"}[c.r.IntN(3)])
	}
}
