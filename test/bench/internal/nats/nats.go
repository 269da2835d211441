// Package nats measures three NATS servers: a key-value bucket of three replicas,
// and core NATS by websockets.
package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/proc"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

const servers = 3

// Peer is NATS with JetStream, which syncs each write to disk.
type Peer struct {
	base      int // the ports: of clients, of the other servers, of websockets
	processes []*proc.Process
}

// Name implements peer.Peer.
func (*Peer) Name() string { return "nats" }

func (p *Peer) url(i int) string { return fmt.Sprintf("nats://127.0.0.1:%d", p.base+i) }

// Start implements peer.Peer.
func (p *Peer) Start(ctx context.Context, scenario, dir string) error {
	if scenario != "writes" {
		return nil
	}
	if err := p.start(ctx, dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // elections come first, on a machine that may be busy
	defer cancel()
	return p.createBuckets(ctx, 1)
}

// createBuckets sees to it that there are so many buckets, each a group of replicas
// with a log of its own.
func (p *Peer) createBuckets(ctx context.Context, n int) error {
	conn, err := nats.Connect(p.url(0))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	for i := range n {
		err := p.processes[0].Until(ctx, func(ctx context.Context) error {
			// Servers that have no leader yet leave a request without an answer, and the
			// client waits for one as long as ctx lets it.
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_, err := stream.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket(i), Replicas: servers, History: 1})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func bucket(i int) string { return fmt.Sprint("bench-", i) }

func (p *Peer) start(ctx context.Context, dir string) (err error) {
	p.processes = nil
	if p.base, err = proc.FreePorts(3 * servers); err != nil {
		return err
	}
	program, err := proc.Program("natsnode")
	if err != nil {
		return err
	}
	var routes []string
	for i := range servers {
		routes = append(routes, p.url(servers+i))
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for i := range servers {
		name := fmt.Sprintf("n%d", i+1)
		process, err := proc.Start(dir, name, program, nil, "-name", name, "-dir", filepath.Join(dir, "data-"+name), "-port", strconv.Itoa(p.base+i),
			"-cluster-port", strconv.Itoa(p.base+servers+i), "-ws-port", strconv.Itoa(p.base+2*servers+i), "-routes", strings.Join(routes, ","))
		if err != nil {
			return err
		}
		p.processes = append(p.processes, process)
	}
	for i, process := range p.processes {
		if err := process.Until(ctx, proc.Listens(net.JoinHostPort("127.0.0.1", strconv.Itoa(p.base+i)))); err != nil {
			return err
		}
	}
	return nil
}

// Stop implements peer.Peer.
func (p *Peer) Stop() error { return proc.StopAll(p.processes) }

// putter does one put after another.
type putter struct{ bucket jetstream.KeyValue }

func (p putter) Do(ctx context.Context, n int) error {
	_, err := p.bucket.Put(ctx, fmt.Sprintf("k%04d", n%peer.Objects), []byte(load.Data(load.Size)))
	return err
}

func (putter) Close() error { return nil } // the connection is others', too

// Rows implements peer.Peer.
func (p *Peer) Rows(scenario string) []peer.Row {
	switch scenario {
	case "writes":
		on := func(name string, n []int, buckets int) peer.Row {
			return peer.Row{Name: "nats key-value put, three replicas, synced" + name, N: n, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
				return p.writes(ctx, n, buckets, o)
			}}
		}
		return []peer.Row{on("", []int{1, 256}, 1), on(fmt.Sprintf(", %d buckets", many), []int{256}, many)}
	case "fanout", "idle":
		return p.broadcaster().Rows(scenario)
	}
	return nil
}

// many is a number of buckets that shows what many small logs cost.
const many = 64

// writes has n clients put, over some buckets, by at most 16 connections to
// all servers.
func (p *Peer) writes(ctx context.Context, n, buckets int, o peer.Options) (report.Metrics, error) {
	if err := p.createBuckets(ctx, buckets); err != nil {
		return nil, err
	}
	var streams []jetstream.JetStream
	for i := range min(n, 16) {
		conn, err := nats.Connect(p.url(i % servers))
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		stream, err := jetstream.New(conn)
		if err != nil {
			return nil, err
		}
		streams = append(streams, stream)
	}
	return peer.Loop(ctx, load.Loop{Clients: n, Connect: func(ctx context.Context, i int) (load.Client, error) {
		b, err := streams[i%len(streams)].KeyValue(ctx, bucket(i%buckets))
		return putter{b}, err
	}}, o, proc.PIDs(p.processes))
}

// broadcaster is core NATS by websockets, on one server.
func (p *Peer) broadcaster() *peer.Broadcaster {
	const hello = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n"
	return &peer.Broadcaster{
		Title: "nats", Kind: load.Binary, Subscribe: "/", Publish: "/", Row: "nats core, one subject",
		Hello: []byte(hello + "SUB c 1\r\nPING\r\n"), Subscribed: []byte("PONG"), Introduce: []byte(hello),
		Ping: []byte("PING"), Pong: []byte("PONG\r\n"),
		Publication: func(int) []byte { return fmt.Appendf(nil, "PUB c %d\r\n%s\r\n", load.Size, load.Stamped(load.Size)) },
		Start: func(ctx context.Context, dir string) (string, []int, func() error, error) {
			own := &Peer{}
			if err := own.start(ctx, dir); err != nil {
				return "", nil, nil, errors.Join(err, own.Stop())
			}
			return fmt.Sprintf("http://127.0.0.1:%d", own.base+2*servers), proc.PIDs(own.processes[:1]), own.Stop, nil
		},
	}
}
