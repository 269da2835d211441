// Package rest serves the Sync REST API, version 1, over HTTP: routes,
// parameters, pages and errors. What the operations do is package api's; this
// one turns requests into calls and results into answers.
//
// A request is served on the goroutine that net/http gives it; the package
// starts none, and keeps nothing between requests.
package rest

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/budget"
	"lockstep/server/origin"
	"lockstep/server/panics"
	"lockstep/server/requestid"
	"lockstep/server/resource"
)

// Prefix is what the targets of all requests begin with.
const Prefix = "/v1/"

// Timeout is the default of Config.Timeout.
const Timeout = 9 * time.Second

// Config sets up the handler.
type Config struct {
	API     *api.API
	Keyring auth.Keyring

	// PublicURL is the origin of the URLs in answers, "https://sync.example.com".
	// Empty: as the client came, by its Host header.
	PublicURL string

	// TrustedProxies are the peers whose X-Forwarded-Proto and -Host are believed.
	TrustedProxies []netip.Prefix

	// Timeout bounds the work on a request that has arrived. Clients wait ten
	// seconds. Default 9 s.
	Timeout time.Duration

	// Bodies are those of requests under way, by credential. nil: not bounded.
	Bodies *budget.Share

	// BodyTimeout bounds the arrival of a request's body. Default 30 s.
	BodyTimeout time.Duration

	// Audit is told of changes to services and permissions.
	Audit audit.Log

	// Refused is called before wrong credentials are answered, with the address
	// that they came from, and may wait. If it reports false, the connection is
	// closed after the answer. It may be nil.
	Refused func(ctx context.Context, source string) bool

	// Answered is told of each request that was answered: whether it writes, why it was
	// refused, if it was, and how long that took. It may be nil.
	Answered func(write bool, refused *objects.Error, took time.Duration)

	// Trace begins the span of a request, within the trace that a traceparent (W3C) names;
	// what it returns ends it, nil if there is none. Nil: tracing is off.
	Trace func(ctx context.Context, method, traceparent string) (context.Context, func(status int, refused *objects.Error))

	Logger *slog.Logger    // default: slog.Default
	Panics *panics.Catcher // of requests; nil: caught, and not told of
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = Timeout
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.Answered == nil {
		c.Answered = func(bool, *objects.Error, time.Duration) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// New makes the handler of everything below /v1.
func New(config Config) http.Handler {
	return &handler{config.withDefaults(), auth.NewBasics(config.Keyring)}
}

type handler struct {
	Config
	basics *auth.Basics
}

// commonHeaders go with every answer (REST specification, part 1).
var commonHeaders = http.Header{
	"Access-Control-Allow-Origin":      {"*"},
	"Access-Control-Allow-Methods":     {"GET, POST, DELETE, OPTIONS"},
	"Access-Control-Allow-Headers":     {"Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Unmodified-Since, Idempotency-Key"},
	"Access-Control-Allow-Credentials": {"true"},
	"Access-Control-Expose-Headers":    {"ETag"},
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestid.New()
	if r.Method == http.MethodOptions {
		setCommon(w.Header(), id)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	begun := time.Now()
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	out := outputs.Get().(*output)
	defer out.release()
	r, end := h.trace(r)
	a, err := h.guard(w, r, id, out)
	if err != nil {
		setCommon(w.Header(), id)
		refused := h.refusal(r, id, err)
		took := time.Since(begun)
		h.Answered(write, refused, took)
		requestid.Note(h.Logger, r, id, refused.Status, refused, took, h.TrustedProxies)
		if end != nil {
			end(refused.Status, refused)
		}
		h.refuse(w.Header(), r, refused).write(w, r)
		return
	}
	took := time.Since(begun)
	h.Answered(write, nil, took)
	requestid.Note(h.Logger, r, id, a.status, nil, took, h.TrustedProxies)
	if end != nil {
		end(a.status, nil)
	}
	if x, ok := w.(wholeWriter); ok {
		a.writeWhole(x, id, out)
		return
	}
	setCommon(w.Header(), id)
	a.write(w, r)
}

// trace begins the span of a request, where it is followed.
func (h *handler) trace(r *http.Request) (_ *http.Request, end func(status int, refused *objects.Error)) {
	if h.Trace == nil {
		return r, nil
	}
	ctx, end := h.Trace(r.Context(), r.Method, r.Header.Get("traceparent"))
	if end != nil {
		r = r.WithContext(ctx)
	}
	return r, end
}

// setCommon sets the headers that every answer has.
func setCommon(header http.Header, id requestid.ID) {
	maps.Copy(header, commonHeaders)
	header[requestid.Header] = []string{id.String()}
}

// Unavailable is the handler while there is nothing to serve with: it answers
// 503 and why, to whatever may be asked.
func Unavailable(reason string) http.Handler {
	return Refusal(objects.ErrUnavailable.With("This node does not serve at the moment: %s", reason))
}

// Refusal is the handler of what is refused, whatever it may be.
func Refusal(e *objects.Error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setCommon(w.Header(), requestid.New())
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		refuse(w.Header(), e).write(w, r)
	})
}

// guard serves a request, and turns a panic into an error of its own.
func (h *handler) guard(w http.ResponseWriter, r *http.Request, id requestid.ID, out *output) (a answer, err error) {
	defer h.Panics.Catch("rest request", func(fault error) {
		h.Logger.Error("request failed", "request", id.String(), "error", fault)
		err = objects.ErrInternal
	})
	return h.serve(w, r, out)
}

// serve makes the answer. Behind what a browser may not be made to do, the order
// of its checks is that of the REST specification, part 7: credentials, path, method, body; service, object and
// parameters are up to the operation.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, out *output) (a answer, err error) {
	body := h.limitBody(w, r)
	if auth.IsForeignPage(r) {
		return answer{}, objects.ErrForeignPage
	}
	principal, err := h.authenticate(w, r)
	if err != nil {
		return answer{}, err
	}
	target, endpoint, err := route(origin.RawPath(r.URL))
	if err != nil {
		return answer{}, err
	}
	op, err := endpoint.operation(r.Method)
	if err != nil {
		w.Header().Set("Allow", endpoint.allow())
		return answer{}, err
	}
	if err := h.withinScope(r.Context(), r.Method, principal.Scope, target); err != nil {
		return answer{}, err
	}
	if err := body.reserve(principal.Name()); err != nil {
		return answer{}, err
	}
	defer body.done(principal.Name())
	raw, err := body.read()
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := h.bounded(r.Context())
	defer cancel()
	c := &call{
		target: target, url: r.URL, api: h.API, out: out,
		encoder: h.API.Encoder(origin.Of(r, h.PublicURL, h.TrustedProxies), resource.REST), ifMatch: first(r.Header, "If-Match"),
	}
	c.caller.Service = fsm.ParseRef(target.service)
	if err := c.readKey(r, principal, raw); err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	if r.Method != http.MethodPost {
		raw = r.URL.RawQuery
	}
	if c.params, err = parseParams(raw); err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	if a, err = op(ctx, c); err == nil {
		h.record(r, principal, c, endpoint)
	}
	return a, err
}

