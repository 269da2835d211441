package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"lockstep/cluster/loglimit"
)

// front is the listener for clients and operators. It answers from the first
// moment on; what it answers changes with the state of the node.
type front struct {
	url    string // by which others reach it
	server *http.Server
	failed chan error // one, if the listener breaks
	done   chan struct{}
	shown  atomic.Pointer[http.Handler]
}

// listen opens the listener. Nothing is served before the first show.
func listen(c Config, handler http.Handler) (*front, error) {
	l, err := net.Listen("tcp", c.HTTPAddr)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	f := &front{
		url:    "http://" + c.advertised(l.Addr().String()),
		failed: make(chan error, 1),
		done:   make(chan struct{}),
	}
	f.show(handler)
	f.server = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*f.shown.Load()).ServeHTTP(w, r) }),
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
	go func() {
		defer close(f.done)
		if err := f.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.failed <- fmt.Errorf("serve clients: %w", err)
		}
	}()
	return f, nil
}

// show changes what is served, for requests that start from now on.
func (f *front) show(h http.Handler) { f.shown.Store(&h) }

// close stops accepting, and waits for the requests under way until ctx ends;
// then it cuts them off.
func (f *front) close(ctx context.Context) error {
	err := f.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests cut off: %w", err), f.server.Close())
	}
	<-f.done
	return err
}
