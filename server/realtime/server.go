// Package realtime speaks the websocket protocol of the official Sync client:
// sessions with access tokens, requests in the tunnel, subscriptions with
// replay, live queries. The operations themselves are those of server/api,
// fan-out is server/hub, and the bytes are those of realtime/wire.
//
// Goroutines: one of the Server follows the feed, one looks for silent clients, one
// waits for whatever comes from sessions that rest, and some write to all clients;
// every session has a reader, unless it rests, one for each request under way, of
// which there is a bounded number, and one to wait for a client that does not take
// what is sent. Close ends all of them and waits.
//
// What a client sends is looked at by its declared size before it is kept. The
// bytes of requests under way are bounded for each session, from which no more
// is read, for each identity and for the node, which refuse more with 429.
// Until it has introduced itself a client has a place in a small pool, and is
// no session. Whatever a client sends costs it something; one that is refused
// all the time is told to stay away.
//
// What waits for a client is bounded, too: live events as package hub says,
// answers by reading no further from a client that does not take them. A client
// whose socket takes nothing for the write timeout, or too little for long, is
// disconnected.
//
// It does not speak the v1 API, does not decide on permissions or limits, and
// knows nothing of consensus.
package realtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"lockstep/cluster/slots"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/hub"
	"lockstep/server/livequery"
	"lockstep/server/origin"
	"lockstep/server/ratelimit"
	"lockstep/server/realtime/wire"
	"lockstep/server/refusal"
	"lockstep/server/source"
)

// Server is the endpoint of the protocol: an http.Handler for Path and OldPath.
type Server struct {
	config   Config
	hub      *hub.Hub
	queries  *livequery.Queries
	metrics  *metrics
	upgrader wire.Upgrader

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // every goroutine, and every session

	writers  writers
	workers  workers
	writing  chan struct{}           // one slot for each answer that is being written
	arrivals *slots.Pool[netip.Addr] // connections that have not introduced themselves

	mu         sync.Mutex
	closed     bool         // no more sessions
	ended      bool         // for good
	poller     *wire.Poller // of sessions that rest; nil: none may, so far
	sessions   map[*session]struct{}
	introduced int // of them
	byIdentity map[string]*holdings
	bySource   map[netip.Addr]int
}

// New makes a Server, which follows the feed until Close.
func New(config Config) *Server {
	config = config.withDefaults()
	s := &Server{
		config:   config,
		upgrader: wire.Upgrader{Refuse: refuseUpgrade, DiscardBytes: config.DiscardBytes, WriteTimeout: config.WriteTimeout},
		sessions: make(map[*session]struct{}),
		writing:  make(chan struct{}, 2*runtime.GOMAXPROCS(0)),
		arrivals: slots.New[netip.Addr](config.Arrivals, config.ArrivalsPerSource),

		byIdentity: make(map[string]*holdings), bySource: make(map[netip.Addr]int),
	}
	s.metrics = newMetrics(config.Metrics, s.countSubscriptions, func() float64 { return float64(s.queries.Count()) })
	s.hub = hub.New(hub.Config{
		Feed: config.Feed, View: config.Node.View, Encode: s.encode, Join: wire.AppendLiveEvents,
		QueueLength: config.QueueLength, QueueBytes: config.QueueBytes, Panics: config.Panics,
		Behind: s.metrics.behind, Dropped: s.metrics.dropped, Framed: s.metrics.framed, SinceApplied: config.SinceApplied, Told: config.Told,
	})
	s.queries = livequery.New(s.liveQueries())
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.Go(func() { s.hub.Run(s.ctx) })
	s.work.Go(s.lookAtAll)
	s.writers.init()
	s.workers.init(&s.work)
	for range writerCount() {
		s.work.Go(s.writers.run)
	}
	return s
}

// liveQueries returns the configuration of live queries, completed.
func (s *Server) liveQueries() livequery.Config {
	c := s.config.LiveQueries
	c.Hub, c.View, c.Panics = s.hub, s.config.Node.View, s.config.Panics
	c.EncodeUpdate, c.EncodeRemoval, c.EncodeResult = encodeQueryUpdate, encodeQueryRemoval, encodeQueryResult
	c.Evaluated, c.Behind = s.metrics.evaluated, s.metrics.lagged
	return c
}

// encode makes the frame of a live event.
func (s *Server) encode(e *objects.Event, form hub.Form) hub.Frame {
	frame, kind, event := wire.LiveEvent(wire.Version(form), s.config.eventOrigin(), e)
	if kind == "" {
		return hub.Frame{Bytes: frame}
	}
	return hub.Frame{Bytes: frame, Part: &hub.Part{Kind: kind, Event: event}}
}

