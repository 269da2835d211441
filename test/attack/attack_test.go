//go:build attack

// Package attack tries what an attacker with one token, with none, or on the
// network beside a cluster can do to it, and measures what innocent clients and
// the nodes' memory feel: make test-attacks. It is no part of make test, since
// figures of time mean little on a busy machine; it needs root, to put nodes and
// innocent clients before the attackers, who have no machine of their own here.
//
// LOCKSTEP_BINARY names another build to compare with.
package attack

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
	"lockstep/test/ports"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(probeVariable); text != "" {
		runProbe(text)
		return
	}
	code := harness.Main(m)
	printTable()
	os.Exit(code)
}

// How long innocent clients are measured before and during an attack.
const (
	calm   = 5 * time.Second
	attack = 12 * time.Second
)

// The bounds of what an attack may do to a node's memory, and to what an
// innocent client waits for in 99 of 100 cases.
const (
	mostMemory  = 256 << 20
	mostSlower  = 5
	slowAtLeast = 25.0 // ms: what is faster than this is fast, whatever it was before
)

// arena is a cluster under attack.
type arena struct {
	*harness.Cluster
	t      *testing.T
	target *harness.Node // a follower, on which probe and attacker are
	ctx    context.Context
	work   *sync.WaitGroup // of the attack
}

// entry is one attack: prepare happens before anything is measured.
type entry struct {
	name    string
	env     []string
	prepare func(a *arena)
	attack  func(a *arena)
	order   order
	latency func(report) []float64 // which series is judged; default: events and writes
}

func TestAttacks(t *testing.T) {
	for _, e := range attacks {
		t.Run(strings.ReplaceAll(e.name, " ", "-"), func(t *testing.T) { e.run(t) })
	}
}

func (e entry) run(t *testing.T) {
	c := harness.Start(t, harness.Config{Env: append([]string{"LOCKSTEP_RATE_LIMITS=default"}, e.env...)})
	ctx, end := context.WithCancel(t.Context())
	a := &arena{Cluster: c, t: t, target: c.Follower(), ctx: ctx, work: new(sync.WaitGroup)}
	defer a.work.Wait()
	defer end()

	rest := a.target.REST()
	o := e.order
	o.URL = a.target.URL
	for i := range innocents {
		name := fmt.Sprint("innocent-", i)
		_, err := rest.Post(ctx, "/Maps", harness.Form("UniqueName", name))
		require.NoError(t, err)
		sid, err := rest.SID(ctx, "/Maps/"+name)
		require.NoError(t, err)
		o.Clients = append(o.Clients, client{Token: c.Token(name), Map: sid})
	}
	if o.Receiver != "" {
		o.Receiver = freeAddress(t)
		_, err := rest.Post(ctx, "", harness.Form("WebhookUrl", "http://"+o.Receiver+"/"))
		require.NoError(t, err)
	}
	if e.prepare != nil {
		e.prepare(a)
	}
	p := startProbe(t, o)
	c.Favour(p.PID)
	time.Sleep(time.Second)
	p.report(t) // without the start
	cpu := a.cpu()
	time.Sleep(calm)
	before, memory := p.report(t), a.memory()
	idle := (a.cpu() - cpu) / calm.Seconds()
	cpu = a.cpu()

	watching, stop := context.WithTimeout(ctx, attack)
	defer stop()
	attacked := *a
	attacked.ctx = watching
	e.attack(&attacked)
	most := a.watch(watching, memory)
	during := p.report(t)
	e.judge(t, before, during, most, [2]float64{idle, (a.cpu() - cpu) / attack.Seconds()})
	for _, n := range c.Nodes {
		if n.Exited() {
			t.Errorf("%s has ended", n.ID)
		}
	}
}

func freeAddress(t *testing.T) string {
	port, err := ports.Take(1)
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// memory returns the resident bytes of each node.
func (a *arena) memory() map[string]int {
	m := map[string]int{}
	for _, n := range a.Nodes {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kib, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(text), " kB"))
				m[n.ID] = kib << 10
			}
		}
	}
	return m
}

// cpu returns the seconds of CPU that the attacked node has used.
func (a *arena) cpu() float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.target.PID()))
	if err != nil {
		return 0 // it has ended, which run says
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / 100 // ticks of Linux, whatever the machine
}

// watch waits for the end of the attack and returns by how much the memory of
// a node grew at most.
func (a *arena) watch(ctx context.Context, before map[string]int) (most int) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for id, now := range a.memory() {
				most = max(most, now-before[id])
			}
		case <-ctx.Done():
			return most
		}
	}
}

// judge compares what the innocent felt; cpu is how many cores the attacked node
// used before and during the attack.
func (e entry) judge(t *testing.T, before, during report, grown int, cpu [2]float64) {
	series := []struct {
		name         string
		calm, attack []float64
		judged       bool
	}{
		{"events", before.Events, during.Events, e.latency == nil},
		{"writes", before.Writes, during.Writes, e.latency == nil},
		{"queries", before.Queries, during.Queries, e.latency != nil && e.order.Queries},
		{"webhooks", before.Webhooks, during.Webhooks, e.latency != nil && e.order.Receiver != ""},
	}
	for _, s := range series {
		if len(s.calm) == 0 && len(s.attack) == 0 {
			continue
		}
		was, is := percentile(s.calm, 0.99), percentile(s.attack, 0.99)
		row(e.name, s.name, len(s.attack), percentile(s.calm, 0.5), percentile(s.attack, 0.5), was, is, grown, during.Failed, cpu)
		if s.judged && is > slowAtLeast && is > mostSlower*was {
			t.Errorf("%s: p99 %.0f ms before, %.0f ms during the attack", s.name, was, is)
		}
	}
	if len(during.Events) == 0 {
		t.Error("the innocent client heard nothing")
	}
	if during.Failed > 0 {
		t.Errorf("%d sessions or requests of the innocent client failed, the last one: %s", during.Failed, during.Error)
	}
	if grown > mostMemory {
		t.Errorf("a node grew by %d MiB", grown>>20)
	}
}

var table struct {
	sync.Mutex
	rows []string
}

func row(attack, series string, count int, p50, p50now, p99, p99now float64, grown, failed int, cpu [2]float64) {
	table.Lock()
	defer table.Unlock()
	ratio := "-"
	if p99 > 0 {
		ratio = fmt.Sprintf("%.1f", p99now/p99)
	}
	table.rows = append(table.rows, fmt.Sprintf("%s\t%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t%d\t%+d\t%.2f\t%.2f", attack, series, count, p50, p50now, p99, p99now, ratio, failed, grown>>20, cpu[0], cpu[1]))
}

func printTable() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nattack\tseries\tcount\tp50 ms\tduring\tp99 ms\tduring\tratio\tfailed\tMiB\tcores\tduring")
	for _, r := range table.rows {
		fmt.Fprintln(w, r)
	}
	w.Flush()
}
