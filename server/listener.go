package server

import (
	"context"
	"crypto/tls"
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
	"lockstep/server/admin"
	"lockstep/server/durablestreams"
	"lockstep/server/plain"
	"lockstep/server/rest"
)

// listener takes in clients and operators, on one address or one for each. It answers
// from the first moment on; what it answers changes with the state of the node.
type listener struct {
	url      string // by which clients and nodes reach it
	adminURL string // by which operators do, if they have a listener of their own

	certificate *tls.Config // nil: without TLS

	metricsApart bool // they have a listener of their own

	servers []httpServer
	serving sync.WaitGroup
	failed  chan error // one of each listener that breaks
	shown   atomic.Pointer[shown]
}

// httpServer is net/http's server, or one in front of it.
type httpServer interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// shown is what is served at the moment.
type shown struct{ clients, operators http.Handler }

// listen opens the listeners. The node is starting until the first show.
func listen(c Config, certificate *tls.Config, authority http.Handler) (*listener, error) {
	l := &listener{certificate: certificate, failed: make(chan error, 4)}
	l.show(starting())
	if err := l.open(c, authority); err != nil {
		return nil, errors.Join(err, l.close(context.Background()))
	}
	return l, nil
}

func (l *listener) open(c Config, authority http.Handler) (err error) {
	if c.ACME.HTTPAddr != "" {
		if _, err := l.serve(c, c.ACME.HTTPAddr, nil, authority.ServeHTTP); err != nil {
			return err
		}
	}
	if c.MetricsAddr != "" {
		l.metricsApart = true
		if _, err := l.serve(c, c.MetricsAddr, nil, l.toScrapers); err != nil {
			return err
		}
	}
	if c.AdminAddr == "" {
		l.url, err = l.serve(c, c.HTTPAddr, l.certificate, l.toAll)
		return err
	}
	if l.adminURL, err = l.serve(c, c.AdminAddr, l.certificate, l.toOperators); err != nil {
		return err
	}
	l.url, err = l.serve(c, c.HTTPAddr, l.certificate, l.toClients)
	return err
}

// serve opens one listener and returns the URL by which others reach it.
func (l *listener) serve(c Config, addr string, certificate *tls.Config, handler http.HandlerFunc) (url string, err error) {
	opened, err := net.Listen("tcp", addr)
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
	scheme, accepting := "http", net.Listener(limitConnections(opened, c))
	var front httpServer = &plain.Server{Handler: handler, Prefix: rest.Prefix, Timeout: rest.Timeout, Except: []string{durablestreams.Mark, durablestreams.EventsMark}, Other: server}
	if certificate != nil {
		scheme, accepting, front = "https", tls.NewListener(accepting, certificate), server
	}
	l.servers = append(l.servers, front)
	l.serving.Go(func() {
		if err := front.Serve(accepting); !errors.Is(err, http.ErrServerClosed) {
			l.failed <- fmt.Errorf("serve %s: %w", addr, err)
		}
	})
	return scheme + "://" + c.advertised(opened.Addr().String()), nil
}

// show changes what is served, for requests that start from now on.
func (l *listener) show(clients, operators http.Handler) { l.shown.Store(&shown{clients, operators}) }

// toAll serves clients and operators on one listener.
func (l *listener) toAll(w http.ResponseWriter, r *http.Request) {
	if isForOperators(r.URL.Path) && (r.Method != http.MethodOptions || isConsole(r.URL.Path)) {
		l.toOperators(w, r)
		return
	}
	l.shown.Load().clients.ServeHTTP(w, r)
}

// toClients serves clients, whose listener knows nothing of operators.
func (l *listener) toClients(w http.ResponseWriter, r *http.Request) {
	if isForOperators(r.URL.Path) {
		notHere.ServeHTTP(w, r)
		return
	}
	l.shown.Load().clients.ServeHTTP(w, r)
}

// toOperators serves operators only.
func (l *listener) toOperators(w http.ResponseWriter, r *http.Request) {
	if l.metricsApart && r.URL.Path == metricsPath {
		metricsElsewhere.ServeHTTP(w, r)
		return
	}
	l.shown.Load().operators.ServeHTTP(w, r)
}

// toScrapers serves the metrics and nothing else.
func (l *listener) toScrapers(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != metricsPath {
		onlyMetrics.ServeHTTP(w, r)
		return
	}
	l.shown.Load().operators.ServeHTTP(w, r)
}

const metricsPath = "/metrics"

var (
	metricsElsewhere = rest.Refusal(objects.ErrNotFound.With("The metrics of this node have an address of their own (--metrics-addr)"))
	onlyMetrics      = rest.Refusal(objects.ErrNotFound.With("This is the node's address for its metrics (--metrics-addr)"))
)

var notHere = rest.Refusal(objects.ErrNotFound.With("This is the node's address for clients; operators have one of their own (--admin-addr)"))

// isForOperators reports whether a path is one of package admin's or of the console.
func isForOperators(path string) bool {
	return isConsole(path) || path == "/healthz" || path == "/readyz" || path == metricsPath || path == admin.ResetPath || path == "/cluster" || strings.HasPrefix(path, "/cluster/")
}

// close stops accepting, and waits for the requests under way until ctx ends;
// then it cuts them off.
func (l *listener) close(ctx context.Context) error {
	var errs []error
	for _, s := range l.servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("requests cut off: %w", err), s.Close())
		}
	}
	l.serving.Wait()
	return errors.Join(errs...)
}
