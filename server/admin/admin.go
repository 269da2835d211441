// Package admin is the operator's side of a node: health, metrics, and the JSON
// API under /cluster/ that the command line uses, with its client.
//
//	GET    /healthz               200 as long as the process lives
//	GET    /readyz                200 when the node serves clients, else 503 and why;
//	                              notes of what to look after all the same
//	GET    /metrics               for Prometheus
//	GET    /cluster/status        the members
//	GET    /cluster/verify        compares the states of all members
//	POST   /cluster/enrol         cluster id, key and seeds, for a node that joins
//	POST   /cluster/members       adds a node
//	DELETE /cluster/members/{id}  removes a node
//	POST   /cluster/leave         this node leaves the cluster and stops
//	POST   /cluster/snapshot      this node writes a snapshot and shortens its log
//	POST   /cluster/backup        the whole state, as a file
//	GET    /cluster/pprof/{profile}  a profile of the process: cpu, heap, allocs, goroutine
//	POST   /cluster/import        makes services, objects, items and permissions as they
//	                              are elsewhere, a line of JSON each, or compares them
//	POST   /cluster/keys          makes an API key; the only time its secret is shown
//	GET    /cluster/keys          all API keys
//	DELETE /cluster/keys/{sid}    revokes an API key
//	POST   /cluster/account/token    gives the account a second auth token, shown only here
//	POST   /cluster/account/promote  makes it the only one
//	DELETE /cluster/account/token    takes it away
//	POST   /cluster/key              begins to change the cluster's key
//	GET    /cluster/key              how far that has come
//	POST   /dev/reset             an emulator forgets all that it has
//	POST   /cluster/join          a node that waits for it joins a cluster (see PreJoinHandler)
//
// Everything under /cluster/ asks for the account's SID and auth token; API keys
// do not open it. Enrolment is the one place where the cluster's key leaves a
// node, so nodes that enrol over an untrusted network need TLS in front of it.
//
// The package does not know how consensus works: it sees a Node. Its handlers
// run on the HTTP server's goroutines, and it starts none of its own.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lockstep/cluster/loglimit"
	"lockstep/objects"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/jsonbody"
	"lockstep/server/refusal"
	"lockstep/server/requestid"
	"lockstep/server/transfer"
)

// Node is what this package needs of the node. An error that is an
// *objects.Error is shown with its code and status.
type Node interface {
	// Ready returns nil if the node serves clients, and why not otherwise.
	Ready() error

	// Notes are what an operator should look after although the node serves.
	Notes() []string

	Status(ctx context.Context) (Status, error)
	Verify(ctx context.Context) (Verification, error)
	Enrolment(ctx context.Context, r Enrol) (Enrolment, error)
	AddMember(ctx context.Context, m Member) error
	RemoveMember(ctx context.Context, id string) error

	// Leave returns once the node is no longer a member. It stops after that.
	Leave(ctx context.Context) error
	Snapshot(ctx context.Context) error
	Backup(ctx context.Context) (Backup, error)

	// Import makes records as they are elsewhere, or compares them with what is
	// there. It returns an outcome for each.
	Import(ctx context.Context, records []transfer.Record, compare bool) ([]Outcome, error)

	CreateKey(ctx context.Context, k NewKey) (Key, error)
	Keys(ctx context.Context) ([]Key, error)
	RevokeKey(ctx context.Context, sid objects.SID) error

	// AddAuthToken gives the account a second auth token and returns it;
	// PromoteAuthToken makes it the only one, DropAuthToken takes it away.
	AddAuthToken(ctx context.Context) (token string, err error)
	PromoteAuthToken(ctx context.Context) error
	DropAuthToken(ctx context.Context) error

	// RotateKey begins to change the cluster's key, or lets a change go on;
	// KeyRotation returns how far it has come.
	RotateKey(ctx context.Context) error
	KeyRotation(ctx context.Context) (KeyRotation, error)
}

// Config sets up the handler.
type Config struct {
	Node    Node
	Allow   Allow
	Metrics prometheus.Gatherer
	Audit   audit.Log
	Logger  *slog.Logger // default slog.Default

	// Reset has an emulator begin anew, and returns when it has. Nil: this is none.
	Reset func(ctx context.Context) error
}

// ResetPath is where an emulator is told to begin anew.
const ResetPath = "/dev/reset"

// Allow returns the actor of a request whose credentials are good for what it needs,
// and a refusal for others. It may wait before it refuses.
type Allow func(r *http.Request, needs Needs) (audit.Actor, error)

// Needs is who may send a request.
type Needs int

