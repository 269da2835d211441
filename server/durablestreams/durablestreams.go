// Package durablestreams serves lists by the Durable Streams protocol, an open one
// over HTTP: PUT makes a stream, POST appends, GET reads on from an offset, HEAD tells
// where the end is. Live readers wait, or are sent server-sent events. Streams of Sync
// can be read by it while they are sent. How a list is a stream, and what the protocol
// leaves to its servers, is in docs/durable-streams.md.
//
// What a reader has not seen is read from the state, by the ids of events: there is
// nothing that a slow reader could miss, and nothing is kept for one.
//
// A request is served on the goroutine that net/http gives it; the package starts
// none.
package durablestreams

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/budget"
	"lockstep/server/hub"
	"lockstep/server/origin"
	"lockstep/server/panics"
	"lockstep/server/refusal"
	"lockstep/server/resource"
)

// Config sets up the handler.
type Config struct {
	API     *api.API
	Keyring auth.Keyring

	// Token checks an access token, and finds the service that it is for.
	Token func(r *http.Request, token string) (auth.Principal, *objects.Service, *objects.Error)

	// Hub tells live readers that there is something, and View is where they find it.
	Hub  *hub.Hub
	View func() *fsm.View

	LongPoll      time.Duration // that a reader without news waits; default 20 s
	Waiting       int           // live readers of the node; default 10,000, negative: any number
	WaitingOfEach int           // of one credential or identity; default 1,000, likewise

	PublicURL      string         // as for REST
	TrustedProxies []netip.Prefix // likewise

	Timeout     time.Duration // of the work on a request that has arrived; default 9 s
	BodyTimeout time.Duration // of the arrival of a body; default 30 s
	Bodies      *budget.Share // those of requests under way, by credential; nil: not bounded
	Answers     *budget.Share // what live readers have not taken yet, by whose they are; nil: not bounded

	// Refused is called before wrong credentials are answered; see package rest.
	Refused func(ctx context.Context, source string) bool

	// Answered is told of each request that was answered: whether it writes, why it was
	// refused, if it was, and how long that took. Of a live reader that is until it has
	// been told what was there already. It may be nil.
	Answered func(write bool, refused *objects.Error, took time.Duration)

	// Trace begins the span of a request; see package rest. That of a live reader ends
	// as above.
	Trace func(ctx context.Context, method, traceparent string) (context.Context, func(status int, refused *objects.Error))

	Clock  func() time.Time // default: time.Now
	Logger *slog.Logger     // default: slog.Default
	Panics *panics.Catcher  // of requests; nil: caught, and not told of
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 9 * time.Second
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.LongPoll == 0 {
		c.LongPoll = 20 * time.Second
	}
	if c.Waiting == 0 {
		c.Waiting = 10_000
	}
	if c.WaitingOfEach == 0 {
		c.WaitingOfEach = 1000
	}
	if c.Answers == nil {
		c.Answers = budget.New(-1).Share(-1)
	}
	if c.Answered == nil {
		c.Answered = func(bool, *objects.Error, time.Duration) {}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Handler serves the paths that Serves names.
type Handler struct {
	config Config
	places *places // of live readers
}

// New makes a Handler.
func New(c Config) *Handler {
	c = c.withDefaults()
	return &Handler{config: c, places: newPlaces(c.Waiting, c.WaitingOfEach)}
}

// Serves reports whether a URL is one of this package:
// /v1/Services/{service}/durable/… and /v1/Services/{service}/{kind}/{object}/Events.
func Serves(u *url.URL) bool {
	if strings.HasSuffix(u.Path, eventsSuffix) && isEvents(origin.RawPath(u)) {
		return strings.HasPrefix(u.Path, prefix)
	}
	if !strings.Contains(u.Path, Mark) {
		return false
	}
	rest, ok := strings.CutPrefix(origin.RawPath(u), prefix)
	if !ok {
		return false
	}
	_, rest, ok = strings.Cut(rest, "/")
	return ok && strings.HasPrefix("/"+rest, Mark)
}

const prefix = "/v1/Services/"

// Mark is in the path of every stream, and EventsMark in that of events.
const (
	Mark       = "/durable/"
	EventsMark = eventsSuffix
)

// request is one that is being served.
type request struct {
	*Handler
	w       http.ResponseWriter
	r       *http.Request
	caller  api.Caller
	who     auth.Principal
	kind    objects.Kind
	ref     fsm.Ref
	control *http.ResponseController
	record  *record
	body    []byte // of a PUT or POST of a list

	following bool // events are asked for
}

var commonHeaders = http.Header{
	"Access-Control-Allow-Origin":  {"*"},
	"Access-Control-Allow-Methods": {"GET, HEAD, PUT, POST, DELETE, OPTIONS"},
	"Access-Control-Allow-Headers": {"Accept, Authorization, Cache-Control, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Producer-Epoch, Producer-Id, Producer-Seq, Stream-Closed, Stream-Expires-At, Stream-Seq, Stream-TTL"},
	"Access-Control-Expose-Headers": {"Content-Type, ETag, Location, Producer-Epoch, Producer-Expected-Seq, Producer-Received-Seq, Producer-Seq, " +
		"Stream-Closed, Stream-Cursor, Stream-Expires-At, Stream-Next-Offset, Stream-Sse-Data-Encoding, Stream-Ttl, Stream-Up-To-Date, Twilio-Request-Id"},
	// What a writer calls HTML is no page of this origin, whose other pages are for operators.
	"Content-Security-Policy":      {"default-src 'none'; sandbox"},
	"Cross-Origin-Resource-Policy": {"cross-origin"},
	"X-Content-Type-Options":       {"nosniff"},
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, values := range commonHeaders {
		w.Header()[name] = values
	}
	c := h.record(w, r)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	c.trace()
	err := h.guard(c)
	if err == nil {
		c.answered(statusGone, nil) // if nothing was
		return
	}
	e, begun := h.refusal(c, err), c.status != 0
	c.answered(e.Status, e)
	if !begun {
		h.refuse(c, r, e)
	}
}

// guard serves a request, and turns a panic into an error of its own.
func (h *Handler) guard(c *record) (err error) {
	defer h.config.Panics.Catch("durable stream", func(fault error) {
		h.config.Logger.Error("request failed", "request", c.id.String(), "error", fault)
		err = objects.ErrInternal
	})
	return h.serve(c)
}

// serve answers a request; with an error, nothing was answered.
func (h *Handler) serve(c *record) error {
	w, r := http.ResponseWriter(c), c.request
	q := &request{Handler: h, w: w, r: r, record: c, control: http.NewResponseController(c)}
	// Also for the rest of a body that is refused, which net/http reads. Only writers
	// that have no connection, as in tests, know no deadline.
	_ = q.control.SetReadDeadline(time.Now().Add(h.config.BodyTimeout))
	if auth.IsForeignPage(r) {
		return objects.ErrForeignPage
	}
	service, err := q.authenticate()
	if err != nil {
		return err
	}
	if err := q.address(service); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.config.Timeout)
	defer cancel()
	writes := r.Method != http.MethodGet && r.Method != http.MethodHead
	if err := h.config.API.WithinScope(ctx, q.who.Scope, q.caller.Service, writes); err != nil {
		return err
	}
	if q.hasBody() {
		if err := q.reserveBody(); err != nil {
			return err
		}
		defer q.returnBody()
		if err := q.readBody(); err != nil {
			return err
		}
		// It has arrived, in a time of its own.
		ctx, cancel = context.WithTimeout(r.Context(), h.config.Timeout)
		defer cancel()
	}
	switch {
	case q.following:
		return q.serveEvents(ctx)
	case r.Method == http.MethodHead:
		return q.head(ctx)
	case r.Method == http.MethodGet:
		return q.get(ctx)
	case q.kind != objects.KindList:
	case r.Method == http.MethodPut:
		return q.put(ctx)
	case r.Method == http.MethodPost:
		return q.post(ctx)
	case r.Method == http.MethodDelete:
		return q.remove(ctx)
	}
	w.Header().Set("Allow", "GET, HEAD, OPTIONS")
	if q.kind == objects.KindList {
		w.Header().Set("Allow", "GET, HEAD, PUT, POST, DELETE, OPTIONS")
	}
	return objects.ErrMethod
}

// authenticate finds out who asks: by Basic credentials as for REST, or by an access
// token, which is for one service.
func (q *request) authenticate() (service *objects.Service, err error) {
	header := q.r.Header.Get("Authorization")
	if scheme, token, _ := strings.Cut(header, " "); strings.EqualFold(scheme, "Bearer") {
		p, service, refused := q.config.Token(q.r, strings.TrimSpace(token))
		if refused != nil {
			return nil, refused
		}
		q.who = p
		q.caller.Actor = fsm.Actor{Identity: p.Identity, Endpoint: p.EndpointID, Token: true}
		return service, nil
	}
	q.who, err = auth.Basic(header, q.config.Keyring)
	refused := q.config.Refused
	if err != nil && header != "" && refused != nil && !refused(q.r.Context(), audit.Source(q.r, q.config.TrustedProxies)) {
		q.w.Header().Set("Connection", "close")
	}
	return nil, err
}

// address reads the path: /v1/Services/{service}/durable/{Lists or Streams}/{object},
// or that of events. granted is the service of the caller's token.
func (q *request) address(granted *objects.Service) error {
	s := strings.Split(strings.TrimPrefix(origin.RawPath(q.r.URL), prefix), "/")
	if len(s) != 4 {
		return objects.ErrNotFound
	}
	for i := range s {
		var err error
		if s[i], err = url.PathUnescape(s[i]); err != nil {
			return objects.ErrParameter.With("The path is not valid percent-encoded UTF-8")
		}
	}
	q.caller.Service = fsm.ParseRef(s[0])
	kind, object := s[2], s[3]
	if q.following = isEvents(origin.RawPath(q.r.URL)); q.following {
		kind, object = s[1], s[2]
	}
	q.kind, q.ref = resource.KindOf(kind), fsm.ParseRef(object)
	switch q.kind {
	case objects.KindNone:
		return objects.ErrNotFound
	case objects.KindList:
	case objects.KindStream:
		if q.following {
			return objects.ErrNotFound
		}
	default:
		if !q.following {
			return objects.ErrNotFound
		}
	}
	if granted == nil {
		return nil
	}
	if sid := q.caller.Service.SID; sid != granted.SID && q.caller.Service.Name != granted.UniqueName {
		return objects.ErrForbidden
	}
	q.caller.Service = fsm.Ref{SID: granted.SID}
	return nil
}

// refusal returns what the client is told of an error.
func (h *Handler) refusal(c *record, err error) *objects.Error {
	if e, ok := errors.AsType[*objects.Error](err); ok {
		return e
	}
	h.config.Logger.Error("request failed", "request", c.id.String(), "method", c.request.Method, "error", err)
	return objects.ErrInternal
}

// refuse answers a request with an error.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, e *objects.Error) {
	if e.Status == http.StatusUnauthorized {
		auth.Challenge(w.Header(), r)
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		refusal.SetHeader(w.Header(), e)
		w.WriteHeader(e.Status)
		return
	}
	refusal.Write(w, e)
}
