package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"lockstep/fsm"
	"lockstep/server/admin"
	"lockstep/server/audit"
	"lockstep/server/console"
	"lockstep/server/limits"
	"lockstep/server/webhook"
)

func newConsole(n *node, o operator, log audit.Log) *console.Console {
	c := n.config
	return console.New(console.Config{
		Node: consoleNode{n, o}, Keyring: n.keys, Clients: n.router, Operator: n.operator,
		Writes: &n.metrics.writeMeter, Reads: &n.metrics.readMeter,
		PublicURL: c.PublicURL, TrustedProxies: c.TrustedProxies,
		Refused: func(ctx context.Context, source string) bool { return n.guard.Refused(ctx, "console", source) },
		Audit:   log, Clock: c.Clock, Logger: c.Logger, Version: c.Version,
	})
}

// isConsole reports whether a path is the console's.
func isConsole(path string) bool {
	return path == "/console" || strings.HasPrefix(path, console.Prefix)
}

// beside serves the console where operators are served.
func beside(console, operators http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isConsole(r.URL.Path) {
			console.ServeHTTP(w, r)
			return
		}
		operators.ServeHTTP(w, r)
	})
}

// consoleNode is console.Node.
type consoleNode struct {
	node     *node
	operator operator
}

// ID implements console.Node.
func (c consoleNode) ID() string { return c.node.cluster.ID() }

// View implements console.Node.
func (c consoleNode) View() *fsm.View { return c.node.store.View() }

// Feed implements console.Node.
func (c consoleNode) Feed() *fsm.Feed { return c.node.cluster.FSM().Feed() }

// sealedAs tells what the console seals from what the vault holds.
const sealedAs = "console session"

// Seal implements console.Node.
func (c consoleNode) Seal(plain []byte) ([]byte, error) {
	key, data, err := c.node.cluster.Seal(sealedAs, plain)
	return append(key[:], data...), err
}

// Unseal implements console.Node.
func (c consoleNode) Unseal(sealed []byte) ([]byte, error) {
	s := &fsm.Sealed{Name: sealedAs}
	if len(sealed) < len(s.Key) {
		return nil, fmt.Errorf("open session: %d bytes are too few", len(sealed))
	}
	s.Data = sealed[copy(s.Key[:], sealed):]
	return c.node.cluster.Unseal(s)
}

// Status implements console.Node.
func (c consoleNode) Status(ctx context.Context) (admin.Status, error) { return c.operator.Status(ctx) }

// Ask implements console.Node.
func (c consoleNode) Ask(ctx context.Context, id string, question []byte) ([]byte, error) {
	return c.node.cluster.Ask(ctx, id, question)
}

// Gauges implements console.Node.
func (c consoleNode) Gauges() console.Gauges {
	return console.Gauges{Age: c.node.cluster.Age(), Sessions: c.node.realtime.Sessions()}
}

// Notes implements console.Node.
func (c consoleNode) Notes() []string { return c.operator.Notes() }

// Refusals implements console.Node.
func (c consoleNode) Refusals() ([]limits.Refusal, uint64) { return c.node.limits.Refusals() }

// Attempts implements console.Node.
func (c consoleNode) Attempts() []webhook.Attempt { return c.node.webhooks.Recent() }

// Hurry implements console.Node.
func (c consoleNode) Hurry(delivery uint64) bool { return c.node.webhooks.Hurry(delivery) }

// Backups implements console.Node.
func (c consoleNode) Backups() (console.Backups, error) {
	plan := c.node.config.Backups
	b := console.Backups{Dir: plan.Dir}
	if c.node.schedule == nil {
		return b, nil
	}
	b.EverySeconds, b.Keep = plan.Every.Seconds(), plan.Keep
	made, err := c.node.schedule.List()
	b.Made = made
	return b, err
}

var _ console.Node = consoleNode{}
