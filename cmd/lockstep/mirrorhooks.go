package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"lockstep/cmd/lockstep/internal/migrate"
)

// hooks are how a mirror hears of changes at once.
type hooks struct {
	listen, url string
}

// start takes webhooks, and has the source send them. The returned function takes both
// back.
func (h *hooks) start(ctx context.Context, m *migrate.Mirror) (stop func() error, err error) {
	if h.listen == "" {
		return func() error { return nil }, nil
	}
	l, err := net.Listen("tcp", h.listen)
	if err != nil {
		return nil, fmt.Errorf("listen for webhooks: %w", err)
	}
	m.Hints = migrate.NewHints()
	s := &http.Server{Handler: m.Hints, ReadTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second, MaxHeaderBytes: 64 << 10}
	served := make(chan error, 1)
	go func() { served <- s.Serve(netutil.LimitListener(l, hookConnections)) }()
	quiet := func() error {
		closed := s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("listen for webhooks: %w", err)
		}
		return closed
	}
	if h.url == "" {
		return quiet, nil
	}
	unhook, err := m.Hook(ctx, h.url)
	stop = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unhookTime)
		defer cancel()
		return errors.Join(unhook(ctx), quiet())
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// hookConnections is how many connections are open to the address for webhooks, which
// strangers may find. The others wait.
const hookConnections = 64

// unhookTime is how long the source has to take the webhooks back.
const unhookTime = 20 * time.Second

// interrupted returns a context that a further signal ends.
func interrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}
