// Package realtime speaks the websocket protocol of the official Sync client:
// sessions with access tokens, requests in the tunnel, subscriptions with
// replay, live queries. It knows neither HTTP's v1 API nor consensus.
//
// Every session has a reader and a writer, and a goroutine for each request
// under way, whose number is bounded. Server.Close ends all of them and waits.
// What waits for a client is bounded: a subscription that finds the queue full
// loses its place, not its data, and catches up from the state when the queue
// is empty; stream messages, which nothing keeps, give way to newer ones; a
// client that takes nothing for the write time-out is disconnected.
package realtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/auth"
	"lockstep/server/hub"
)

// Config sets up a Server. Zero limits mean their defaults.
type Config struct {
	API     *api.API
	Node    api.Node
	Feed    *fsm.Feed
	Keyring auth.Keyring

	PublicURL string // origin of URLs; empty: as the client came
	NodeURL   string // this node's own origin, for URLs in events

	// Ready is closed when the node has caught up: what it applies before is
	// history, and no client is let in.
	Ready <-chan struct{}

	// Connected and Disconnected are told of every session; they may be nil,
	// and must not block.
	Connected, Disconnected func(service objects.SID, actor fsm.Actor)

	Clock   func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: not measured

	MessageLimit       int64         // bytes of a client's message; 64 KiB
	QueueLength        int           // frames that wait for a client; 1024
	QueueBytes         int           // and their bytes; 1 MiB
	RequestsPerSession int           // under way at a time; 64
	RequestTimeout     time.Duration // of one request; 25 s
	InitTimeout        time.Duration // until the first message; 10 s
	PingInterval       time.Duration // of silence before a ping; 20 s
	SilenceTimeout     time.Duration // without a message from the client; 60 s
	WriteTimeout       time.Duration // of one write; 10 s
	ExpiryNotice       time.Duration // before a token expires; 3 min
}

func (c Config) withDefaults() Config {
	orDefault(&c.MessageLimit, 64<<10)
	orDefault(&c.QueueLength, 1024)
	orDefault(&c.QueueBytes, 1<<20)
	orDefault(&c.RequestsPerSession, 64)
	orDefault(&c.RequestTimeout, 25*time.Second)
	orDefault(&c.InitTimeout, 10*time.Second)
	orDefault(&c.PingInterval, 20*time.Second)
	orDefault(&c.SilenceTimeout, time.Minute)
	orDefault(&c.WriteTimeout, 10*time.Second)
	orDefault(&c.ExpiryNotice, 3*time.Minute)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Server is the endpoint of the protocol, an http.Handler for /v3/wsconnect.
type Server struct {
	config   Config
	form     api.Form // of URLs in events, which are the same for all
	hub      *hub.Hub
	queries  *liveQueries
	metrics  *metrics
	upgrader websocket.Upgrader

	seed   maphash.Seed // of the keys of work under way
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	draining bool
	sessions map[*session]struct{}
}

// New makes a Server, which follows the feed until Close.
func New(config Config) *Server {
	config = config.withDefaults()
	s := &Server{
		config:   config,
		metrics:  newMetrics(config.Metrics),
		sessions: map[*session]struct{}{},
		seed:     maphash.MakeSeed(),
		upgrader: websocket.Upgrader{
			ReadBufferSize: 1024, WriteBufferSize: 512,
			// The token in the first message is the credential, not a cookie.
			CheckOrigin: func(*http.Request) bool { return true },
			Error:       refuseUpgrade,
		},
	}
	origin := config.PublicURL
	if origin == "" {
		origin = config.NodeURL
	}
	s.form = config.API.Form(origin, true)
	s.hub = hub.New(config.Feed, func(e *objects.Event) []byte { return eventFrame(s.form, e, nil) })
	s.queries = &liveQueries{server: s, byID: map[string]*liveQuery{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.Go(func() { s.hub.Run(s.ctx) })
	return s
}

func refuseUpgrade(w http.ResponseWriter, _ *http.Request, status int, reason error) {
	e := objects.Error{Code: 20001, Status: status, Message: reason.Error()}
	writeError(w, &e)
}

func writeError(w http.ResponseWriter, e *objects.Error) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.WriteHeader(e.Status)
	w.Write(api.AppendError(nil, e))
}

// ServeHTTP takes a client's connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.open() {
		writeError(w, objects.ErrUnavailable)
		return
	}
	base := s.config.PublicURL
	if base == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		base = scheme + "://" + r.Host
	}
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // answered
	}
	session := newSession(s, conn, base)
	if !s.add(session) {
		conn.Close()
		return
	}
	defer s.remove(session)
	defer conn.Close()
	session.run()
}

func (s *Server) open() bool {
	select {
	case <-s.config.Ready:
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.draining
}

func (s *Server) add(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.sessions[x] = struct{}{}
	s.work.Add(1)
	s.metrics.sessions.Inc()
	return true
}

func (s *Server) remove(x *session) {
	s.mu.Lock()
	delete(s.sessions, x)
	s.mu.Unlock()
	close(x.gone)
	s.metrics.sessions.Dec()
	s.work.Done()
}

// admit checks a token, and finds the service that it is for. What the local
// store does not know yet may have been made on another node a moment ago, so
// it is asked again at a linearizable point before anyone is turned away; when
// there is none to be had, the client may come again.
func (s *Server) admit(ctx context.Context, token string) (auth.Principal, *objects.Service, *objects.Error) {
	principal, service, refused := s.check(token)
	if refused == nil || refused.Code == objects.ErrTokenExpired.Code {
		return principal, service, refused
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.RequestTimeout)
	defer cancel()
	if _, err := s.config.Node.Read(ctx, ""); err != nil {
		return principal, nil, objects.ErrUnavailable
	}
	return s.check(token)
}

func (s *Server) check(token string) (auth.Principal, *objects.Service, *objects.Error) {
	principal, err := auth.Token(token, s.config.Keyring, s.config.Clock())
	if err != nil {
		e := objects.ErrTokenInvalid
		errors.As(err, &e)
		return principal, nil, e
	}
	service, ok := s.config.Node.View().Service(fsm.ParseRef(principal.ServiceSID))
	if !ok {
		return principal, nil, objects.ErrTokenInvalid
	}
	return principal, service, nil
}

func (s *Server) reachability(x *session, connected bool) {
	tell := s.config.Disconnected
	if connected {
		tell = s.config.Connected
	}
	if tell != nil {
		tell(x.service.SID, x.actor)
	}
}

// Drain lets no more clients in and closes the connected ones, spread over the
// time that the context leaves, so that they do not all come to the next node
// at once. It waits for them, as long as the context allows.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	all := make([]*session, 0, len(s.sessions))
	for x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	pause := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok && len(all) > 0 {
		pause = time.Until(deadline) / 2 / time.Duration(len(all))
	}
	for _, x := range all {
		x.drop()
		if pause > 100*time.Microsecond {
			select {
			case <-time.After(min(pause, 20*time.Millisecond)):
			case <-ctx.Done():
				pause = 0
			}
		}
	}
	for _, x := range all {
		select {
		case <-x.gone:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends every session and waits for all goroutines.
func (s *Server) Close() error {
	s.mu.Lock()
	s.draining = true
	for x := range s.sessions {
		x.cancel()
		x.conn.Close()
	}
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	return nil
}

func randomID(prefix string) string {
	var b [16]byte
	rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }
