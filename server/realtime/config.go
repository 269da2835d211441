package realtime

import (
	"cmp"
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
	"lockstep/server/budget"
	"lockstep/server/livequery"
	"lockstep/server/panics"
	"lockstep/server/ratelimit"
)

// Node is the cluster as this package sees it.
type Node interface {
	api.Node

	// ProposeAll is Propose for commands that take effect in their order. It calls
	// told with the outcome of each, once.
	ProposeAll(ctx context.Context, commands []*fsm.Command, told func(i int, r *fsm.Result, err error))
}

// Config sets up a Server. Limits that are zero have their defaults; those by
// identity and source, the rates and the number of sessions are switched off by
// a negative number.
type Config struct {
	API     *api.API
	Node    Node
	Feed    *fsm.Feed
	Keyring auth.Keyring

	PublicURL string // origin of URLs; empty: as the client came
	NodeID    string // this node's
	NodeURL   string // this node's own origin, for the URLs in events, which are the same for all

	// TrustedProxies may say which address the client has, and by which scheme and
	// host it came.
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

	// Limits are the buckets of the rates below. nil: they have a burst of ten
	// seconds.
	Limits *ratelimit.Limiter[string]

	Panics *panics.Catcher // of clients' work; nil: caught, and not told of

	Clock   func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: not measured

	// Answered is told of each request that was answered: whether it writes, why it
	// was refused, if it was, and how long that took since it was read. SinceApplied
	// returns the time since a round of the feed was applied, if it is known. Both may
	// be nil.
	Answered     func(write bool, refused *objects.Error, took time.Duration)
	SinceApplied func(index uint64) (time.Duration, bool)

	// Trace begins the span of a request, within the trace that a traceparent (W3C) names,
	// and Follow that of its write, by whose command others find it; what they return ends
	// them, nil if there is none. Told is told of events that were handed to their
	// subscribers. Trace and Told nil: tracing is off.
	Trace  func(ctx context.Context, method, traceparent string) (context.Context, func(status int, refused *objects.Error))
	Follow func(ctx context.Context, id fsm.CommandID) func(failed error)
	Told   func(events []fsm.Event, begun, ended time.Time)

	Sessions                               int     // at a time; 50 000
	SessionsPerIdentity, SessionsPerSource int     // of them; 1000 and 10 000
	ConnectsPerIdentity, ConnectsPerSource float64 // new ones a second; 50 and 200
	UnknownKeysPerSource                   float64 // tokens a second for which the leader is asked; 10
	Arrivals, ArrivalsPerSource            int     // connections before they have introduced themselves; 2000 and 500

	InitBytes           int64   // of a client's first message; 16 KiB
	MessageBytes        int64   // of its others, header and payload; 64 KiB
	DiscardBytes        int64   // of a message that is refused; beyond, the connection is closed; 8 MiB
	SessionByteRate     int64   // that a client may send a second; 2 MiB
	SessionRequestBytes int64   // of a session's requests under way; 1 MiB
	SessionRequests     float64 // of a session a second; not bounded
	IdentityRequests    float64 // of all sessions of an identity a second, read no faster; 2000
	FloodRefusals       int     // in ten seconds, after which a session ends; 2000

	// RequestBytes are those of requests under way, by identity, and AnswerBytes
	// those of answers that wait for clients to take them. nil: not bounded.
	RequestBytes, AnswerBytes *budget.Share

	// A client is disconnected if SlowBytes wait for it, and it takes less than
	// SlowRate a second, for as long as SlowWindow. 512 KiB, 32 KiB, 20 s.
	SlowBytes, SlowRate int64
	SlowWindow          time.Duration

	// LiveQueries are the bounds of live queries; the rest of it New fills in.
	LiveQueries livequery.Config

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
	if c.Answered == nil {
		c.Answered = func(bool, *objects.Error, time.Duration) {}
	}
	c.Sessions = cmp.Or(c.Sessions, 50_000)
	if c.Sessions < 0 {
		c.Sessions = math.MaxInt
	}
	c.SessionsPerIdentity = cmp.Or(c.SessionsPerIdentity, 1000)
	c.SessionsPerSource = cmp.Or(c.SessionsPerSource, 10_000)
	c.ConnectsPerIdentity = cmp.Or(c.ConnectsPerIdentity, 50)
	c.ConnectsPerSource = cmp.Or(c.ConnectsPerSource, 200)
	c.UnknownKeysPerSource = cmp.Or(c.UnknownKeysPerSource, 10)
	c.Arrivals = cmp.Or(c.Arrivals, 2000)
	c.ArrivalsPerSource = cmp.Or(c.ArrivalsPerSource, 500)
	c.InitBytes = cmp.Or(c.InitBytes, 16<<10)
	c.MessageBytes = cmp.Or(c.MessageBytes, 64<<10)
	c.DiscardBytes = cmp.Or(c.DiscardBytes, 8<<20)
	c.SessionByteRate = cmp.Or(c.SessionByteRate, 2<<20)
	c.SessionRequestBytes = cmp.Or(c.SessionRequestBytes, 1<<20)
	c.IdentityRequests = cmp.Or(c.IdentityRequests, 2000)
	c.FloodRefusals = cmp.Or(c.FloodRefusals, 2000)
	c.SlowBytes = cmp.Or(c.SlowBytes, 512<<10)
	c.SlowRate = cmp.Or(c.SlowRate, 32<<10)
	c.SlowWindow = cmp.Or(c.SlowWindow, 20*time.Second)
	unbounded := budget.New(-1).Share(-1)
	if c.RequestBytes == nil {
		c.RequestBytes = unbounded
	}
	if c.AnswerBytes == nil {
		c.AnswerBytes = unbounded
	}
	c.RequestsPerSession = cmp.Or(c.RequestsPerSession, 64)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 25*time.Second)
	c.InitTimeout = cmp.Or(c.InitTimeout, 10*time.Second)
	c.PingInterval = cmp.Or(c.PingInterval, 20*time.Second)
	c.SilenceTimeout = cmp.Or(c.SilenceTimeout, time.Minute)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.ExpiryNotice = cmp.Or(c.ExpiryNotice, 3*time.Minute)
	if c.Limits == nil {
		c.Limits = ratelimit.New[string](0)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// eventOrigin is the origin of URLs in what is the same for all clients.
func (c *Config) eventOrigin() string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	return c.NodeURL
}
