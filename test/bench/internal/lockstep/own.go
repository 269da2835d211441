package lockstep

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

// fanout has n clients subscribe to one stream, and one publish to it.
func (c *cluster) fanout(ctx context.Context, n int, o peer.Options, where places, acknowledge bool) (report.Metrics, error) {
	return c.audience(ctx, n, where, acknowledge, func(f load.Fanout) (report.Metrics, error) { return peer.Fanout(ctx, f, o, c.pids()) })
}

// audience has n clients subscribe to one stream, and leaves it to measure when
// what is published.
func (c *cluster) audience(ctx context.Context, n int, where places, acknowledge bool, measure func(load.Fanout) (report.Metrics, error)) (_ report.Metrics, err error) {
	at, err := where(ctx, c)
	if err != nil {
		return nil, err
	}
	stream, err := c.load.Stream(ctx)
	if err != nil {
		return nil, err
	}
	var meter load.Meter
	subscribers, err := at.Subscribe(ctx, load.Following{
		Kind: "stream", Objects: []string{stream}, Clients: n, Acknowledge: acknowledge,
		Heard: func(_ int, payload []byte) int64 { return meter.Hear(payload) },
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, subscribers.Close()) }()
	publisher, err := c.load.Publisher(ctx, stream, &meter)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, publisher.Close()) }()
	return measure(load.Fanout{Meter: &meter, Each: n, Publish: publisher.Publish})
}

// deaf is for subscribers of what does not change.
func deaf(int, []byte) int64 { return 0 }

// idle has n clients subscribe to a stream over which nothing comes.
func (c *cluster) idle(ctx context.Context, n int, _ peer.Options) (_ report.Metrics, err error) {
	stream, err := c.load.Stream(ctx)
	if err != nil {
		return nil, err
	}
	var subscribers *load.Subscribers
	each, err := peer.Growth(ctx, c.pids(), n, func() (err error) {
		subscribers, err = c.load.Subscribe(ctx, load.Following{Kind: "stream", Objects: []string{stream}, Clients: n, Heard: deaf})
		return err
	})
	if subscribers != nil {
		err = errors.Join(err, subscribers.Close())
	}
	return report.Metrics{report.Each: each}, err
}

// beside has 64 clients write while n others are subscribed.
func (c *cluster) beside(ctx context.Context, n int, o peer.Options) (_ report.Metrics, err error) {
	documents, err := c.load.Documents(ctx, peer.Objects, nil)
	if err != nil {
		return nil, err
	}
	stream, err := c.load.Stream(ctx)
	if err != nil {
		return nil, err
	}
	var subscribers *load.Subscribers
	each, err := peer.Growth(ctx, c.pids(), n, func() (err error) {
		subscribers, err = c.load.Subscribe(ctx, load.Following{Kind: "stream", Objects: []string{stream}, Clients: n, Heard: deaf})
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, subscribers.Close()) }()
	m, err := c.loop(ctx, 64, o, c.load.Writers("/Documents", documents))
	if err == nil {
		m[report.Each] = each
	}
	return m, err
}

// watch has each of n documents followed by one client on a follower, and updates
// them by the leader.
func (c *cluster) watch(ctx context.Context, n int, o peer.Options) (_ report.Metrics, err error) {
	documents, err := c.load.Documents(ctx, n, nil)
	if err != nil {
		return nil, err
	}
	follower, err := onFollower(ctx, c)
	if err != nil {
		return nil, err
	}
	w := peer.NewWatch(n)
	subscribers, err := follower.Subscribe(ctx, load.Following{Kind: "document", Objects: documents, Clients: n, Heard: w.Hear})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, subscribers.Close()) }()
	leader, err := onLeader(ctx, c)
	if err != nil {
		return nil, err
	}
	clients := sync.Pool{New: func() any { return leader.REST(0) }} // one for each that writes at a time; they end with the cluster
	return w.Run(ctx, o, c.pids(), func(ctx context.Context, i int, data []byte) error {
		rest := clients.Get().(*load.REST)
		defer clients.Put(rest)
		_, err := rest.Do(ctx, "POST", c.load.Path("/Documents/"+documents[i]), url.Values{"Data": {`{"v":"` + string(data) + `"}`}})
		return err
	})
}

