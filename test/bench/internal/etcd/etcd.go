// Package etcd measures three members of etcd, by its official client and by its
// JSON gateway.
package etcd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/proc"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

const members = 3

// startTime bounds a start, and requestTime a request that is not under load.
const (
	startTime   = 30 * time.Second
	requestTime = 10 * time.Second
)

// Peer is etcd.
type Peer struct{ shared *cluster }

// Name implements peer.Peer.
func (*Peer) Name() string { return "etcd" }

// Start implements peer.Peer.
func (p *Peer) Start(ctx context.Context, scenario, dir string) error {
	var err error
	if p.shared, err = start(ctx, dir); err != nil {
		return err
	}
	if scenario == "reads" {
		return p.shared.fill(ctx, peer.Objects)
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

// cluster is three processes.
type cluster struct {
	dir       string
	base      int // the ports: of the clients' side, then of the peers'
	processes []*proc.Process
	leader    int
}

func start(ctx context.Context, dir string) (*cluster, error) {
	base, err := proc.FreePorts(2 * members)
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, base: base, processes: make([]*proc.Process, members)}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for i := range members {
		if err := c.startMember(i); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	for i := range members {
		if err := c.untilReady(ctx, i); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	if err := c.findLeader(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func name(i int) string { return fmt.Sprintf("n%d", i+1) }

func (c *cluster) addr(i int) string { return fmt.Sprintf("127.0.0.1:%d", c.base+i) }

func (c *cluster) url(i int) string { return "http://" + c.addr(i) }

func (c *cluster) peerURL(i int) string {
	return fmt.Sprintf("http://127.0.0.1:%d", c.base+members+i)
}

func (c *cluster) startMember(i int) error {
	program, err := proc.Program("etcdnode")
	if err != nil {
		return err
	}
	var all []string
	for i := range members {
		all = append(all, name(i)+"="+c.peerURL(i))
	}
	c.processes[i], err = proc.Start(c.dir, name(i), program, nil, "-name", name(i), "-dir", filepath.Join(c.dir, "data-"+name(i)),
		"-client", c.url(i), "-peer", c.peerURL(i), "-cluster", strings.Join(all, ","))
	return err
}

// untilReady waits until a member answers a linearizable read.
func (c *cluster) untilReady(ctx context.Context, i int) error {
	if err := c.processes[i].Until(ctx, proc.Listens(c.addr(i))); err != nil {
		return err
	}
	client, err := c.client(i)
	if err != nil {
		return err
	}
	err = c.processes[i].Until(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := client.Get(ctx, "ready")
		return err
	})
	return errors.Join(err, client.Close())
}

func (c *cluster) stop() error { return proc.StopAll(c.processes) }

func (c *cluster) pids() []int { return proc.PIDs(c.processes) }

func (c *cluster) client(i int) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{c.url(i)}, DialTimeout: requestTime, Logger: zap.NewNop()})
}

// clients connects so many times to the members that pick names.
func (c *cluster) clients(n int, pick func(i int) int) (all []*clientv3.Client, err error) {
	for i := range n {
		client, err := c.client(pick(i))
		if err != nil {
			return nil, errors.Join(err, closeAll(all))
		}
		all = append(all, client)
	}
	return all, nil
}

func closeAll(all []*clientv3.Client) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// findLeader notes who leads.
func (c *cluster) findLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	client, err := c.client(0)
	if err != nil {
		return err
	}
	defer client.Close()
	var asked error
	for i := range members {
		s, err := client.Status(ctx, c.url(i))
		if err == nil && s.Leader == s.Header.MemberId {
			c.leader = i
			return nil
		}
		asked = errors.Join(asked, err)
	}
	return errors.Join(errors.New("etcd has no leader"), asked)
}

func key(n int) string { return fmt.Sprintf("k%07d", n) }

// fill puts n keys, many at a time.
func (c *cluster) fill(ctx context.Context, n int) error {
	client, err := c.client(c.leader)
	if err != nil {
		return err
	}
	const batch = 128 // what etcd takes in a transaction
	value := load.Data(load.Size)
	err = load.Parallel(ctx, 16, (n+batch-1)/batch, func(ctx context.Context, i int) error {
		var puts []clientv3.Op
		for k := i * batch; k < min(n, (i+1)*batch); k++ {
			puts = append(puts, clientv3.OpPut(key(k), value))
		}
		_, err := client.Txn(ctx).Then(puts...).Commit()
		return err
	})
	return errors.Join(err, client.Close())
}

