// Package lockstep measures this product: nodes of the built program, by the REST
// API and by the realtime protocol.
package lockstep

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

const nodes = 3

// Peer is Lockstep.
type Peer struct {
	Program string // path

	shared    *cluster
	documents []string // SIDs
	items     int      // of the map that grows
}

// Name implements peer.Peer.
func (*Peer) Name() string { return "lockstep" }

// Start implements peer.Peer.
func (p *Peer) Start(ctx context.Context, scenario, dir string) (err error) {
	p.documents, p.items = nil, 0
	if p.shared, err = p.start(ctx, dir, three); err != nil {
		return err
	}
	switch scenario {
	case "writes", "reads":
		return p.document(ctx, peer.Objects)
	case "growth-items":
		return p.shared.load.Fill(ctx, 1, func(int) (string, url.Values) { return "/Maps", url.Values{"UniqueName": {"m"}} }, nil)
	}
	return nil
}

// Stop implements peer.Peer.
func (p *Peer) Stop() error {
	if p.shared == nil {
		return nil
	}
	return p.shared.stop()
}

// document sees to it that there are n documents.
func (p *Peer) document(ctx context.Context, n int) error {
	more, err := p.shared.load.Documents(ctx, max(0, n-len(p.documents)), nil)
	p.documents = append(p.documents, more...)
	return err
}

// own runs something on a cluster of its own.
func (p *Peer) own(ctx context.Context, o peer.Options, size size, do func(*cluster) (report.Metrics, error)) (_ report.Metrics, err error) {
	c, err := p.start(ctx, o.Dir, size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	return do(c)
}

// connector makes the clients of a loop.
type connector = func(context.Context, int) (load.Client, error)

func (c *cluster) loop(ctx context.Context, n int, o peer.Options, connect connector) (report.Metrics, error) {
	return peer.Loop(ctx, load.Loop{Clients: n, Connect: connect}, o, c.pids())
}

// places are which nodes the clients go to.
type places func(ctx context.Context, c *cluster) (*load.Cluster, error)

func onLeader(ctx context.Context, c *cluster) (*load.Cluster, error) {
	i, err := c.leader(ctx)
	return c.load.Only(c.url(i)), err
}

func onFollower(ctx context.Context, c *cluster) (*load.Cluster, error) {
	i, err := c.follower(ctx)
	return c.load.Only(c.url(i)), err
}

func onAll(_ context.Context, c *cluster) (*load.Cluster, error) { return c.load, nil }

// Rows implements peer.Peer.
func (p *Peer) Rows(scenario string) []peer.Row {
	// on measures documents on the cluster that all rows share.
	on := func(name string, n []int, where places, connect func(*load.Cluster) connector) peer.Row {
		return peer.Row{Name: name, N: n, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
			at, err := where(ctx, p.shared)
			if err != nil {
				return nil, err
			}
			return p.shared.loop(ctx, n, o, connect(at))
		}}
	}
	write := func(at *load.Cluster) connector { return at.Writers("/Documents", p.documents) }
	read := func(at *load.Cluster) connector { return at.Readers("/Documents", p.documents) }
	realtime := func(at *load.Cluster) connector { return at.RealtimeWriters(p.documents) }
	fanout := func(name string, n []int, where places, acknowledge bool) peer.Row {
		return peer.Row{Name: name, N: n, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
			return p.own(ctx, o, three, func(c *cluster) (report.Metrics, error) { return c.fanout(ctx, n, o, where, acknowledge) })
		}}
	}
	switch scenario {
	case "writes":
		return []peer.Row{
			on(WritesLeader, []int{1, 256}, onLeader, write), on(WritesAll, []int{256}, onAll, write),
			on(WritesRealtime, []int{256}, onAll, realtime),
		}
	case "reads":
		return []peer.Row{
			on("lockstep REST get, leader", []int{256}, onLeader, read), on("lockstep REST get, follower", []int{256}, onFollower, read),
			on(ReadsAll, []int{256}, onAll, read),
		}
	case "fanout":
		return []peer.Row{
			fanout(FanoutAll, []int{1000, 5000}, onAll, false), fanout(FanoutAcknowledged, []int{1000}, onAll, true),
			fanout("lockstep stream, one follower", []int{1000, 5000}, onFollower, false),
		}
	case "idle":
		return []peer.Row{p.alone(Idle, []int{5000}, (*cluster).idle)}
	case "watch":
		return []peer.Row{p.alone(Watch, []int{5000}, (*cluster).watch)}
	case "failover":
		return []peer.Row{p.alone(Failover, []int{nodes}, (*cluster).failover)}
	case "million":
		return []peer.Row{p.alone(Million, []int{100_000}, (*cluster).million)}
	}
	return p.growth(scenario)
}

