// Package plain serves the requests that nearly all clients send nearly always,
// without what net/http has to be ready for: GET, POST and DELETE over HTTP/1.1
// on a kept-alive connection, in the strictest form of the grammar, of one place
// at most 16 KiB together with their body, which has arrived whole.
//
// Whatever else comes, another method or version, an upgrade, a body in chunks or
// one that is large or slow, a form that others might read differently, an error:
// the connection goes to net/http with all the bytes that were read of the
// request, and stays there. So this package never refuses a request, and never
// has to guess what one means.
//
// A handler is called as net/http does, with the same requests, and its answers
// are the same bytes. It must not keep a request beyond its call, nor change its
// header; both are used again.
//
// One goroutine serves a connection, and one looks at all of them four times a
// second: it ends what takes too long, and tells requests whose client is gone.
// Serve starts them; Shutdown and Close wait for their end.
package plain

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a connection that can be handed to net/http.
type Conn interface {
	net.Conn

	// Unread has the next reads return b before anything else. It is called
	// once, and b is not used by others afterwards.
	Unread(b []byte)

	// Busy and Idle are called before and after each request is served.
	Busy()
	Idle()
}

// Server serves connections. All fields but Other are its own; time-outs and the
// log are those of Other.
type Server struct {
	// Handler answers the plain requests for targets below Prefix.
	Handler http.Handler
	Prefix  string

	// Except are parts of targets that are not for Handler here, since their answers
	// take long: requests for them go to Other.
	Except []string

	// Timeout bounds the context of a plain request.
	Timeout time.Duration

	// Other gets the connections that send anything else. Its WriteTimeout and
	// IdleTimeout hold for plain requests, too, and must be set.
	Other *http.Server

	excepted [][]byte // Except

	stopping atomic.Bool
	ticks    atomic.Int64 // since the start, of the watch
	started  time.Time

	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners []net.Listener
	handed    *handed
	serving   sync.WaitGroup // the connections
	watching  sync.WaitGroup
	stop      context.CancelFunc // of the watch, and of all requests
	base      context.Context
}

// Serve takes in the connections of a listener, each of which must be a Conn,
// until Shutdown or Close; then it returns http.ErrServerClosed. It is called once.
func (s *Server) Serve(l net.Listener) error {
	if !s.start(l) {
		return errors.Join(http.ErrServerClosed, l.Close())
	}
	var pause time.Duration
	for {
		accepted, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.take(accepted.(Conn))
		case s.stopping.Load():
			return http.ErrServerClosed
		case !isTemporary(err):
			return err
		default: // such as too many open files
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logf("plain: accept error: %v; trying again in %v", err, pause)
			select {
			case <-time.After(pause):
			case <-s.base.Done():
			}
		}
	}
}

// isTemporary reports whether accepting may succeed when it is tried again, by the
// method of the errors of system calls; net/http has no other sign of it either.
func isTemporary(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && e.Temporary()
}

func (s *Server) start(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.started = time.Now()
	s.base, s.stop = context.WithCancel(context.Background())
	s.conns = make(map[*conn]struct{})
	for _, part := range s.Except {
		s.excepted = append(s.excepted, []byte(part))
	}
	s.listeners = append(s.listeners, l)
	s.handed = &handed{conns: make(chan net.Conn), closed: make(chan struct{}), addr: l.Addr()}
	s.watching.Go(func() { s.watch(s.base) })
	s.watching.Go(func() {
		if err := s.Other.Serve(s.handed); !errors.Is(err, http.ErrServerClosed) {
			s.logf("plain: %v", err)
		}
	})
	return true
}

// take serves a connection in a goroutine of its own.
func (s *Server) take(n Conn) {
	c := &conn{server: s, net: n}
	c.answer.conn = c
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		n.Close()
		return
	}
	s.conns[c] = struct{}{}
	c.since.Store(s.ticks.Load())
	s.serving.Go(c.serve)
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Shutdown stops accepting, closes the connections that wait for a request, and
// waits for the requests under way, those of net/http included, until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Other.SetKeepAlivesEnabled(false) // whatever it answers from now on is the last
	if !s.stopAccepting() {
		return nil
	}
	served := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(served)
	}()
	select {
	case <-served:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := s.Other.Shutdown(ctx)
	if err == nil {
		s.stop()
		s.watching.Wait()
	}
	return err
}

// Close cuts off what Shutdown would wait for.
func (s *Server) Close() error {
	if !s.stopAccepting() {
		return nil
	}
	s.stop()
	err := s.Other.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.net.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
	s.watching.Wait()
	return err
}

// stopAccepting closes the listeners and the connections that wait for a request.
// It reports false if nothing was ever served.
func (s *Server) stopAccepting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping.Store(true)
	for _, l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.closeIfWaiting()
	}
	return s.listeners != nil
}

func (s *Server) logf(format string, args ...any) {
	if s.Other.ErrorLog != nil {
		s.Other.ErrorLog.Printf(format, args...)
	}
}

// handed is the listener whose connections net/http gets.
type handed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }

func (h *handed) put(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}
