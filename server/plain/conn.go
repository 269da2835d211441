package plain

import (
	"context"
	"errors"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// smallBuffer is what a connection keeps for its requests; one that is larger
	// has a buffer of its own, up to largeBuffer.
	smallBuffer = 2 << 10
	largeBuffer = 16 << 10

	// patience is how long the rest of a request may take. Then it is net/http's
	// to wait for.
	patience = 200 * time.Millisecond
)

// The states of a connection.
type state uint8

const (
	waiting state = iota // for a request of which nothing has arrived
	reading              // a request that has begun to arrive
	serving
	closed
)

// conn is a connection on which requests are plain, so far.
type conn struct {
	server *Server
	net    Conn

	mu      sync.Mutex // guards the next ones
	state   state
	context *requestContext
	since   atomic.Int64 // the tick at which the state changed

	// The rest is for the goroutine that serves.

	buf     []byte // what has arrived and is not served
	request *request
	answer  response
	hurried bool // the rest of a request has a deadline
	ended   bool // nothing more will arrive
	served  bool // the last request, and the next one has not begun
	posted  bool // the last request was a POST
}

func (c *conn) serve() {
	kept := false
	defer func() {
		c.server.forget(c)
		if !kept {
			c.net.Close()
		}
		if c.context != nil {
			c.context.cancel()
		}
	}()
	c.buf = make([]byte, 0, smallBuffer)
	for c.wait() {
		verdict, size := incomplete, 0
		if c.begun() {
			verdict, size = c.request.parse(c.buf)
		}
		switch {
		case verdict == incomplete && c.read():
		case verdict != whole:
			kept = c.handOver()
			return
		case !c.begin() || !c.respond() || !c.end(size):
			return
		}
	}
}

// wait waits for the beginning of a request.
func (c *conn) wait() bool {
	for len(c.buf) == 0 {
		if !c.unhurry() || !c.change(reading, waiting) || !c.fill() {
			return false
		}
	}
	if c.request == nil {
		c.request = newRequest(c)
	}
	return true
}

// begun reports whether enough of a request has arrived to look at it: net/http
// takes less than four bytes after an answer for the rest of that.
func (c *conn) begun() bool {
	if c.served && len(c.buf) < 4 {
		return false
	}
	c.skipLines()
	return true
}

// skipLines skips the empty lines that old clients send after the body of a POST.
func (c *conn) skipLines() {
	n := 0
	for c.served && c.posted && n < min(4, len(c.buf)) && (c.buf[n] == '\r' || c.buf[n] == '\n') {
		n++
	}
	if n > 0 {
		c.buf = c.buf[:copy(c.buf, c.buf[n:])]
	}
	c.served = false
}

// read waits for the rest of a request. It reports false when that is net/http's
// to do.
func (c *conn) read() bool {
	if !c.hurried {
		if !c.change(waiting, reading) || c.net.SetReadDeadline(time.Now().Add(patience)) != nil {
			return false
		}
		c.hurried = true
	}
	if len(c.buf) == cap(c.buf) {
		if len(c.buf) >= largeBuffer {
			return false
		}
		c.buf = append(make([]byte, 0, largeBuffer), c.buf...)
	}
	return c.fill()
}

func (c *conn) fill() bool {
	n, err := c.net.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	c.ended = err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	return n > 0
}

// unhurry takes back the deadline of the rest of a request.
func (c *conn) unhurry() bool {
	if !c.hurried {
		return true
	}
	c.hurried = false
	return c.net.SetReadDeadline(time.Time{}) == nil
}

// handOver gives the connection to net/http, and reports whether it did.
func (c *conn) handOver() bool {
	if c.served && c.ended || !c.unhurry() || !c.change(waiting, reading) {
		return false
	}
	c.skipLines()
	c.net.Unread(c.buf)
	c.server.forget(c)
	c.server.handed.put(c.net)
	return true
}

// change changes the state, and reports false if the connection was closed.
func (c *conn) change(from, to state) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == from {
		c.state = to
	}
	return c.state == to
}

// begin reports whether a request that has arrived is to be served.
func (c *conn) begin() bool {
	if !c.unhurry() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == closed {
		return false
	}
	if c.context == nil || c.context.Err() != nil {
		c.context = newRequestContext(c)
		c.request.renew(c.context)
	}
	c.since.Store(c.server.ticks.Load())
	c.state = serving
	return true
}

// respond has the request answered. It reports whether the connection serves on.
func (c *conn) respond() (goesOn bool) {
	c.net.Busy()
	defer c.net.Idle()
	defer func() {
		if fault := recover(); fault != nil {
			goesOn = false
			if fault != http.ErrAbortHandler {
				c.server.logf("plain: panic serving %v: %v\n%s", c.net.RemoteAddr(), fault, debug.Stack())
			}
		}
	}()
	c.answer.reset()
	c.server.Handler.ServeHTTP(&c.answer, c.request.http)
	c.answer.send()
	return c.answer.goesOn
}

// end makes the connection ready for the next request, which may have arrived.
func (c *conn) end(size int) bool {
	rest := c.buf[size:]
	if cap(c.buf) > smallBuffer && len(rest) <= smallBuffer {
		c.buf = make([]byte, 0, smallBuffer)
	}
	c.buf = append(c.buf[:0], rest...)
	c.served, c.posted = true, c.request.http.Method == http.MethodPost
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since.Store(c.server.ticks.Load())
	c.state = waiting
	return !c.server.stopping.Load()
}

// closeIfWaiting closes the connection if no request has begun to arrive.
func (c *conn) closeIfWaiting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == waiting {
		c.state = closed
		c.net.Close()
	}
}

// requestContext is that of the requests of a connection, one after the other,
// until one of them is given up: then the next one has a new one.
type requestContext struct {
	context.Context
	cancel context.CancelFunc
	conn   *conn
	late   atomic.Bool
}

func newRequestContext(c *conn) *requestContext {
	x := &requestContext{conn: c}
	x.Context, x.cancel = context.WithCancel(c.server.base)
	return x
}

// Deadline implements context.Context: that of the request being served.
func (x *requestContext) Deadline() (time.Time, bool) {
	s := x.conn.server
	return s.started.Add(time.Duration(x.conn.since.Load())*tick + s.Timeout), true
}

// Err implements context.Context.
func (x *requestContext) Err() error {
	err := x.Context.Err()
	if err != nil && x.late.Load() {
		return context.DeadlineExceeded
	}
	return err
}

// Value implements context.Context.
func (x *requestContext) Value(key any) any {
	if key == http.LocalAddrContextKey {
		return x.conn.net.LocalAddr()
	}
	return x.Context.Value(key)
}