// first is http.Header.Get for a name in its canonical form, which costs less.
func first(header http.Header, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// bounded returns the context of the work on a request that has arrived.
func (h *handler) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if by, ok := ctx.Deadline(); ok && time.Until(by) <= h.Timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, h.Timeout)
}

// authenticate finds out who asks. Wrong credentials wait for their answer; a
// request without any is no guess.
func (h *handler) authenticate(w http.ResponseWriter, r *http.Request) (auth.Principal, error) {
	header := first(r.Header, "Authorization")
	p, err := h.basics.Check(header)
	if err != nil && header != "" && h.Refused != nil && !h.Refused(r.Context(), audit.Source(r, h.TrustedProxies)) {
		w.Header().Set("Connection", "close")
	}
	return p, err
}

// record writes what an operator should know: changes of services and of
// permissions.
func (h *handler) record(r *http.Request, p auth.Principal, c *call, at *endpoint) {
	audited := at == endpoints.services || at == endpoints.service || at == endpoints.permission
	if !audited || r.Method != http.MethodPost && r.Method != http.MethodDelete {
		return
	}
	done := "changed"
	if r.Method == http.MethodDelete {
		done = "removed"
	}
	by := audit.Actor{Name: p.Name(), Source: audit.Source(r, h.TrustedProxies)}
	switch at {
	case endpoints.services:
		h.Audit.Record("service created", by, "service", c.made)
	case endpoints.service:
		h.Audit.Record("service "+done, by, "service", c.service)
	case endpoints.permission:
		h.Audit.Record("permission "+done, by, "service", c.service, "kind", c.kind.String(), "object", c.object, "identity", c.key)
	}
}

// withinScope refuses what a restricted key may not ask for. A key of one
// service sees that one only, and may not remove it; whether any other exists it
// does not learn.
func (h *handler) withinScope(ctx context.Context, method string, scope objects.KeyScope, t target) error {
	if removal := method == http.MethodDelete && t.kind == objects.KindNone && t.lease == ""; removal && !scope.Service.IsZero() {
		return objects.ErrKeyScope
	}
	return h.API.WithinScope(ctx, scope, fsm.ParseRef(t.service), method != http.MethodGet && method != http.MethodHead)
}

// call is one request that is being served.
type call struct {
	target
	api     *api.API
	caller  api.Caller
	encoder resource.Encoder
	params  params // of the form of a POST, of the query otherwise
	ifMatch string
	url     *url.URL
	out     *output // for the answer

	made string // the SID of the service that was made
}

// refuse ends an operation because of a parameter. That the service or object
// does not exist comes first.
func (c *call) refuse(ctx context.Context, err error) error {
	switch {
	case c.service == "":
		return err
	case c.object == "":
		return c.api.Refuse(ctx, c.caller, objects.KindNone, fsm.Ref{}, objects.Read, err)
	}
	return c.api.Refuse(ctx, c.caller, c.kind, c.ref(), objects.Read, err)
}