const (
	// Viewer is the account, or a key of either of the operators' roles.
	Viewer Needs = iota
	// Admin is the account, or a key of the role admin.
	Admin
	// Account is the account alone: the answer has data or secrets, or credentials
	// are made or taken away.
	Account
)

// By reports whether a key's role is enough.
func (n Needs) By(role objects.Role) bool {
	return role == objects.RoleAdmin && n <= Admin || role == objects.RoleViewer && n == Viewer
}

// maxBody is more than any request to this API needs, but for imports.
const maxBody = 64 << 10

type handler struct {
	node   Node
	allow  Allow
	audit  audit.Log
	logger *slog.Logger

	profiling sync.Mutex // held while a profile is made
}

// New returns the handler of all paths that the package comment lists.
func New(c Config) http.Handler {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	h := &handler{node: c.Node, allow: c.Allow, audit: c.Audit, logger: c.Logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { ready(w, h.node.Ready(), h.node.Notes()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Metrics, promhttp.HandlerOpts{ErrorLog: loglimit.Lines(c.Logger, slog.LevelWarn)}))
	h.route(mux, "GET /cluster/status", Viewer, h.status)
	h.route(mux, "GET /cluster/verify", Admin, h.verify)
	h.route(mux, "POST /cluster/enrol", Account, h.enrol)
	h.route(mux, "POST /cluster/members", Account, h.addMember)
	h.route(mux, "DELETE /cluster/members/{id}", Admin, h.removeMember)
	h.route(mux, "POST /cluster/leave", Admin, h.leave)
	h.route(mux, "POST /cluster/snapshot", Admin, h.snapshot)
	mux.HandleFunc("POST /cluster/backup", h.backup)
	mux.HandleFunc("GET /cluster/pprof/{profile}", h.profile)
	mux.HandleFunc("POST /cluster/import", h.importRecords)
	h.route(mux, "POST /cluster/keys", Account, h.createKey)
	h.route(mux, "GET /cluster/keys", Admin, h.keys)
	h.route(mux, "DELETE /cluster/keys/{sid}", Account, h.revokeKey)
	h.route(mux, "POST /cluster/key", Admin, h.rotateKey)
	h.route(mux, "GET /cluster/key", Viewer, h.keyRotation)
	h.route(mux, "POST /cluster/account/token", Account, h.addAuthToken)
	h.route(mux, "POST /cluster/account/promote", Account, h.promoteAuthToken)
	h.route(mux, "DELETE /cluster/account/token", Account, h.dropAuthToken)
	if c.Reset != nil {
		h.route(mux, "POST "+ResetPath, Account, func(r *http.Request) (int, any, error) {
			return http.StatusNoContent, nil, c.Reset(r.Context())
		})
	}
	h.route(mux, "/", Viewer, func(*http.Request) (int, any, error) { return 0, nil, objects.ErrNotFound })
	return identified(sameOrigin(mux))
}

// identified gives each answer an id.
func identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(requestid.Header, requestid.New().String())
		next.ServeHTTP(w, r)
	})
}

// sameOrigin keeps other sites from leading a browser here that remembers the
// operator's credentials.
func sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, objects.ErrForeignPage)
	}))
	return protection.Handler(next)
}

// endpoint answers a request that is allowed: a status, and what to write as
// JSON.
type endpoint func(r *http.Request) (status int, body any, err error)

func (h *handler) route(mux *http.ServeMux, pattern string, needs Needs, e endpoint) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r, ok := h.enter(w, r, needs)
		if !ok {
			return
		}
		status, body, err := e(r)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		jsonbody.Write(w, status, body)
	})
}

// enter returns a request that is allowed, with its actor in the context. It
// answers one that is not.
func (h *handler) enter(w http.ResponseWriter, r *http.Request, needs Needs) (_ *http.Request, ok bool) {
	return h.enterWith(w, r, needs, maxBody)
}

// enterWith is enter for a request whose body may be larger than others'.
func (h *handler) enterWith(w http.ResponseWriter, r *http.Request, needs Needs, body int64) (_ *http.Request, ok bool) {
	actor, err := h.allow(r, needs)
	if err != nil {
		writeError(w, r, err)
		return r, false
	}
	r = r.WithContext(context.WithValue(r.Context(), actorKey{}, actor))
	r.Body = http.MaxBytesReader(w, r.Body, body)
	return r, true
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	h.logger.Info("operator's request failed", "request", w.Header().Get(requestid.Header), "method", r.Method, "path", r.URL.Path, "error", err)
	writeError(w, r, err)
}

type actorKey struct{}

