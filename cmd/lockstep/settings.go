package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/settings"
	"lockstep/server"
	"lockstep/server/auth"
	"lockstep/server/bounds"
	"lockstep/server/limits"
)

// nodeSettings are the settings of a node, wherever they come from.
type nodeSettings struct {
	*settings.Settings
	flags, unlisted *pflag.FlagSet

	server.Config
	host        string
	port        int
	console     bool
	rateLimits  parsed[limits.Rates]
	accountFile string
	level       slog.Level
	logFormat   logFormat
}

func newNodeSettings() *nodeSettings {
	s := new(nodeSettings)
	s.flags, s.unlisted = pflag.NewFlagSet("serve", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	s.Settings = settings.New(s.flags, s.unlisted)
	s.define()
	return s
}

// defaultConfig is the file that is read where no other one is named.
const defaultConfig = "/etc/lockstep/lockstep.yaml"

// noFile in the place of a file's name says that none is read.
const noFile = "none"

func configFlag(f *pflag.FlagSet, file *string) {
	f.StringVar(file, "config", "", `file with settings, or "none" (default: `+defaultConfig+" if there is one)")
	bind(f, "config", "LOCKSTEP_CONFIG")
	markOfOneNode(f, "config")
}

// load sets what the command line leaves out, and returns the path of the file that
// was read, if one was. file is what --config says.
func (s *nodeSettings) load(file string) (path string, err error) {
	if file == "" {
		file = os.Getenv("LOCKSTEP_CONFIG")
	}
	var read *settings.File
	if file != noFile {
		if read, err = openConfig(file); err != nil {
			return "", err
		}
	}
	if read != nil {
		path = read.Path
	}
	return path, s.Load(read, os.LookupEnv)
}

func openConfig(path string) (*settings.File, error) {
	if path != "" {
		return settings.ReadFile(path)
	}
	f, err := settings.ReadFile(defaultConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// config returns the configuration of the node, which logs from this level on.
func (s *nodeSettings) config(level slog.Leveler) server.Config {
	c := s.Config
	c.HTTPAddr = net.JoinHostPort(s.host, strconv.Itoa(s.port))
	c.RateLimits = s.rateLimits.value
	c.NoConsole = !s.console
	c.Version = version
	c.Logger, c.Audit = newLogger(level, s.logFormat), newLogger(slog.LevelInfo, s.logFormat)
	return c
}

func (s *nodeSettings) define() {
	x := s.unlisted
	x.StringVar(&s.Account.SID, "account-sid", "", "SID of the account of the cluster to make or to join; in the file or the environment only")
	x.StringVar(&s.Account.AuthToken, "auth-token", "", "and its auth token; nobody but the node's user may read a file that has it")
	annotate(x, "auth-token", settings.Secret)
	bindAll(x)
	part(x, "The account", "account-sid", "auth-token")
	markOfOneNode(x, "account-sid", "auth-token")

	f := s.flags
	f.StringVar(&s.DataDir, "data-dir", "", "directory of this node's data, readable by its owner only")
	f.StringVar(&s.NodeID, "node-id", "", "name of this node, unique and for good (default: made up and kept)")
	f.StringVar(&s.host, "http-addr", "127.0.0.1", "host or IP that clients connect to")
	f.IntVar(&s.port, "http-port", 8080, "port that clients connect to")
	f.StringVar(&s.AdminAddr, "admin-addr", "", "HOST:PORT for operators and nodes that join: /healthz, /readyz, /metrics and /cluster/ are there only (default: where clients connect)")
	f.StringVar(&s.MetricsAddr, "metrics-addr", "", "HOST:PORT where /metrics is and nothing else, without TLS; it is nowhere else then (default: where operators are)")
	f.BoolVar(&s.console, "console", true, "serve the console, a web page for people who have an API key, at /console/ (where operators are served: docs/console.md)")
	f.StringVar(&s.InternalAddr, "internal-addr", "127.0.0.1:0", "HOST:PORT for the other nodes; port 0: a free one, chosen once and kept as long as nobody else has it")
	f.StringVar(&s.GossipAddr, "gossip-addr", "127.0.0.1:0", "HOST:PORT for gossip, TCP and UDP; port 0 likewise")
	f.StringVar(&s.Advertise, "advertise", "", "host by which clients and other nodes reach this one, where the addresses above do not say it")
	f.StringSliceVar(&s.Seeds, "seed", nil, "gossip HOST:PORT of other nodes to look for besides those remembered, for when all have moved; at most 16")
	part(f, "The node and where it is", "data-dir", "node-id", "http-addr", "http-port", "admin-addr", "metrics-addr", "console", "internal-addr", "gossip-addr", "advertise", "seed")

	f.BoolVar(&s.Bootstrap, "bootstrap", false, "make a new cluster, if this node belongs to none and nobody looks for it")
	f.StringVar(&s.accountFile, "account-file", "", accountFileHelp)
	f.StringVar(&s.Join, "join", "", "URL of a member of the cluster to join (its --admin-addr, if it has one), if this node belongs to none")
	f.BoolVar(&s.InsecureJoin, "insecure-join", false, "join over plain http:// beyond this machine, where credentials and the cluster's key can be read on the way")
	f.StringVar(&s.CA, "ca", "", "file with authorities, in PEM, that are believed besides the machine's when this node asks a member to let it in")
	f.BoolVar(&s.Replace, "replace", false, "take the place of a member with this node's id; and if this node's own state is lost, join anew")
	f.BoolVar(&s.Nonvoter, "nonvoter", false, "serve clients and have no vote: for more subscribers and reads than the voters can take; a node that votes already keeps its vote")
	f.DurationVar(&s.Reserve, "reserve", 0, "with --nonvoter: vote in the place of a voter that has been silent for so long, until it is back (default: never)")
	part(f, "How it comes to a cluster", "bootstrap", "account-file", "join", "ca", "insecure-join", "replace", "nonvoter", "reserve")

	f.StringVar(&s.TLS.Cert, "tls-cert", "", "file with the certificate that clients and operators are shown, and its chain, in PEM; it is read again when it changes (default: none, no TLS)")
	f.StringVar(&s.TLS.Key, "tls-key", "", "file with its key")
	f.StringVar(&s.ACME.Domain, "domain", "", "name of the cluster, such as sync.example.com, whose certificate is issued and renewed by ACME, once for all nodes; whoever gives it agrees to the authority's terms")
	f.StringVar(&s.ACME.Email, "acme-email", "", "address by which the authority reaches the operator")
	f.StringVar(&s.ACME.Directory, "acme-directory", "", "URL of the authority's directory (default: that of Let's Encrypt)")
	f.StringVar(&s.ACME.CA, "acme-ca", "", "file with authorities, in PEM, that are believed to vouch for that URL (default: the machine's)")
	f.StringVar(&s.ACME.HTTPAddr, "acme-http-addr", "", "HOST:PORT, port 80 for the outside, at which the authority is answered in plain HTTP and everybody else is sent to https:// (default: the authority is answered at --http-port only, which has to be 443 for the outside)")
	f.StringVar(&s.PublicURL, "public-url", "", "origin of the URLs in answers, such as https://sync.example.com (default: as the client came)")
	f.Var((*prefixes)(&s.TrustedProxies), "trusted-proxies", "IPs or networks whose X-Forwarded-Proto, -Host and -For are believed")
	f.Var((*prefixes)(&s.WebhookAllow), "webhook-allow", "IPs or networks that webhooks may reach although they are loopback, link-local or a machine of this cluster; private networks need not be named")
	s.rateLimits = parsed[limits.Rates]{parse: limits.Parse}
	if err := s.rateLimits.Set("default"); err != nil {
		panic(err) // a test of package limits reads it
	}
	f.Var(&s.rateLimits, "rate-limits", `"off", "default", or "`+limits.Usage+`" or a part of it: tokens a second, and after the / the part of one identity`)
	part(f, "Clients", "tls-cert", "tls-key", "domain", "acme-email", "acme-directory", "acme-ca", "acme-http-addr", "public-url", "trusted-proxies", "webhook-allow", "rate-limits")

	f.Float64Var(&s.TimeoutScale, "timeout-scale", 1, "multiplies the time-outs after which a leader is given up; for slow disks and networks")
	f.Uint64Var(&s.SnapshotThreshold, "snapshot-threshold", 16384, "log entries after which a snapshot is taken")
	f.Uint64Var(&s.TrailingLogs, "trailing-logs", 65536, "log entries that stay behind a snapshot, for nodes that were away")
	f.StringVar(&s.Backups.Dir, "backup-dir", "", "directory for backups that this node makes itself; it may be another node's, too, or shared (default: it makes none)")
	f.DurationVar(&s.Backups.Every, "backup-every", 24*time.Hour, "how often it makes one")
	f.IntVar(&s.Backups.Keep, "backup-keep", 7, "how many of its own it keeps, the newest; none goes before a new one was made and read again")
	f.TextVar(&s.level, "log-level", slog.LevelInfo, "debug (which has a line for each request), info, warn or error")
	f.StringVar(&s.Trace.URL, "trace-otlp", "", "URL of a collector that traces are sent to, by OTLP over HTTP, such as http://localhost:4318: where requests spend their time, on all nodes (default: none are made)")
	f.Float64Var(&s.Trace.Sample, "trace-sample", 0.01, "share of the requests that are traced, from 0 to 1, of those whose client has not decided it (traceparent)")
	s.logFormat = logText
	f.TextVar(&s.logFormat, "log-format", logText, "text or json")
	part(f, "Operation", "timeout-scale", "snapshot-threshold", "trailing-logs", "backup-dir", "backup-every", "backup-keep", "log-level", "log-format", "trace-otlp", "trace-sample")

	s.Bounds.Flags(f)
	for _, b := range bounds.Table() {
		part(f, "Limits", b.Name)
		annotate(f, b.Name, settings.Full, b.Full)
	}
	for _, name := range []string{"tls-cert", "tls-key", "webhook-allow", "rate-limits", "log-level"} {
		annotate(f, name, settings.Live)
	}
	bindAll(f)
	markOfOneNode(f, "data-dir", "node-id", "http-addr", "http-port", "admin-addr", "metrics-addr", "internal-addr", "gossip-addr",
		"advertise", "domain", "acme-email", "acme-directory", "acme-ca", "acme-http-addr", "bootstrap", "account-file", "join", "insecure-join", "replace", "seed")
}

func part(f *pflag.FlagSet, name string, flags ...string) {
	for _, flag := range flags {
		annotate(f, flag, settings.Part, name)
	}
}

// parsed is the value of a setting that has a form of its own.
type parsed[T any] struct {
	parse func(string) (T, error)
	text  string
	value T
}

// String implements pflag.Value.
func (p *parsed[T]) String() string { return p.text }

// Type implements pflag.Value.
func (p *parsed[T]) Type() string { return "string" }

// Set implements pflag.Value.
func (p *parsed[T]) Set(text string) error {
	value, err := p.parse(text)
	if err == nil {
		p.text, p.value = text, value
	}
	return err
}

// prefixes is the value of a setting that lists networks.
type prefixes []netip.Prefix

// String implements pflag.Value.
func (p *prefixes) String() string { return "[" + strings.Join(p.GetSlice(), ",") + "]" }

// Type implements pflag.Value.
func (p *prefixes) Type() string { return "strings" }

// Set implements pflag.Value: it adds to what is there.
func (p *prefixes) Set(text string) error {
	for t := range strings.SplitSeq(text, ",") {
		if err := p.Append(strings.TrimSpace(t)); err != nil {
			return err
		}
	}
	return nil
}

// Append implements pflag.SliceValue.
func (p *prefixes) Append(text string) error {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		ip, ipErr := netip.ParseAddr(text)
		if ipErr != nil {
			return fmt.Errorf("%q is neither an IP nor a network", text)
		}
		ip = ip.Unmap()
		network = netip.PrefixFrom(ip, ip.BitLen())
	}
	*p = append(*p, network)
	return nil
}

// Replace implements pflag.SliceValue.
func (p *prefixes) Replace(texts []string) error {
	*p = nil
	for _, t := range texts {
		if err := p.Append(t); err != nil {
			return err
		}
	}
	return nil
}

// GetSlice implements pflag.SliceValue.
func (p *prefixes) GetSlice() []string {
	texts := make([]string, len(*p))
	for i, network := range *p {
		texts[i] = network.String()
		if network.IsSingleIP() {
			texts[i] = network.Addr().String()
		}
	}
	return texts
}

func accountFromEnvironment() auth.Account {
	return auth.Account{SID: os.Getenv("LOCKSTEP_ACCOUNT_SID"), AuthToken: os.Getenv("LOCKSTEP_AUTH_TOKEN")}
}