// The rows that targets are about.
const (
	WritesLeader       = "lockstep REST update, leader"
	WritesAll          = "lockstep REST update, all nodes"
	WritesRealtime     = "lockstep realtime update, all nodes"
	ReadsAll           = "lockstep REST get, all nodes"
	FanoutAll          = "lockstep stream, all nodes"
	FanoutAcknowledged = "lockstep stream, all nodes, acknowledged"
	Idle               = "lockstep"
	Watch              = "lockstep update → event"
	Failover           = "lockstep, leader killed"
	Million            = "lockstep maps of one item"
)

// alone is a row with a cluster for each measurement.
func (p *Peer) alone(name string, n []int, do func(*cluster, context.Context, int, peer.Options) (report.Metrics, error)) peer.Row {
	return peer.Row{Name: name, N: n, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
		return p.own(ctx, o, three, func(c *cluster) (report.Metrics, error) { return do(c, ctx, n, o) })
	}}
}

// growth are the rows that show what more of something costs.
func (p *Peer) growth(scenario string) []peer.Row {
	const clients = 64
	thousands := []int{1_000, 10_000, 100_000}
	// over measures a cluster that all rows share, when it holds n of something.
	over := func(name string, grow func(ctx context.Context, n int) (connector, error)) peer.Row {
		return peer.Row{Name: name, N: thousands, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
			connect, err := grow(ctx, n)
			if err != nil {
				return nil, err
			}
			return p.shared.loop(ctx, clients, o, connect)
		}}
	}
	switch scenario {
	case "growth-objects":
		return []peer.Row{
			over("update", func(ctx context.Context, n int) (connector, error) {
				err := p.document(ctx, n)
				return p.shared.load.Writers("/Documents", p.documents), err
			}),
			over("read", func(ctx context.Context, n int) (connector, error) {
				err := p.document(ctx, n)
				return p.shared.load.Readers("/Documents", p.documents), err
			}),
		}
	case "growth-items":
		return []peer.Row{
			over("update", func(ctx context.Context, n int) (connector, error) {
				keys, err := p.fillMap(ctx, n)
				return p.shared.load.Writers("/Maps/m/Items", keys), err
			}),
			over("read", func(ctx context.Context, n int) (connector, error) {
				keys, err := p.fillMap(ctx, n)
				return p.shared.load.Readers("/Maps/m/Items", keys), err
			}),
		}
	case "growth-subscribers":
		return []peer.Row{{Name: "delivery", N: []int{10, 100, 1_000, 10_000}, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
			return p.own(ctx, o, three, func(c *cluster) (report.Metrics, error) { return c.fanout(ctx, n, o, onAll, false) })
		}}}
	case "growth-nodes":
		on := func(name string, n []int, sizeOf func(n int) size, connect func(c *load.Cluster, documents []string) connector) peer.Row {
			return peer.Row{Name: name, N: n, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
				return p.own(ctx, o, sizeOf(n), func(c *cluster) (report.Metrics, error) {
					documents, err := c.load.Documents(ctx, peer.Objects, nil)
					if err != nil {
						return nil, err
					}
					return c.loop(ctx, 256, o, connect(c.load, documents))
				})
			}}
		}
		write := func(c *load.Cluster, documents []string) connector { return c.Writers("/Documents", documents) }
		read := func(c *load.Cluster, documents []string) connector { return c.Readers("/Documents", documents) }
		voters := func(n int) size { return size{voters: n} }
		others := func(n int) size { return size{voters: min(n, nodes), nonvoters: max(0, n-nodes)} }
		return []peer.Row{
			on("update, all vote", []int{1, 3, 5}, voters, write), on("read, all vote", []int{1, 3, 5}, voters, read),
			on("update, three vote", []int{5}, others, write), on("read, three vote", []int{5}, others, read),
		}
	case "nonvoters":
		return p.nonvoters()
	case "growth-connections":
		return []peer.Row{p.alone("update", []int{10, 100, 1_000, 10_000}, (*cluster).beside)}
	}
	return nil
}

// fillMap sees to it that the map has n items, and returns their keys.
func (p *Peer) fillMap(ctx context.Context, n int) ([]string, error) {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%07d", i)
	}
	from := p.items
	err := p.shared.load.Fill(ctx, max(0, n-from), func(i int) (string, url.Values) {
		return "/Maps/m/Items", url.Values{"Key": {keys[from+i]}, "Data": {load.Data(load.Size)}}
	}, nil)
	p.items = max(n, from)
	return keys, err
}