// connections is how many gRPC connections clients share at most: gRPC puts all
// requests of a connection through one writer.
const connections = 16

// caller does one gRPC request after another.
type caller struct {
	client *clientv3.Client
	do     func(ctx context.Context, client *clientv3.Client, n int) error
}

func (c caller) Do(ctx context.Context, n int) error { return c.do(ctx, c.client, n) }
func (caller) Close() error                          { return nil } // the connection is others', too

// grpc runs a closed loop of requests.
func (c *cluster) grpc(ctx context.Context, n int, o peer.Options, pick func(i int) int, do func(context.Context, *clientv3.Client, int) error) (_ report.Metrics, err error) {
	clients, err := c.clients(min(n, connections), pick)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll(clients)) }()
	return peer.Loop(ctx, load.Loop{Clients: n, Connect: func(_ context.Context, i int) (load.Client, error) {
		return caller{clients[i%len(clients)], do}, nil
	}}, o, c.pids())
}

func put(ctx context.Context, client *clientv3.Client, n int) error {
	_, err := client.Put(ctx, key(n%peer.Objects), load.Data(load.Size))
	return err
}

func get(ctx context.Context, client *clientv3.Client, n int) error {
	_, err := client.Get(ctx, key(n%peer.Objects))
	return err
}

// poster does one request to the JSON gateway after another.
type poster struct {
	*load.HTTP
	path string
	body func(n int) ([]byte, error)
}

func (p poster) Do(_ context.Context, n int) error {
	body, err := p.body(n)
	if err != nil {
		return err
	}
	a, err := p.HTTP.Do("POST", p.path, "Content-Type: application/json\r\n", body)
	if err == nil {
		err = a.Err()
	}
	return err
}

// gateway runs a closed loop of JSON over HTTP on all members.
func (c *cluster) gateway(ctx context.Context, n int, o peer.Options, path string, body func(n int) ([]byte, error)) (report.Metrics, error) {
	return peer.Loop(ctx, load.Loop{Clients: n, Connect: func(ctx context.Context, i int) (load.Client, error) {
		conn, err := load.DialHTTP(ctx, c.url(i%members), nil)
		return poster{conn, path, body}, err
	}}, o, c.pids())
}

func encodePut(n int) ([]byte, error) {
	return json.Marshal(map[string]string{"key": base64Key(n), "value": base64.StdEncoding.EncodeToString([]byte(load.Data(load.Size)))})
}

func encodeGet(n int) ([]byte, error) { return json.Marshal(map[string]string{"key": base64Key(n)}) }

func base64Key(n int) string {
	return base64.StdEncoding.EncodeToString([]byte(key(n % peer.Objects)))
}

// Rows implements peer.Peer.
func (p *Peer) Rows(scenario string) []peer.Row {
	leader := func(int) int { return p.shared.leader }
	follower := func(int) int { return (p.shared.leader + 1) % members }
	all := func(i int) int { return i % members }
	grpc := func(name string, n []int, pick func(int) int, do func(context.Context, *clientv3.Client, int) error) peer.Row {
		return peer.Row{Name: name, N: n, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
			if err := p.shared.findLeader(ctx); err != nil {
				return nil, err
			}
			return p.shared.grpc(ctx, n, o, pick, do)
		}}
	}
	gateway := func(name, path string, body func(int) ([]byte, error)) peer.Row {
		return peer.Row{Name: name, N: []int{256}, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
			return p.shared.gateway(ctx, n, o, path, body)
		}}
	}
	switch scenario {
	case "writes":
		return []peer.Row{grpc(report.EtcdPut, []int{1, 256}, leader, put), gateway("etcd JSON gateway put, all nodes", "/v3/kv/put", encodePut)}
	case "reads":
		return []peer.Row{
			grpc(report.EtcdGet, []int{256}, follower, get), grpc("etcd gRPC linearizable get, all nodes", []int{256}, all, get),
			gateway("etcd JSON gateway linearizable get, all nodes", "/v3/kv/range", encodeGet),
		}
	case "watch":
		return []peer.Row{{Name: report.EtcdWatch, N: []int{5000}, Run: watch}}
	case "failover":
		return []peer.Row{{Name: report.EtcdKill, N: []int{members}, Run: failover}}
	case "million":
		return []peer.Row{{Name: report.EtcdMillion, N: []int{100_000}, Run: million}}
	}
	return nil
}
