// Package console is the web page at /console/ with which people look after a
// cluster: its pages, the sessions of those who logged in, and what the pages ask
// for.
//
//	/console/              the pages, embedded; they load nothing from elsewhere
//	/console/api/session   logging in (POST), out (DELETE), and who is logged in (GET)
//	/console/api/v1/…      the REST API, with the credentials of the session
//	/console/api/cluster/… what of the operators' API a page may ask for, likewise
//	/console/api/realtime  the realtime endpoint, which takes access tokens as always
//	/console/api/…         the rest: overview, events, tokens, refusals, webhooks, backups
//
// A session is a sealed cookie and nothing that a node keeps, so every node takes
// it. It names an API key, which is looked up for each request: the handlers behind
// decide what it may do, as they do for everybody, and a key that is revoked is
// logged out everywhere at once. Requests need a header that a page of another site
// cannot send.
//
// Run owns the one goroutine that measures; streams of events run on the goroutines
// of their requests, which Close ends.
package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/backup"
	"lockstep/server/jsonbody"
	"lockstep/server/limits"
	"lockstep/server/refusal"
	"lockstep/server/webhook"
)

// Prefix is what the paths of the console begin with.
const Prefix = "/console/"

const apiPrefix = Prefix + "api/"

// Node is what this package needs of the node.
type Node interface {
	ID() string
	View() *fsm.View
	Feed() *fsm.Feed

	// Seal seals a few bytes so that only nodes of the cluster can open them.
	Seal(plain []byte) ([]byte, error)
	Unseal(sealed []byte) ([]byte, error)

	Status(ctx context.Context) (admin.Status, error)

	// Ask has a member answer a question (Console.Answer).
	Ask(ctx context.Context, id string, question []byte) ([]byte, error)

	// What follows is of this node alone.

	Gauges() Gauges
	Notes() []string
	Refusals() (latest []limits.Refusal, total uint64)
	Attempts() []webhook.Attempt
	Hurry(delivery uint64) bool
	Backups() (Backups, error)
}

// Gauges are what a node has at a moment.
type Gauges struct {
	Age      time.Duration // since its store last had all that was committed
	Sessions int
}

// Backups are those that a node makes by itself.
type Backups struct {
	Dir          string        `json:"dir"` // empty: it makes none
	EverySeconds float64       `json:"every_seconds"`
	Keep         int           `json:"keep"`
	Made         []backup.Made `json:"made"`
}

// Config sets up a Console. Every field is required, unless it says otherwise.
type Config struct {
	Node     Node
	Keyring  auth.Keyring
	Clients  http.Handler // REST and realtime
	Operator http.Handler // the operators' API

	// Writes and Reads measure the requests that this node takes.
	Writes, Reads *Meter

	// PublicURL and TrustedProxies: see package origin.
	PublicURL      string
	TrustedProxies []netip.Prefix

	// Refused is called before wrong credentials are answered, and may wait.
	Refused func(ctx context.Context, source string) bool

	Audit   audit.Log
	Clock   func() time.Time
	Logger  *slog.Logger
	Version string
}

// Console is the console of one node. Its methods may be called from any goroutine.
type Console struct {
	Config
	assets   map[string]*asset
	routes   *http.ServeMux
	sessions *sessions
	streams  *streams
	sampler  sampler
}

// New makes a console.
func New(c Config) *Console {
	x := &Console{Config: c, assets: loadAssets(), sessions: newSessions(), streams: newStreams(), sampler: sampler{writes: c.Writes, reads: c.Reads}}
	x.routes = x.newRoutes()
	return x
}

// newRoutes lists what the pages ask for. The paths that lead on to other handlers
// are not here: they must arrive there as they came.
func (c *Console) newRoutes() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("POST "+apiPrefix+"session", c.login)
	for pattern, e := range map[string]endpoint{
		"GET session":                  c.whoami,
		"DELETE session":               c.logout,
		"GET overview":                 c.overview,
		"POST token":                   c.mint,
		"GET refusals":                 c.refusals,
		"GET webhooks":                 c.webhooks,
		"POST webhooks/{seq}/attempts": c.retryWebhook,
		"GET backups":                  c.backups,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		m.HandleFunc(method+" "+apiPrefix+path, func(w http.ResponseWriter, r *http.Request) {
			who, err := c.authenticate(r)
			if err != nil {
				refuse(w, err)
				return
			}
			body, err := e(w, r, who)
			if err != nil {
				refuse(w, err)
				return
			}
			status := http.StatusOK
			if body == nil {
				status = http.StatusNoContent
			}
			jsonbody.Write(w, status, body)
		})
	}
	m.HandleFunc("GET "+apiPrefix+"events", c.events)
	m.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, objects.ErrNotFound) })
	return m
}

// endpoint answers a request of whoever is logged in; nil is an answer without a
// body.
type endpoint func(w http.ResponseWriter, r *http.Request, who *user) (any, error)

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	rest, isAPI := strings.CutPrefix(r.URL.Path, apiPrefix)
	switch {
	case !isAPI:
		c.serveAsset(w, r)
	case rest == "realtime":
		c.relayRealtime(w, r)
	case !isOurPage(r):
		refuse(w, objects.ErrForeignPage)
	case strings.HasPrefix(rest, "v1/"), strings.HasPrefix(rest, "cluster/"):
		c.relay(w, r)
	default:
		w.Header().Set("Cache-Control", "no-store")
		c.routes.ServeHTTP(w, r)
	}
}

// pageHeader is sent with every request by the console's own scripts. A form cannot
// send it, and a script of another site only with a leave (CORS) that nobody gives.
const pageHeader = "X-Lockstep-Console"

// isOurPage reports whether a page of the console sent a request, not one of another
// site to which a browser would add the cookie.
func isOurPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return r.Header.Get(pageHeader) != "" && (site == "" || site == "same-origin")
}

// Close ends the streams of events, now and for good.
func (c *Console) Close() { c.streams.end() }

func refuse(w http.ResponseWriter, err error) {
	e := refusal.Of(err)
	w.Header().Set("Cache-Control", "no-store")
	refusal.Write(w, e)
}

var errGone = errors.New("console: nobody is logged in")