// failover kills the leader again and again.
func (c *cluster) failover(ctx context.Context, _ int, o peer.Options) (report.Metrics, error) {
	documents, err := c.load.Documents(ctx, 300, nil)
	if err != nil {
		return nil, err
	}
	var outages []time.Duration
	for range o.Kills {
		d, err := c.kill(ctx, documents)
		if err != nil {
			return nil, err
		}
		outages = append(outages, d)
	}
	return peer.Outages(outages), nil
}

// kill kills the leader, measures, and brings the node back.
func (c *cluster) kill(ctx context.Context, documents []string) (time.Duration, error) {
	killed, err := c.leader(ctx)
	if err != nil {
		return 0, err
	}
	form := url.Values{"Data": {load.Data(load.Size)}}
	update := func(ctx context.Context, node, n int) (err error) {
		rest := c.load.Only(c.url(node % nodes)).REST(0)
		defer func() { err = errors.Join(err, rest.Close()) }()
		_, err = rest.Do(ctx, "POST", c.load.Path("/Documents/"+documents[n%len(documents)]), form)
		return err
	}
	for i := range documents {
		if err := update(ctx, i, i); err != nil {
			return 0, err
		}
	}
	outage, err := peer.Outage(ctx, c.processes[killed].Kill, func(ctx context.Context, n int) error { return update(ctx, killed+1+n%2, n) })
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, restartTime)
	defer cancel()
	if err := c.startNode(ctx, killed); err != nil {
		return 0, err
	}
	return outage, c.untilVote(ctx, nodes)
}

// million makes n maps of one item, has a follower take a snapshot while it is
// written through, and restarts it.
func (c *cluster) million(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
	begin := time.Now()
	name := func(i int) string { return fmt.Sprintf("m%07d", i) }
	err := c.load.Fill(ctx, n, func(i int) (string, url.Values) { return "/Maps", url.Values{"UniqueName": {name(i)}} }, nil)
	if err != nil {
		return nil, err
	}
	err = c.load.Fill(ctx, n, func(i int) (string, url.Values) {
		return "/Maps/" + name(i) + "/Items", url.Values{"Key": {"k"}, "Data": {load.Data(load.Size)}}
	}, nil)
	if err != nil {
		return nil, err
	}
	m := report.Metrics{"made_per_s": float64(n) / time.Since(begin).Seconds()}
	if m[report.RSS], err = peer.Memory(ctx, c.pids()); err != nil {
		return nil, err
	}
	follower, err := c.follower(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, n)
	for i := range names {
		names[i] = name(i) + "/Items/k"
	}
	if err := c.pauses(ctx, follower, names, o, m); err != nil {
		return nil, err
	}
	if err := c.processes[follower].Stop(); err != nil {
		return nil, err
	}
	begin = time.Now()
	ctx, cancel := context.WithTimeout(ctx, restartTime)
	defer cancel()
	if err := c.startNode(ctx, follower); err != nil {
		return nil, err
	}
	m["ready_ms"] = peer.Millis(time.Since(begin))
	return m, nil
}

// pauses measures the longest write through a node while nothing else happens, and
// while the node takes a snapshot.
func (c *cluster) pauses(ctx context.Context, node int, items []string, o peer.Options, m report.Metrics) error {
	writers := c.load.Only(c.url(node)).Writers("/Maps", items)
	quiet, err := load.Loop{Clients: 4, Warm: o.Warm, Measure: o.Measure, Connect: writers}.Run(ctx)
	if err != nil {
		return err
	}
	m["quiet_max_ms"] = peer.Millis(quiet.Latency.Max)
	during, done := context.WithCancel(ctx)
	defer done()
	snapshot := make(chan error, 1)
	go func() {
		snapshot <- c.admin(c.url(node)).Snapshot(ctx)
		done()
	}()
	busy, err := load.Loop{Clients: 4, Measure: time.Minute, Connect: writers}.Run(during)
	if err != nil && during.Err() == nil {
		return err
	}
	m["snapshot_max_ms"] = peer.Millis(busy.Latency.Max)
	return <-snapshot
}
