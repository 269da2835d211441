package realtime

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/auth"
	"lockstep/server/ratelimit"
)

// Config sets up a Server. Limits that are zero have their defaults; a negative
// number of sessions is no limit.
type Config struct {
	API     *api.API
	Node    api.Node
	Feed    *fsm.Feed
	Keyring auth.Keyring

	PublicURL string // origin of URLs; empty: as the client came
	NodeURL   string // this node's own origin, for the URLs in events, which are the same for all

	// TrustedProxies may say which address the client has.
	TrustedProxies []netip.Prefix

	// Ready is closed when the node has caught up: what it applies before that
	// is history, and no client is let in.
	Ready <-chan struct{}

	// Connected and Disconnected are told of every session, which has an id of
	// its own; they may be nil and must not block.
	Connected, Disconnected func(service objects.SID, actor fsm.Actor, session string)

	// Refused is called before a token that is no valid one is answered, with
	// the address that it came from, and may wait. It may be nil.
	Refused func(ctx context.Context, source string)

	// Limits may be nil. It limits the requests of each connection by its rate
	// for them.
	Limits *ratelimit.Limiter

	Clock   func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: not measured

	Sessions           int           // at a time; 50 000
	MessageBytes       int64         // of a client's message; 320 KiB
	QueueLength        int           // events that wait for a client; 1024
	QueueBytes         int           // and their bytes; 1 MiB
	RequestsPerSession int           // under way at a time; 64
	RequestTimeout     time.Duration // of one request; 25 s
	InitTimeout        time.Duration // until a client has introduced itself; 10 s
	PingInterval       time.Duration // of silence before a ping; 20 s
	SilenceTimeout     time.Duration // without anything from a client; 60 s
	WriteTimeout       time.Duration // of one write of at most 64 KiB; 10 s
	ExpiryNotice       time.Duration // before a token expires; 3 min
}

func (c Config) withDefaults() Config {
	orDefault(&c.Sessions, 50_000)
	if c.Sessions < 0 {
		c.Sessions = math.MaxInt
	}
	// The protocol would do with 64 KiB. But data that is too large is refused
	// with its error as by REST, up to a body of 256 KiB, and not by hanging up.
	orDefault(&c.MessageBytes, 320<<10)
	orDefault(&c.RequestsPerSession, 64)
	orDefault(&c.RequestTimeout, 25*time.Second)
	orDefault(&c.InitTimeout, 10*time.Second)
	orDefault(&c.PingInterval, 20*time.Second)
	orDefault(&c.SilenceTimeout, time.Minute)
	orDefault(&c.WriteTimeout, 10*time.Second)
	orDefault(&c.ExpiryNotice, 3*time.Minute)
	if c.Limits == nil {
		c.Limits = ratelimit.New(ratelimit.Off())
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// eventOrigin is the origin of URLs in what is the same for all clients.
func (c *Config) eventOrigin() string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	return c.NodeURL
}
