package server

import (
	"io"
	"net/http"
	"sync/atomic"

	"lockstep/cluster"
	"lockstep/server/auth"
	"lockstep/server/durablestreams"
	"lockstep/server/realtime"
	"lockstep/server/rest"
)

// router leads clients' requests to the protocol that they speak, while the node
// may serve it.
type router struct {
	rest     http.Handler
	durable  http.Handler // of durable streams
	realtime *realtime.Server

	cluster  *cluster.Node
	keys     auth.Keyring
	gate     *drainGate   // of REST requests
	stopping *atomic.Bool // or leaving
	adminURL string       // of an address for operators, if they have one of their own
}

// ServeHTTP implements http.Handler.
func (r *router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch path := req.URL.Path; {
	case req.Method == http.MethodOptions && durablestreams.Serves(req.URL):
		r.durable.ServeHTTP(w, req)
	case req.Method == http.MethodOptions:
		r.rest.ServeHTTP(w, req)
	case path == "/":
		r.about(w, req)
	case !r.serves():
		rest.Unavailable("it is starting").ServeHTTP(w, req)
	case r.faulty():
		rest.Unavailable(faultReason).ServeHTTP(w, req)
	case isRealtime(path) && r.stopping.Load():
		rest.Unavailable("it is stopping").ServeHTTP(w, req)
	case path == realtime.ExchangePath:
		r.realtime.ServeExchange(w, req)
	case isRealtime(path):
		r.realtime.ServeHTTP(w, req)
	case durablestreams.Serves(req.URL):
		r.serveGated(r.durable, w, req)
	default:
		r.serveGated(r.rest, w, req)
	}
}

func isRealtime(path string) bool {
	return path == realtime.Path || path == realtime.OldPath || path == realtime.ExchangePath
}

// serves reports whether the node knows the state: it has caught up since its
// start, and the cluster has an account, without which nobody's credentials are
// right.
func (r *router) serves() bool {
	select {
	case <-r.cluster.Ready():
	default:
		return false
	}
	account, _ := r.keys.Account()
	return account != ""
}

// faulty reports whether this node's state may not be relied upon.
func (r *router) faulty() bool {
	_, fault := r.cluster.Fault()
	return fault != nil
}

// serveGated keeps clients out while the node leaves its cluster.
func (r *router) serveGated(handler http.Handler, w http.ResponseWriter, req *http.Request) {
	if !r.gate.enter() {
		rest.Unavailable("it is leaving its cluster").ServeHTTP(w, req)
		return
	}
	defer r.gate.leave()
	handler.ServeHTTP(w, req)
}

// about tells a person what this is.
func (r *router) about(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	operators := `,"health":["/healthz","/readyz"],"metrics":"/metrics"`
	if r.adminURL != "" {
		operators = "" // clients need not know where
	}
	// What fails here is the connection; there is nobody left to tell.
	_, _ = io.WriteString(w, `{"name":"lockstep","rest":"/v1","realtime":"/v3/wsconnect"`+operators+"}\n")
}