// Path is that of the endpoint. At OldPath clients of 2017 connect, which speak
// another protocol (protocol versions, part 6): they are told that it is not
// served, in a frame of this one, which makes them give up instead of trying
// again for ever.
const (
	Path    = "/v3/wsconnect"
	OldPath = "/v2/wsconnect"

	// ExchangePath is that of the exchange of tokens, ServeExchange.
	ExchangePath = "/v1/token"
)

// ServeHTTP takes a client's connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A client that is refused may be sending frames already, which are no
	// requests.
	w.Header().Set("Connection", "close")
	from, refused := s.arrive(r)
	if refused != nil {
		refusal.Write(w, refused)
		return
	}
	conn, err := s.upgrader.Upgrade(w, r)
	if err != nil {
		return // answered
	}
	x := newSession(s, conn, origin.Of(r, s.config.PublicURL, s.config.TrustedProxies), audit.Source(r, s.config.TrustedProxies), from)
	place, _ := s.arrivals.Enter(from, func() { x.end(endEvicted) })
	x.place = place
	x.foreign = r.URL.Path == OldPath
	if !s.start(x) {
		x.cancel()
		place.Leave()
		conn.Close()
	}
}

// refuseUpgrade answers what is no websocket's request.
func refuseUpgrade(w http.ResponseWriter, status int, reason error) {
	e := objects.ErrParameter.With("%v", reason)
	e.Status = status
	refusal.Write(w, e)
}

func (s *Server) open() bool {
	select {
	case <-s.config.Ready:
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && s.introduced < s.config.Sessions
}

// arrive returns the source address of a client that connects, and charges it for that.
func (s *Server) arrive(r *http.Request) (netip.Addr, *objects.Error) {
	if !s.open() {
		return netip.Addr{}, objects.ErrUnavailable.With("This node takes no connections at the moment")
	}
	from := source.Of(r, s.config.TrustedProxies)
	return from, s.mayConnect("source-"+from.String(), s.config.ConnectsPerSource)
}

// mayConnect charges a new connection to its source or identity.
func (s *Server) mayConnect(who string, perSecond float64) *objects.Error {
	bucket := ratelimit.Bucket[string]{Key: "connects-" + who, Rate: perSecond}
	if wait := s.config.Limits.Take(s.config.Clock(), 1, bucket); wait > 0 {
		s.metrics.refusals.WithLabelValues("connects").Inc()
		return objects.ErrTooMany.With("Too many new connections").After(int(wait / time.Second))
	}
	return nil
}

// holdings are what the sessions of one identity have on this node.
type holdings struct {
	sessions int
	pace     *rate.Limiter // of their requests
}

// paceTime is how much of a second's requests an identity may make at once.
const paceTime = 250 * time.Millisecond

func paceOf(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond*paceTime.Seconds())))
}

// Hub returns what tells of changes, for other readers of them.
func (s *Server) Hub() *hub.Hub { return s.hub }

// Admit checks the access token of a request by another protocol, and finds the
// service that it is for, as for a session.
func (s *Server) Admit(r *http.Request, token string) (auth.Principal, *objects.Service, *objects.Error) {
	from := source.Of(r, s.config.TrustedProxies)
	return visitor{server: s, source: audit.Source(r, s.config.TrustedProxies), network: from}.admit(r.Context(), token)
}

// enter makes a connection a session of this identity, unless there are too
// many.
func (s *Server) enter(x *session, service objects.SID, identity string) *objects.Error {
	who := holder(service, identity)
	if refused := s.mayConnect(who, s.config.ConnectsPerIdentity); refused != nil {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of, known := s.byIdentity[who]
	if !known {
		of = &holdings{pace: paceOf(s.config.IdentityRequests)}
	}
	switch {
	case s.closed || s.introduced >= s.config.Sessions:
		s.metrics.refusals.WithLabelValues("sessions").Inc()
		return objects.ErrUnavailable.With("This node has as many sessions as it may")
	case reached(of.sessions, s.config.SessionsPerIdentity):
		s.metrics.refusals.WithLabelValues("sessions of identity").Inc()
		return objects.ErrTooMany.With("This identity has as many sessions on this node as it may").After(connectLater)
	case reached(s.bySource[x.network], s.config.SessionsPerSource):
		s.metrics.refusals.WithLabelValues("sessions of source").Inc()
		return objects.ErrTooMany.With("There are as many sessions from this address as there may be").After(connectLater)
	}
	x.holder, x.pace = who, of.pace
	s.introduced++
	of.sessions++
	s.byIdentity[who] = of
	s.bySource[x.network]++
	s.metrics.sessions.Inc()
	s.metrics.sdks.enter(x.sdk)
	return nil
}

// connectLater is the seconds after which a client may try again whose identity
// or address has too many sessions.
const connectLater = 30

func reached(n, most int) bool { return most >= 0 && n >= most }

// holder names an identity of a service among those of all services.
func holder(service objects.SID, identity string) string {
	return "identity-" + service.String() + "-" + identity
}

// leave takes a session out of the counts again.
func (s *Server) leave(x *session) {
	s.metrics.sessions.Dec()
	s.metrics.sdks.leave(x.sdk)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.introduced--
	if of := s.byIdentity[x.holder]; of.sessions > 1 {
		of.sessions--
	} else {
		delete(s.byIdentity, x.holder)
	}
	if s.bySource[x.network]--; s.bySource[x.network] == 0 {
		delete(s.bySource, x.network)
	}
}

// start runs a session in a goroutine of its own: that of the HTTP server
// would keep its buffers for as long as the client stays.
func (s *Server) start(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sessions[x] = struct{}{}
	s.work.Add(1)
	go x.run()
	return true
}

// pollerOfAll returns the poller of sessions that rest, which is made for the first
// one, or nil if there can be none.
func (s *Server) pollerOfAll() *wire.Poller {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poller != nil || s.ended {
		return s.poller
	}
	poller, err := wire.NewPoller()
	if err != nil {
		return nil
	}
	s.poller = poller
	s.work.Go(poller.Run)
	return poller
}

// gone is called when a session has ended.
func (s *Server) gone(x *session) {
	s.mu.Lock()
	delete(s.sessions, x)
	s.mu.Unlock()
	close(x.gone)
	s.work.Done()
}

// Sessions returns how many sessions are connected.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

func (s *Server) countSubscriptions() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for x := range s.sessions {
		total += x.subscriptions()
	}
	return float64(total)
}

