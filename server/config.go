package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/backup"
	"lockstep/server/bounds"
	"lockstep/server/enrol"
	"lockstep/server/limits"
	"lockstep/server/origin"
	"lockstep/server/trace"
)

// Config sets up a Server. What a node chooses at its first start (its id, free
// ports, the cluster it belongs to) is kept in its data directory; a value given
// here replaces the kept one.
type Config struct {
	DataDir string // made, with mode 0700, if it does not exist

	// Emulator has one node make a cluster of its own that is kept in memory and nowhere
	// else, and that begins anew when its operators ask for it. DataDir is empty then.
	Emulator *Emulator

	// NodeID names the node, uniquely and for good. Default: made up at the
	// first start, and kept.
	NodeID string

	// HTTPAddr is the host:port that clients connect to.
	HTTPAddr string

	// AdminAddr is the host:port for operators: health, metrics and all of
	// /cluster/ are there, and no longer on HTTPAddr. Default: on HTTPAddr.
	AdminAddr string

	// MetricsAddr is the host:port where /metrics is, and nothing else, without TLS and
	// without credentials; it is nowhere else then. Default: where operators are.
	MetricsAddr string

	// InternalAddr and GossipAddr are host:port for the other nodes, the latter
	// for TCP and UDP. Port 0 chooses a free one at the first start, and keeps it.
	// Default: 127.0.0.1:0.
	InternalAddr string
	GossipAddr   string

	// Seeds are gossip addresses, HOST:PORT, of other nodes, looked for besides
	// those that the node remembers: what it needs when all have moved.
	Seeds []string

	// Advertise is the host by which clients and other nodes reach this one, if
	// the listeners' own hosts do not say it (0.0.0.0).
	Advertise string

	// TLS is the certificate that clients and operators are shown. Without one, both
	// are served without TLS.
	TLS TLS

	// ACME has a certificate issued in the place of TLS.
	ACME ACME

	// CA is a file with authorities, in PEM, that are believed besides the machine's
	// when this node asks a member to let it in.
	CA string

	// PublicURL is the origin that URLs in answers start with. Default: the one
	// by which the client came.
	PublicURL string

	// TrustedProxies may say by which scheme and host the client came to them.
	TrustedProxies []netip.Prefix

	// WebhookAllow are networks that webhooks may reach although they are loopback,
	// link-local, otherwise special, or machines of this cluster.
	WebhookAllow []netip.Prefix

	// Bootstrap makes a new cluster, unless members of another one look for this
	// node at its InternalAddr (see enrol.Init for the way that never asks), and Join names a member (its URL) of the
	// cluster to join, if the node belongs to none yet. With neither it waits to
	// be told.
	Bootstrap bool
	Join      string

	// InsecureJoin lets the node join over plain HTTP beyond this machine: the
	// account's credentials and the cluster's key can be read on the way.
	InsecureJoin bool

	// Replace lets the node take the place of a member with its id when it joins,
	// and join anew, through Join, when its own state is lost or damaged.
	Replace bool

	// Nonvoter and Reserve: see cluster.Config.
	Nonvoter bool
	Reserve  time.Duration

	// Account is that of the cluster to make or to join, and authorises a
	// request to a waiting node. Left empty, Bootstrap makes one up.
	Account auth.Account

	Bounds       bounds.Bounds // what this node holds at most; zero fields: their defaults
	RateLimits   limits.Rates  // zero: none
	TimeoutScale float64       // see cluster.Config; zero: 1

	// A snapshot is taken after SnapshotThreshold log entries; TrailingLogs of
	// them stay. Zero: the defaults of cluster.Config.
	SnapshotThreshold uint64
	TrailingLogs      uint64

	// NoConsole leaves the console out.
	NoConsole bool

	// Backups is where, and how often, this node keeps backups of its own making.
	Backups backup.Plan

	// Welcome is told the account's credentials once, right after they were
	// made up. It may be nil.
	Welcome func(auth.Account)

	Version string
	// Trace is where traces are sent, if anywhere.
	Trace Trace

	Clock  func() time.Time // default time.Now
	Logger *slog.Logger     // default slog.Default

	// Audit is the logger for what an operator should know, whatever the level
	// of the other one, which is the default.
	Audit *slog.Logger
}

// TLS names the files of a certificate, with its chain, and of its key, in PEM. They are read
// again when they change.
type TLS struct{ Cert, Key string }

func (t TLS) on() bool { return t != TLS{} }

// Trace says where traces are sent (OTLP over HTTP; empty: nowhere), and which share of
// the requests is followed.
type Trace struct {
	URL    string
	Sample float64
}

const localhost = "127.0.0.1:0"

