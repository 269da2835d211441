package lockstep

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"lockstep/cmd/lockstep/bench/internal/cgroup"
	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

const (
	nodeShare   = 0.1                   // of one processor that each node has: two hold seven nodes and the load
	listeners   = 1000                  // subscribers of the stream on each node that has clients
	writeEvery  = 40 * time.Millisecond // little enough that no write waits for another
	writesTimes = 3                     // as long as deliveries are measured, so that there are enough writes
)

// nonvoters are the rows that show what nodes without a vote add, when each node has
// a processor of its own, if a small one.
func (p *Peer) nonvoters() []peer.Row {
	row := func(name string, where places) peer.Row {
		return peer.Row{Name: name, N: []int{0, 2, 4}, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
			return p.own(ctx, o, size{nodes, n}, func(c *cluster) (report.Metrics, error) { return c.limited(ctx, o, where) })
		}}
	}
	return []peer.Row{row("clients on all nodes", onAll), row("clients on all but the leader", besideLeader)}
}

func besideLeader(ctx context.Context, c *cluster) (*load.Cluster, error) {
	leader, err := c.leader(ctx)
	if err != nil {
		return nil, err
	}
	var others []string
	for i, url := range c.urls() {
		if i != leader {
			others = append(others, url)
		}
	}
	return c.load.Only(others...), nil
}

// limited measures deliveries as fast as they go, and then how long writes through
// the leader take.
func (c *cluster) limited(ctx context.Context, o peer.Options, where places) (report.Metrics, error) {
	documents, err := c.load.Documents(ctx, 256, nil)
	if err != nil {
		return nil, err
	}
	at, err := where(ctx, c)
	if err != nil {
		return nil, err
	}
	m, err := c.audience(ctx, listeners*len(at.URLs), where, false, func(f load.Fanout) (report.Metrics, error) {
		if err := c.limit(nodeShare); err != nil {
			return nil, err
		}
		m, err := peer.Deliveries(ctx, f, o, c.pids())
		if err == nil {
			m["used_up"], err = c.usedUp()
		}
		return m, err
	})
	if err != nil {
		return nil, err
	}
	// Voters on machines of their own do not wait until a nonvoter has done its work.
	for _, g := range c.groups[nodes:] {
		if err := g.Yield(); err != nil {
			return nil, err
		}
	}
	writes, err := c.pacedWrites(ctx, documents, o)
	if err != nil {
		return nil, err
	}
	m["write_p50_ms"], m["write_p99_ms"] = peer.Millis(writes.P50), peer.Millis(writes.P99)
	return m, nil
}

// limit gives each node so much of one processor from now on.
func (c *cluster) limit(share float64) error {
	for i, p := range c.processes {
		g, err := cgroup.New(fmt.Sprintf("bench-%d-%d", os.Getpid(), i), share)
		if err != nil {
			return err
		}
		c.groups = append(c.groups, g)
		if err := g.Add(p.PID()); err != nil {
			return err
		}
	}
	return nil
}

// usedUp returns in what share of the time, in percent, the busiest node had used up
// what it may.
func (c *cluster) usedUp() (most float64, err error) {
	for _, g := range c.groups {
		periods, throttled, err := g.Throttled()
		if err != nil {
			return 0, err
		}
		most = max(most, 100*float64(throttled)/max(1, float64(periods)))
	}
	return most, nil
}

// pacedWrites has one client update documents through the leader, now and then.
func (c *cluster) pacedWrites(ctx context.Context, documents []string, o peer.Options) (_ load.Latency, err error) {
	leader, err := onLeader(ctx, c)
	if err != nil {
		return load.Latency{}, err
	}
	rest := leader.REST(0)
	defer func() { err = errors.Join(err, rest.Close()) }()
	every := time.NewTicker(writeEvery)
	defer every.Stop()
	var took load.Histogram
	begin := time.Now()
	for i := 0; time.Since(begin) < o.Warm+writesTimes*o.Measure; i++ {
		select {
		case <-every.C:
		case <-ctx.Done():
			return load.Latency{}, ctx.Err()
		}
		written := time.Now()
		if _, err := rest.Do(ctx, "POST", c.load.Path("/Documents/"+documents[i%len(documents)]), url.Values{"Data": {load.Data(load.Size)}}); err != nil {
			return load.Latency{}, err
		}
		if time.Since(begin) > o.Warm {
			took.Add(time.Since(written))
		}
	}
	return took.Summary(), nil
}