// admit checks a token and finds the service that it is for. What the local
// store does not know may have been made on another node a moment ago, so
// nobody is turned away for that before a linearizable point. Such points are
// few for each source, so that a client that makes up keys does not have this
// node ask its leader about each.
func (s *Server) admit(ctx context.Context, token string, from netip.Addr) (auth.Principal, *objects.Service, *objects.Error) {
	principal, service, err := s.check(token)
	if !errors.Is(err, auth.ErrUnknownKey) && !errors.Is(err, errUnknownService) {
		return principal, service, refusal.Of(err)
	}
	bucket := ratelimit.Bucket[string]{Key: "unknown-keys-" + from.String(), Rate: s.config.UnknownKeysPerSource}
	if wait := s.config.Limits.Take(s.config.Clock(), 1, bucket); wait > 0 {
		return principal, nil, objects.ErrTooMany.With("Too many tokens with unknown keys").After(int(wait / time.Second))
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.InitTimeout)
	defer cancel()
	if _, err := s.config.Node.Read(ctx, objects.Bucket{}); err != nil {
		return principal, nil, objects.ErrUnavailable
	}
	principal, service, err = s.check(token)
	return principal, service, refusal.Of(err)
}

var errUnknownService = errors.New("the token is for an unknown service")

func (s *Server) check(token string) (auth.Principal, *objects.Service, error) {
	principal, err := auth.Token(token, s.config.Keyring, s.config.Clock())
	if err != nil {
		return principal, nil, err
	}
	service, ok := s.config.Node.View().Service(fsm.ParseRef(principal.ServiceSID))
	if !ok {
		return principal, nil, fmt.Errorf("%w: %w", objects.ErrTokenInvalid, errUnknownService)
	}
	if bound := principal.Scope.Service; !bound.IsZero() && bound != service.SID {
		return principal, nil, objects.ErrTokenInvalid
	}
	return principal, service, nil
}

// Drain lets no more clients in and closes the websockets of the connected
// ones without a close message, so that they come back at once, to another
// node; spread over the time that the context leaves, so that they do not come
// all in one instant. It waits for them, as long as the context allows.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	all := make([]*session, 0, len(s.sessions))
	for x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()

	var leaving sync.WaitGroup
	begin, span := time.Now(), drainSpan(ctx)
	for i, x := range all {
		due := begin.Add(span * time.Duration(i) / time.Duration(len(all)))
		if wait := time.Until(due); wait > time.Millisecond {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		leaving.Go(func() { x.drain(ctx) })
	}
	leaving.Wait()
	for _, x := range all {
		select {
		case <-x.gone:
		case <-ctx.Done():
			return
		}
	}
}

// Resume lets clients in again after Drain, unless the server was closed.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.closed = false
	}
}

// drainSpan leaves the last ones some time to be written to.
func drainSpan(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(0, time.Until(deadline)*3/4)
}

// Close ends every session at once and waits for all goroutines.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed, s.ended = true, true
	for x := range s.sessions {
		x.cancel()
		x.conn.Close()
	}
	s.mu.Unlock()
	s.cancel()
	s.writers.close()
	s.workers.close()
	if poller := s.pollerOfAll(); poller != nil {
		poller.Close()
	}
	s.work.Wait()
	s.queries.Close()
	return nil
}