func (c Config) withDefaults() Config {
	if c.InternalAddr == "" {
		c.InternalAddr = localhost
	}
	if c.GossipAddr == "" {
		c.GossipAddr = localhost
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Audit == nil {
		c.Audit = c.Logger
	}
	if c.RateLimits == limits.Off() {
		c.Bounds.Lift()
	}
	c.Bounds = c.Bounds.WithDefaults()
	if c.PublicURL == "" && c.ACME.Domain != "" {
		c.PublicURL = "https://" + c.ACME.Domain
		if _, port, err := net.SplitHostPort(c.HTTPAddr); err == nil && port != "443" {
			c.PublicURL += ":" + port
		}
	}
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	c.Join = origin.Complete(c.Join)
	return c
}

// Validate says what is wrong with a configuration, if anything, in terms of
// the flags of `lockstep serve`.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case c.Emulator != nil:
		c.Emulator.validate(c, fault)
	case c.DataDir == "":
		fault("--data-dir is missing")
	}
	if c.Bootstrap && c.Join != "" {
		fault("--bootstrap makes a new cluster and --join joins one: give one of them")
	}
	for _, a := range []struct{ flag, addr string }{
		{"--http-addr and --http-port", c.HTTPAddr}, {"--admin-addr", c.AdminAddr}, {"--metrics-addr", c.MetricsAddr}, {"--internal-addr", c.InternalAddr}, {"--gossip-addr", c.GossipAddr},
	} {
		if a.addr == "" && (a.flag == "--admin-addr" || a.flag == "--metrics-addr") {
			continue
		}
		host, _, err := net.SplitHostPort(a.addr)
		if err != nil {
			fault("%s: %q is not HOST:PORT", a.flag, a.addr)
		} else if isAnyHost(host) && c.Advertise == "" && a.flag != "--metrics-addr" {
			fault("%s: %q reaches no other node: name the host with --advertise", a.flag, a.addr)
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		fault("--tls-cert and --tls-key go together")
	}
	if err := c.ACME.validate(c); err != nil {
		faults = append(faults, err)
	}
	if len(c.Seeds) > enrol.MaxSeeds {
		fault("--seed: %d addresses are more than %d", len(c.Seeds), enrol.MaxSeeds)
	}
	for _, s := range c.Seeds {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			fault("--seed: %q is not HOST:PORT", s)
		}
	}
	for _, u := range []struct{ flag, url string }{{"--join", c.Join}, {"--public-url", c.PublicURL}} {
		if u.url == "" {
			continue
		}
		if err := origin.Validate(u.url); err != nil {
			fault("%s: %w", u.flag, err)
		}
	}
	if err := enrol.CheckPrivacy(c.Join, c.InsecureJoin); err != nil {
		fault("--join: %w", err)
	}
	if err := c.Account.Validate(); err != nil {
		faults = append(faults, err)
	}
	if c.Join != "" && c.Account.SID == "" {
		fault("--join needs the account's credentials: set LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN")
	}
	if c.Replace && c.Join == "" {
		fault("--replace needs --join: the member through which the node joins anew")
	}
	if c.Nonvoter && c.Bootstrap {
		fault("--nonvoter is for a node that joins: a new cluster needs the vote of its first node")
	}
	switch {
	case c.Reserve < 0:
		fault("--reserve must be positive")
	case c.Reserve > 0 && !c.Nonvoter:
		fault("--reserve needs --nonvoter: a node that votes stands in for nobody")
	}
	if c.TimeoutScale < 0 {
		fault("--timeout-scale must be positive")
	}
	if err := trace.Validate(c.Trace.URL, c.Trace.Sample); err != nil {
		faults = append(faults, err)
	}
	if err := c.Backups.Validate(); err != nil {
		faults = append(faults, err)
	}
	if err := c.RateLimits.Validate(); err != nil {
		fault("--rate-limits: %w", err)
	}
	return errors.Join(faults...)
}

// warnings returns what is allowed and most likely not meant.
func (c Config) warnings() []string {
	var w []string
	host, _, err := net.SplitHostPort(c.HTTPAddr)
	if err == nil && !origin.IsLoopback(host) && c.PublicURL == "" {
		w = append(w, "URLs in answers name the host by which a client came, and those in live events this node's own address: name the one that clients shall see with --public-url")
	}
	return w
}

// isAnyHost reports whether a listener's host means all addresses of the machine.
func isAnyHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// advertised returns the address by which others reach a listener.
func (c Config) advertised(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil || c.Advertise == "" {
		return addr
	}
	return net.JoinHostPort(c.Advertise, port)
}

// enroller returns what makes the node belong to a cluster; l shows the node while
// it waits.
func (c Config) enroller(l *listener, http *http.Client) enrol.Enroller {
	return enrol.Enroller{
		Dir: c.DataDir, NodeID: c.NodeID, Account: c.Account,
		InternalAddr: c.InternalAddr, GossipAddr: c.GossipAddr, Advertise: c.advertised, Seeds: c.Seeds,
		Bootstrap: c.Bootstrap, Join: c.Join, InsecureJoin: c.InsecureJoin, Replace: c.Replace, Nonvoter: c.Nonvoter,
		Serve: func(ctx context.Context, account auth.Account, join admin.JoinFunc) error {
			return serveWaiting(ctx, c, l, account, join)
		},
		Welcome: c.Welcome, HTTP: http, TimeoutScale: c.TimeoutScale, Version: c.Version, Logger: c.Logger,
	}
}