// record writes to the audit log what a request did, unless it failed, and
// passes its error on.
func (h *handler) record(r *http.Request, err error, what string, details ...any) error {
	if err == nil {
		actor, _ := r.Context().Value(actorKey{}).(audit.Actor)
		h.audit.Record(what, actor, details...)
	}
	return err
}

func (h *handler) status(r *http.Request) (int, any, error) {
	s, err := h.node.Status(r.Context())
	return http.StatusOK, s, err
}

func (h *handler) verify(r *http.Request) (int, any, error) {
	v, err := h.node.Verify(r.Context())
	return http.StatusOK, v, err
}

func (h *handler) enrol(r *http.Request) (int, any, error) {
	var asked Enrol
	if err := jsonbody.Read(r, &asked); err != nil {
		return 0, nil, err
	}
	e, err := h.node.Enrolment(r.Context(), asked)
	return http.StatusOK, e, h.record(r, err, "cluster key handed out")
}

func (h *handler) addMember(r *http.Request) (int, any, error) {
	var m Member
	if err := jsonbody.Read(r, &m); err != nil {
		return 0, nil, err
	}
	if m.ID == "" || m.Raft == "" {
		return 0, nil, objects.ErrParameter.With("id and raft are required")
	}
	err := h.node.AddMember(r.Context(), m)
	return http.StatusCreated, m, h.record(r, err, "node added", "member", m.ID, "address", m.Raft)
}

func (h *handler) removeMember(r *http.Request) (int, any, error) {
	id := r.PathValue("id")
	return http.StatusNoContent, nil, h.record(r, h.node.RemoveMember(r.Context(), id), "node removed", "member", id)
}

func (h *handler) leave(r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, h.record(r, h.node.Leave(r.Context()), "node left")
}

func (h *handler) snapshot(r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, h.node.Snapshot(r.Context())
}

func (h *handler) createKey(r *http.Request) (int, any, error) {
	var k NewKey
	if err := jsonbody.Read(r, &k); err != nil {
		return 0, nil, err
	}
	if k.FriendlyName != "" {
		if err := objects.ValidateFriendlyName(k.FriendlyName); err != nil {
			return 0, nil, err
		}
	}
	key, err := h.node.CreateKey(r.Context(), k)
	return http.StatusCreated, key, h.record(r, err, "key created", "key", key.SID, "name", key.FriendlyName, "may", key.May())
}

func (h *handler) keys(r *http.Request) (int, any, error) {
	keys, err := h.node.Keys(r.Context())
	return http.StatusOK, KeyList{Keys: keys}, err
}

func (h *handler) revokeKey(r *http.Request) (int, any, error) {
	sid, ok := objects.ParseSID(r.PathValue("sid"))
	if !ok || sid.Kind() != objects.KindKey {
		return 0, nil, objects.ErrNotFound
	}
	return http.StatusNoContent, nil, h.record(r, h.node.RevokeKey(r.Context(), sid), "key revoked", "key", sid.String())
}

func (h *handler) rotateKey(r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, h.record(r, h.node.RotateKey(r.Context()), "change of the cluster key begun")
}

func (h *handler) keyRotation(r *http.Request) (int, any, error) {
	k, err := h.node.KeyRotation(r.Context())
	return http.StatusOK, k, err
}

func (h *handler) addAuthToken(r *http.Request) (int, any, error) {
	token, err := h.node.AddAuthToken(r.Context())
	return http.StatusCreated, AuthToken{token}, h.record(r, err, "second auth token added")
}

func (h *handler) promoteAuthToken(r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, h.record(r, h.node.PromoteAuthToken(r.Context()), "second auth token promoted")
}

func (h *handler) dropAuthToken(r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, h.record(r, h.node.DropAuthToken(r.Context()), "second auth token dropped")
}

func alive(w http.ResponseWriter, _ *http.Request) {
	jsonbody.Write(w, http.StatusOK, map[string]string{"status": "alive"})
}

// readiness is the answer of /readyz.
type readiness struct {
	Status string   `json:"status"`
	Reason string   `json:"reason,omitempty"` // why the node is not ready
	Notes  []string `json:"notes,omitempty"`
}

func ready(w http.ResponseWriter, why error, notes []string) {
	if why != nil {
		jsonbody.Write(w, http.StatusServiceUnavailable, readiness{Status: "not ready", Reason: why.Error(), Notes: notes})
		return
	}
	jsonbody.Write(w, http.StatusOK, readiness{Status: "ready", Notes: notes})
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*objects.Error](err)
	if !ok {
		// The operator asks, and may know the reason.
		e = objects.ErrInternal.With("%v", err)
	}
	if e.Status == http.StatusUnauthorized {
		auth.Challenge(w.Header(), r)
	}
	refusal.Write(w, e)
}
