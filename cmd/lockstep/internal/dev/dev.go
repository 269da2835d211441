// Package dev runs a cluster on one machine, for development: three processes of the
// same program, or another number, each with a directory of its own.
//
// Run starts the processes, tells when all serve, and stops them. In between it
// supervises nothing: a node that is killed stays dead until its run script, or
// the next start, starts it again.
//
// Run starts one goroutine for each process, which ends with it.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lockstep/server/admin"
	"lockstep/server/nodedir"
	"lockstep/server/retry"
)

// Config sets up a cluster.
type Config struct {
	DataDir  string // of the cluster; each node has a directory in it
	Nodes    int
	HTTPPort int // of the first node; the others have the next ones

	// Binary is the program, which understands `serve`.
	Binary string

	// Settings are what every node takes over, now and from its run script.
	Settings []Setting

	// TLS has the nodes serve with a certificate of an authority that is made for the
	// cluster. CA is that of the nodes' certificate where Settings have one.
	TLS bool
	CA  string

	// AccountSID and AuthToken are the account's for a new cluster.
	AccountSID, AuthToken string

	Out    io.Writer // what a person reads
	Logger *slog.Logger
}

// Setting is a setting of every node: its variable in the environment, and its value
// if it was set.
type Setting struct {
	Variable, Value string
	Set             bool
}

// MaxNodes is how many nodes a cluster on one machine may have.
const MaxNodes = 7

func nodeName(i int) string { return fmt.Sprintf("node%d", i+1) }

// startTime bounds the start, from the first process to the last vote.
const startTime = 2 * time.Minute

type cluster struct {
	config Config
	dir    string
	env    Env
	nodes  []*node

	scheme string       // of the nodes' URLs
	http   *http.Client // that asks them
}

// Run starts the cluster, tells Out how to use it, waits until ctx ends, and
// stops it.
func Run(ctx context.Context, config Config) (err error) {
	c, err := prepare(config)
	if err != nil {
		return err
	}
	defer func() {
		config.Logger.Info("stopping")
		for _, n := range slices.Backward(c.nodes) {
			err = errors.Join(err, n.stop())
		}
	}()
	if err := c.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := c.welcome(config.Out); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// prepare writes what has to be there before the first process.
func prepare(config Config) (*cluster, error) {
	dir, err := filepath.Abs(config.DataDir)
	if err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	c := &cluster{config: config, dir: dir}
	if c.env, err = readEnvIfAny(dir); err != nil {
		return nil, err
	}
	if c.env.AccountSID == "" {
		c.env.AccountSID, c.env.AuthToken = config.AccountSID, config.AuthToken
	}
	if err := c.secure(); err != nil {
		return nil, err
	}
	c.env.URLs = nil
	if err := c.refuseToShrink(); err != nil {
		return nil, err
	}
	for i := range config.Nodes {
		n := &node{name: nodeName(i), port: config.HTTPPort + i}
		n.dir = filepath.Join(dir, n.name)
		n.url = fmt.Sprintf("%s://127.0.0.1:%d", c.scheme, n.port)
		if err := nodedir.Make(n.dir); err != nil {
			return nil, err
		}
		if pid, running := nodedir.Running(n.dir); running {
			return nil, fmt.Errorf("%s of %s is running already (process %d)", n.name, dir, pid)
		}
		if err := n.writeScript(config.Binary, c.config.Settings); err != nil {
			return nil, err
		}
		c.env.URLs = append(c.env.URLs, n.url)
		c.nodes = append(c.nodes, n)
	}
	return c, c.env.write(dir)
}

// refuseToShrink fails if there are members that would not be started, without which
// the others may have no majority.
func (c *cluster) refuseToShrink() error {
	for i := c.config.Nodes; i < MaxNodes; i++ {
		n := &node{name: nodeName(i), dir: filepath.Join(c.dir, nodeName(i))}
		member, err := n.member()
		if err != nil {
			return err
		}
		if member {
			return fmt.Errorf("%s has a cluster of more than %d nodes: start all of them with --nodes, or take another directory", c.dir, c.config.Nodes)
		}
	}
	return nil
}

// start brings all nodes up: those that are members together, because
// they need each other, then those that join them.
func (c *cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("the cluster did not come up in time"))
	defer cancel()
	members, joiners, err := c.split()
	if err != nil {
		return err
	}
	if len(members) == 0 {
		members, joiners = c.nodes[:1], c.nodes[1:]
		if err := members[0].start(c.environment(), "--bootstrap"); err != nil {
			return err
		}
	} else {
		for _, n := range members {
			if err := n.start(c.environment()); err != nil {
				return err
			}
		}
	}
	if err := c.untilReady(ctx, members); err != nil {
		return err
	}
	for _, n := range joiners {
		if err := n.start(c.environment(), "--join", members[0].url); err != nil {
			return err
		}
	}
	if err := c.untilReady(ctx, joiners); err != nil {
		return err
	}
	if err := c.untilAllVote(ctx); err != nil {
		return err
	}
	return c.equip(ctx)
}

func (c *cluster) split() (members, joiners []*node, err error) {
	for _, n := range c.nodes {
		member, err := n.member()
		switch {
		case err != nil:
			return nil, nil, err
		case member:
			members = append(members, n)
		default:
			joiners = append(joiners, n)
		}
	}
	return members, joiners, nil
}

// environment is that of this process, without settings that are not for every
// node.
func (c *cluster) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "LOCKSTEP_") && !slices.ContainsFunc(c.config.Settings, func(s Setting) bool { return s.Variable == name })
	})
	return append(env, "LOCKSTEP_ACCOUNT_SID="+c.env.AccountSID, "LOCKSTEP_AUTH_TOKEN="+c.env.AuthToken)
}

func (c *cluster) client(nodes ...*node) *admin.Client {
	urls := make([]string, len(nodes))
	for i, n := range nodes {
		urls[i] = n.url
	}
	return &admin.Client{URLs: urls, AccountSID: c.env.AccountSID, AuthToken: c.env.AuthToken, HTTP: c.http}
}

// until repeats a check until it returns nil. It fails when ctx ends, with the
// last error of the check, or when one of the processes has ended.
func (c *cluster) until(ctx context.Context, check func() error) error {
	return retry.Until(ctx, func() error {
		for _, n := range c.nodes { // first: whatever answers in its place is something else
			if n.exited != nil && n.hasExited() {
				return retry.Final(fmt.Errorf("%s ended during the start; its log %s ends with:\n%s", n.name, n.logFile(), n.lastWords()))
			}
		}
		return check()
	})
}

func (c *cluster) untilReady(ctx context.Context, nodes []*node) error {
	for _, n := range nodes {
		err := c.until(ctx, func() error {
			if err := c.client(n).Ready(ctx); err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.config.Logger.Info("node serves", "node", n.name, "url", n.url)
	}
	return nil
}

func (c *cluster) untilAllVote(ctx context.Context) error {
	return c.until(ctx, func() error {
		s, err := c.client(c.nodes...).Status(ctx)
		if err != nil {
			return err
		}
		for _, n := range c.nodes {
			if m, ok := s.Find(n.name); !ok || !m.Votes() {
				return fmt.Errorf("%s does not vote yet", n.name)
			}
		}
		return nil
	})
}
