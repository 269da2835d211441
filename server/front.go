package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/cluster/loglimit"
	"lockstep/objects"
	"lockstep/server/rest"
)

// front is the listener for clients and operators, or one for each. It answers
// from the first moment on; what it answers changes with the state of the node.
type front struct {
	url      string // by which clients and nodes reach it
	adminURL string // by which operators do, if they have a listener of their own

	servers []*http.Server
	serving sync.WaitGroup
	failed  chan error // one of each listener that breaks
	shown   atomic.Pointer[shown]
}

// shown is what is served at the moment.
type shown struct{ clients, operators http.Handler }

// listen opens the listeners. The node is starting until the first show.
func listen(c Config) (*front, error) {
	f := &front{failed: make(chan error, 2)}
	f.show(starting())
	var err error
	if c.AdminAddr == "" {
		f.url, err = f.serve(c, c.HTTPAddr, f.toAll)
		return f, err
	}
	if f.adminURL, err = f.serve(c, c.AdminAddr, f.toOperators); err != nil {
		return nil, err
	}
	if f.url, err = f.serve(c, c.HTTPAddr, f.toClients); err != nil {
		return nil, errors.Join(err, f.close(context.Background()))
	}
	return f, nil
}

// serve opens one listener and returns the URL by which others reach it.
func (f *front) serve(c Config, addr string, handler http.HandlerFunc) (url string, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("listen for clients: %w", err)
	}
	server := &http.Server{
		Handler:           serving(handler),
		ConnContext:       remember,
		ConnState:         notice,
		ReadHeaderTimeout: 5 * time.Second,
		// Longer than the 30 s after which the API itself gives up on a body that
		// does not arrive: its answer has to reach the client.
		ReadTimeout:    35 * time.Second,
		WriteTimeout:   time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
		// OPTIONS * is answered as for every path.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     loglimit.Lines(c.Logger, slog.LevelWarn),
	}
	f.servers = append(f.servers, server)
	f.serving.Go(func() {
		if err := server.Serve(limitConnections(l, c)); !errors.Is(err, http.ErrServerClosed) {
			f.failed <- fmt.Errorf("serve %s: %w", addr, err)
		}
	})
	return "http://" + c.advertised(l.Addr().String()), nil
}

// show changes what is served, for requests that start from now on.
func (f *front) show(clients, operators http.Handler) { f.shown.Store(&shown{clients, operators}) }

// toAll serves clients and operators on one listener.
func (f *front) toAll(w http.ResponseWriter, r *http.Request) {
	now := f.shown.Load()
	if isForOperators(r.URL.Path) && r.Method != http.MethodOptions {
		now.operators.ServeHTTP(w, r)
		return
	}
	now.clients.ServeHTTP(w, r)
}

// toClients serves clients, whose listener knows nothing of operators.
func (f *front) toClients(w http.ResponseWriter, r *http.Request) {
	if isForOperators(r.URL.Path) {
		notHere.ServeHTTP(w, r)
		return
	}
	f.shown.Load().clients.ServeHTTP(w, r)
}

// toOperators serves operators only.
func (f *front) toOperators(w http.ResponseWriter, r *http.Request) {
	f.shown.Load().operators.ServeHTTP(w, r)
}

var notHere = rest.Refusal(objects.ErrNotFound.With("This is the node's address for clients; operators have one of their own (--admin-addr)"))

// isForOperators reports whether a path is one of package admin's.
func isForOperators(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/metrics" || path == "/cluster" || strings.HasPrefix(path, "/cluster/")
}

// close stops accepting, and waits for the requests under way until ctx ends;
// then it cuts them off.
func (f *front) close(ctx context.Context) error {
	var errs []error
	for _, s := range f.servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("requests cut off: %w", err), s.Close())
		}
	}
	f.serving.Wait()
	return errors.Join(errs...)
}
