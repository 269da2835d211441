// Package skeleton measures what is left of the product without its domain: three
// nodes of bare hashicorp/raft with the same log store, groups of commands, shared
// reads, and a thin front of net/http. It is the floor of writes and reads for a
// design like this one.
package skeleton

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/proc"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

const nodes = 3

// Peer is the skeleton.
type Peer struct {
	base      int // the ports: of raft, of clients, of the nodes' questions to each other
	processes []*proc.Process
	leader    int
}

// Name implements peer.Peer.
func (*Peer) Name() string { return "skeleton" }

func (p *Peer) addrs(row int) string {
	var all []string
	for i := range nodes {
		all = append(all, p.addr(row, i))
	}
	return strings.Join(all, ",")
}

func (p *Peer) addr(row, i int) string { return fmt.Sprintf("127.0.0.1:%d", p.base+row*nodes+i) }

func (p *Peer) url(i int) string { return "http://" + p.addr(1, i) }

// Start implements peer.Peer.
func (p *Peer) Start(ctx context.Context, scenario, dir string) (err error) {
	p.processes = nil
	if p.base, err = proc.FreePorts(3 * nodes); err != nil {
		return err
	}
	program, err := proc.Program("raftnode")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for i := range nodes {
		name := fmt.Sprintf("node%d", i+1)
		process, err := proc.Start(dir, name, program, nil, "-n", strconv.Itoa(i), "-dir", filepath.Join(dir, "data-"+name),
			"-raft", p.addrs(0), "-http", p.addrs(1), "-ask", p.addrs(2))
		if err != nil {
			return err
		}
		p.processes = append(p.processes, process)
	}
	if err := p.processes[0].Until(ctx, p.findLeader); err != nil || scenario != "reads" {
		return err
	}
	return p.fill(ctx)
}

// Stop implements peer.Peer.
func (p *Peer) Stop() error { return proc.StopAll(p.processes) }

// findLeader notes who leads.
func (p *Peer) findLeader(ctx context.Context) error {
	for i := range nodes {
		var status struct{ Leads bool }
		if err := get(ctx, p.url(i), &status); err != nil {
			return err
		}
		if status.Leads {
			p.leader = i
			return nil
		}
	}
	return errors.New("no node leads")
}

func get(ctx context.Context, origin string, status any) (err error) {
	conn, err := load.DialHTTP(ctx, origin, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	a, err := conn.Do("GET", "/status", "", nil)
	if err == nil {
		err = a.Err()
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(a.Body, status)
}

func (p *Peer) fill(ctx context.Context) error {
	return load.Parallel(ctx, 64, 64, func(ctx context.Context, worker int) (err error) {
		c, err := p.connect(ctx, p.leader, "POST")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		for n := worker; n < peer.Objects; n += 64 {
			if err := c.Do(ctx, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// client does one request after another.
type client struct {
	*load.HTTP
	method string
	form   []byte
}

func (p *Peer) connect(ctx context.Context, node int, method string) (*client, error) {
	conn, err := load.DialHTTP(ctx, p.url(node), nil)
	c := &client{HTTP: conn, method: method}
	if method == "POST" {
		c.form = []byte(url.Values{"Data": {load.Data(load.Size)}}.Encode())
	}
	return c, err
}

func (c *client) Do(_ context.Context, n int) error {
	head := ""
	if c.form != nil {
		head = "Content-Type: application/x-www-form-urlencoded\r\n"
	}
	a, err := c.HTTP.Do(c.method, fmt.Sprintf("/kv/k%04d", n%peer.Objects), head, c.form)
	if err == nil {
		err = a.Err()
	}
	return err
}

// Rows implements peer.Peer.
func (p *Peer) Rows(scenario string) []peer.Row {
	row := func(name, method string, place func(i int) int) peer.Row {
		return peer.Row{Name: name, N: []int{256}, Run: func(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
			if err := p.findLeader(ctx); err != nil {
				return nil, err
			}
			return peer.Loop(ctx, load.Loop{Clients: n, Connect: func(ctx context.Context, i int) (load.Client, error) {
				return p.connect(ctx, place(i), method)
			}}, o, proc.PIDs(p.processes))
		}}
	}
	switch scenario {
	case "writes":
		return []peer.Row{row("skeleton: raft, bolt and net/http, leader", "POST", func(int) int { return p.leader })}
	case "reads":
		return []peer.Row{row("skeleton: raft, bolt and net/http, all nodes", "GET", func(i int) int { return i % nodes })}
	}
	return nil
}
