package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"lockstep/server"
	"lockstep/server/auth"
	"lockstep/server/limits"
	"lockstep/server/memory"
)

func newServe() *cobra.Command {
	var (
		c          server.Config
		host       string
		port       int
		rateLimits string
		proxies    []string
		webhooks   []string
		account    string
		level      slog.Level
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one node",
		Long: `Run one node of a cluster.

A new cluster is made by "lockstep init", once, for its first node; the others are
started with --join and the URL of any member. With nothing, a node on an empty data
directory waits for "lockstep join". A node that belongs to a cluster needs no flag:
what it was told at its first start is kept in node.json in its data directory.

--bootstrap does what init does, and does nothing on a data directory that has a
cluster. So that it makes no second cluster where the directory was lost, it tries the
gossip addresses of --seed first, and listens at --internal-addr for two seconds, unless
its port is 0: when a node answers there, or a member of a cluster looks for this node
here, it refuses and says what to do (exit code 3).

The account of a new cluster, or of the one to join, is taken from
LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN. With --bootstrap they may be left out:
an account is made up then, and told once: on a terminal, or else in the file
account.env in the data directory; --account-file says where.`,
		Example: `  lockstep serve --data-dir /var/lib/lockstep --bootstrap
  lockstep serve --data-dir /var/lib/lockstep --join https://sync1.example.com --http-addr 0.0.0.0 \
    --internal-addr 0.0.0.0:7000 --gossip-addr 0.0.0.0:7001 --advertise 10.0.0.2`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			c.HTTPAddr = net.JoinHostPort(host, strconv.Itoa(port))
			c.Account = accountFromEnvironment()
			c.Version = version
			c.Logger, c.Audit = newLogger(level), newLogger(slog.LevelInfo)
			c.Welcome = func(a auth.Account) {
				if err := tellAccount(cmd.OutOrStdout(), c.DataDir, account, a); err != nil {
					c.Logger.Error("the account's credentials, which are in node.json, were not told", "error", err)
				}
			}
			var err error
			if c.RateLimits, err = limits.Parse(rateLimits); err != nil {
				return usage{err}
			}
			if c.TrustedProxies, err = parsePrefixes("trusted-proxies", proxies); err != nil {
				return usage{err}
			}
			if c.WebhookAllow, err = parsePrefixes("webhook-allow", webhooks); err != nil {
				return usage{err}
			}
			memory.LimitRuntime(c.Logger)
			s, err := server.New(c)
			if err != nil {
				return usage{err}
			}
			return s.Run(cmd.Context())
		}),
	}
	f := cmd.Flags()
	f.StringVar(&c.DataDir, "data-dir", "", "directory of this node's data, readable by its owner only")
	f.StringVar(&c.NodeID, "node-id", "", "name of this node, unique and for good (default: made up and kept)")
	f.StringVar(&host, "http-addr", "127.0.0.1", "host or IP that clients connect to")
	f.IntVar(&port, "http-port", 8080, "port that clients connect to")
	f.StringVar(&c.AdminAddr, "admin-addr", "", "HOST:PORT for operators and nodes that join: /healthz, /readyz, /metrics and /cluster/ are there only (default: where clients connect)")
	f.StringVar(&c.InternalAddr, "internal-addr", "127.0.0.1:0", "HOST:PORT for the other nodes; port 0: a free one, chosen once and kept")
	f.StringVar(&c.GossipAddr, "gossip-addr", "127.0.0.1:0", "HOST:PORT for gossip, TCP and UDP; port 0 likewise")
	f.StringVar(&c.Advertise, "advertise", "", "host by which clients and other nodes reach this one, where the addresses above do not say it")
	f.StringSliceVar(&c.Seeds, "seed", nil, "gossip HOST:PORT of other nodes to look for besides those remembered, for when all have moved; at most 16")
	f.StringVar(&c.PublicURL, "public-url", "", "origin of the URLs in answers, such as https://sync.example.com (default: as the client came)")
	f.StringSliceVar(&proxies, "trusted-proxies", nil, "IPs or networks whose X-Forwarded-Proto, -Host and -For are believed")
	f.StringSliceVar(&webhooks, "webhook-allow", nil, "IPs or networks that webhooks may reach although they are loopback, link-local or a machine of this cluster; private networks need not be named")
	f.BoolVar(&c.Bootstrap, "bootstrap", false, "make a new cluster, if this node belongs to none and nobody looks for it")
	f.StringVar(&account, "account-file", "", accountFileHelp)
	f.StringVar(&c.Join, "join", "", "URL of a member of the cluster to join (its --admin-addr, if it has one), if this node belongs to none")
	f.BoolVar(&c.InsecureJoin, "insecure-join", false, "join over plain http:// beyond this machine, where credentials and the cluster's key can be read on the way")
	f.BoolVar(&c.Replace, "replace", false, "take the place of a member with this node's id; and if this node's own state is lost, join anew")
	f.StringVar(&rateLimits, "rate-limits", "default", `"off", "default", or "`+limits.Usage+`" or a part of it: tokens a second, and after the / the part of one identity`)
	f.Float64Var(&c.TimeoutScale, "timeout-scale", 1, "multiplies the time-outs after which a leader is given up; for slow disks and networks")
	f.Uint64Var(&c.SnapshotThreshold, "snapshot-threshold", 16384, "log entries after which a snapshot is taken")
	f.Uint64Var(&c.TrailingLogs, "trailing-logs", 65536, "log entries that stay behind a snapshot, for nodes that were away")
	f.StringVar(&c.Backups.Dir, "backup-dir", "", "directory for backups that this node makes itself; it may be another node's, too, or shared (default: it makes none)")
	f.DurationVar(&c.Backups.Every, "backup-every", 24*time.Hour, "how often it makes one")
	f.IntVar(&c.Backups.Keep, "backup-keep", 7, "how many of its own it keeps, the newest; none goes before a new one was made and read again")
	f.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	c.Bounds.Flags(f)
	bindAll(f)
	markOfOneNode(f, "data-dir", "node-id", "http-addr", "http-port", "admin-addr", "internal-addr", "gossip-addr",
		"advertise", "bootstrap", "account-file", "join", "insecure-join", "replace", "seed")
	return cmd
}

// newLogger writes one line an event to standard error.
func newLogger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func accountFromEnvironment() auth.Account {
	return auth.Account{SID: os.Getenv("LOCKSTEP_ACCOUNT_SID"), AuthToken: os.Getenv("LOCKSTEP_AUTH_TOKEN")}
}

func parsePrefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			ip, ipErr := netip.ParseAddr(t)
			if ipErr != nil {
				return nil, fmt.Errorf("--%s: %q is neither an IP nor a network", flag, t)
			}
			ip = ip.Unmap()
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		out = append(out, p)
	}
	return out, nil
}
