package wire

import (
	"bufio"
	"errors"
	"sync"
	"time"
)

// ErrIdle is the error of Read when nothing has come for a moment, on a connection
// that may rest.
var ErrIdle = errors.New("nothing has come for a moment")

// restAfter is how long nothing comes before a connection may rest.
const restAfter = 250 * time.Millisecond

// resting is where a connection is in having no goroutine that reads from it.
type resting struct {
	mu     sync.Mutex
	poller *Poller // nil: it never rests
	awake  bool    // for good
	resume func()  // it rests
}

// CanRest reports whether a poller can watch the connection. It cannot where TLS may
// have in a buffer what has come.
func (c *Conn) CanRest() bool { return c.raw != nil }

// MayRest has Read return ErrIdle when nothing comes for a moment, if the connection
// can rest and there is a poller. It is called by the goroutine that reads.
func (c *Conn) MayRest(p *Poller) {
	if !c.CanRest() || p == nil {
		return
	}
	c.incoming.mayRest = true
	c.incoming.patience.mayRest()
	c.resting.mu.Lock()
	defer c.resting.mu.Unlock()
	c.resting.poller = p
}

// Rest gives back what reading needs, and has resume called once, by any goroutine,
// when there is something to read or the connection is closed or finished. The
// goroutine that reads calls it after ErrIdle, and does no more with the connection
// if it returns true.
func (c *Conn) Rest(resume func()) bool {
	c.dropBuffer()
	r := &c.resting
	r.mu.Lock()
	if r.awake {
		r.mu.Unlock()
		return false
	}
	r.resume = resume
	poller := r.poller
	r.mu.Unlock()
	if poller.watch(c) == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rests := r.resume == nil // no more: it was woken meanwhile
	r.resume = nil
	return rests
}

// wake ends the connection's rest, if it rests. It may be for good.
func (c *Conn) wake(forGood bool) {
	r := &c.resting
	r.mu.Lock()
	r.awake = r.awake || forGood
	resume := r.resume
	r.resume = nil
	r.mu.Unlock()
	if resume != nil {
		resume()
	}
}

// Overdue reports whether a connection rests whose client should have given a sign of
// life by now. If not, it returns when that will be; zero: the connection does not rest.
func (c *Conn) Overdue(now time.Time) (overdue bool, due time.Time) {
	c.resting.mu.Lock()
	rests := c.resting.resume != nil
	c.resting.mu.Unlock()
	if !rests {
		return false, time.Time{}
	}
	due = c.incoming.patience.until()
	return !now.Before(due), due
}

// await waits for the beginning of a message, or less: the next read meets errors
// again, but for ErrIdle.
func (c *Conn) await() error {
	if !c.incoming.mayRest || c.br.Buffered() > 0 {
		return nil
	}
	c.incoming.between = true
	_, err := c.br.Peek(1)
	c.incoming.between = false
	if c.idle = err == ErrIdle; c.idle {
		return ErrIdle
	}
	return nil
}

// The buffer below the websocket library. One that is shared is held while the
// connection does not rest.
const (
	readerSize = 4 << 10
	ownSize    = 1 << 10 // of one that the connection keeps
)

var sharedBuffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerSize) }}

// takeBuffer is called before reading.
func (c *Conn) takeBuffer() {
	if c.incoming.mayRest && c.shared == nil && c.br.Buffered() == 0 {
		c.shared = sharedBuffers.Get().(*bufio.Reader)
		c.shared.Reset(c.incoming)
		*c.br = *c.shared
	}
}

// dropBuffer is called when nothing is in the buffer.
func (c *Conn) dropBuffer() {
	if c.shared != nil {
		*c.br = bufio.Reader{}
		c.shared.Reset(nil)
		sharedBuffers.Put(c.shared)
		c.shared = nil
	}
}
