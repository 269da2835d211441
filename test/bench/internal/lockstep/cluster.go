package lockstep

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"lockstep/cmd/lockstep/bench/internal/cgroup"
	"lockstep/cmd/lockstep/bench/internal/proc"
	"lockstep/cmd/lockstep/internal/load"
	"lockstep/server/admin"
)

// startTime bounds a start, restartTime the start of a node that has much to read.
const (
	startTime   = time.Minute
	restartTime = 5 * time.Minute
)

// cluster is some nodes, with rate limits off.
type cluster struct {
	program   string
	dir       string
	port      int // of the first node; the others have the next ones
	processes []*proc.Process
	groups    []*cgroup.Group // that limit them; usually none
	load      *load.Cluster
}

// environment are settings that are the same for all nodes: an account that lives as
// long as the measurement and listens on the loopback only, no rate limits, and no bound on the clients of one address, since all are.
var environment = []string{
	"LOCKSTEP_ACCOUNT_SID=" + accountSID, "LOCKSTEP_AUTH_TOKEN=" + authToken,
	"LOCKSTEP_RATE_LIMITS=off", "LOCKSTEP_LOG_LEVEL=warn",
	"LOCKSTEP_CONNECTS_PER_SOURCE=off", "LOCKSTEP_MAX_SESSIONS_PER_SOURCE=off", "LOCKSTEP_MAX_CONNECTIONS_PER_SOURCE=off",
	"LOCKSTEP_MAX_ARRIVALS_PER_SOURCE=off", "LOCKSTEP_IDENTITY_REQUESTS=off", "LOCKSTEP_SESSION_BYTE_RATE=off",
}

const (
	accountSID = "AC00000000000000000000000000000001"
	authToken  = "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6"
)

// size is how many nodes a cluster has.
type size struct{ voters, nonvoters int }

// three voters are what is measured if nothing else is said.
var three = size{voters: nodes}

// start brings nodes up, and makes what the load needs.
func (p *Peer) start(ctx context.Context, dir string, size size) (*cluster, error) {
	port, err := proc.FreePorts(size.voters + size.nonvoters)
	if err != nil {
		return nil, err
	}
	c := &cluster{program: p.Program, dir: dir, port: port}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for i := range size.voters + size.nonvoters {
		how := []string{"--bootstrap"}
		if i > 0 {
			how = []string{"--join", c.url(0)}
		}
		if i >= size.voters {
			how = append(how, "--nonvoter")
		}
		if err := c.startNode(ctx, i, how...); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	if err := c.untilVote(ctx, size.voters); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	if c.load, err = load.Open(ctx, c.admin(c.urls()...), c.urls(), nil); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// startNode starts a node, and waits until it serves.
func (c *cluster) startNode(ctx context.Context, i int, how ...string) error {
	name := fmt.Sprintf("node%d", i+1)
	p, err := proc.Start(c.dir, name, c.program, environment,
		append([]string{"serve", "--data-dir", filepath.Join(c.dir, name), "--node-id", name, "--http-port", strconv.Itoa(c.port + i)}, how...)...)
	if err != nil {
		return err
	}
	if i < len(c.processes) {
		c.processes[i] = p
	} else {
		c.processes = append(c.processes, p)
	}
	return p.Until(ctx, c.admin(c.url(i)).Ready)
}

func (c *cluster) url(i int) string { return fmt.Sprintf("http://127.0.0.1:%d", c.port+i) }

func (c *cluster) urls() []string {
	urls := make([]string, len(c.processes))
	for i := range urls {
		urls[i] = c.url(i)
	}
	return urls
}

func (c *cluster) admin(urls ...string) *admin.Client {
	return &admin.Client{URLs: urls, AccountSID: accountSID, AuthToken: authToken}
}

// untilVote waits until all nodes are members, so many of them with a vote.
func (c *cluster) untilVote(ctx context.Context, voters int) error {
	return c.processes[0].Until(ctx, func(ctx context.Context) error {
		s, err := c.admin(c.urls()...).Status(ctx)
		if err != nil {
			return err
		}
		votes := 0
		for _, n := range s.Nodes {
			if n.Votes() {
				votes++
			}
		}
		if votes != voters || len(s.Nodes) != len(c.processes) {
			return fmt.Errorf("%d of %d nodes are members, and %d of them vote", len(s.Nodes), len(c.processes), votes)
		}
		return nil
	})
}

func (c *cluster) stop() error {
	var errs []error
	for _, g := range c.groups {
		errs = append(errs, g.Remove()) // or they would take long to end
	}
	return errors.Join(append(errs, proc.StopAll(c.processes))...)
}

func (c *cluster) pids() []int { return proc.PIDs(c.processes) }

// leader returns the number of the node that leads.
func (c *cluster) leader(ctx context.Context) (int, error) {
	s, err := c.admin(c.urls()...).Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, n := range s.Nodes {
		for i := range c.processes {
			if n.Role == admin.RoleLeader && n.HTTP == c.url(i) {
				return i, nil
			}
		}
	}
	return 0, errors.New("no node says that it leads")
}

// follower returns the number of a node that does not lead.
func (c *cluster) follower(ctx context.Context) (int, error) {
	leader, err := c.leader(ctx)
	return (leader + 1) % len(c.processes), err
}
