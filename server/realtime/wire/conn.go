// Package wire is the bytes of the realtime protocol: connections, the messages in
// them, and what notifications say. It reads what clients send, and makes the
// frames that they get, ready to be written and to be shared.
//
// It knows neither sessions nor operations and decides on nothing: who is let in,
// what is answered and when a connection ends is up to package realtime.
//
// A Conn is read from by one goroutine and written to by one. The package starts
// none.
package wire

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

const (
	// WriteSize is how much goes into one write, and into a shared buffer.
	WriteSize = 64 << 10

	// lingerTime is how long a client may take to close its end after the last
	// frame. Closing at once would destroy what it has not read yet.
	lingerTime = 2 * time.Second
)

// Conn is a client's connection. Reading is the websocket library's.
// Writing is this package's alone, in whole frames that are ready as they are,
// by one goroutine: so all that waits goes into one write. The library would give
// each message a write of its own, and make its frame anew for each client.
type Conn struct {
	ws        *websocket.Conn
	conn      net.Conn
	raw       syscall.RawConn // of conn; nil: it has none
	incoming  *incoming
	br        *bufio.Reader // from which the library reads
	shared    *bufio.Reader // whose buffer br has; nil: it has its own, or none
	timeout   time.Duration // of one write
	finishing atomic.Bool   // the last frame is written
	resting   resting
	idle      bool  // Read has returned ErrIdle; the reader's
	number    int32 // the poller's
}

// patience is until when a client has to give a sign of life. The connection's own
// deadline is moved when it is over, not with every sign.
type patience struct {
	mu       sync.Mutex
	rests    bool      // it is looked at whether nothing comes for a moment
	heard    time.Time // when the time was moved last
	due      time.Time
	deadline time.Time // of the connection, not after due
	final    bool
}

// expect moves the time.
func (p *patience) expect(conn net.Conn, within time.Duration, final bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.final {
		return
	}
	p.heard = time.Now()
	p.due, p.final = p.heard.Add(within), final
	if next := p.next(p.rests); p.deadline.IsZero() || next.Before(p.deadline) {
		p.deadline = next
		conn.SetReadDeadline(next)
	}
}

// next returns when it will be time to look.
func (p *patience) next(mayRest bool) time.Time {
	if rest := p.heard.Add(restAfter); mayRest && !p.final && rest.Before(p.due) {
		return rest
	}
	return p.due
}

// over is called when the connection's deadline is. It returns nil if there is time
// left; between messages a connection may rest then.
func (p *patience) over(conn net.Conn, between bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !now.Before(p.due) {
		p.deadline = p.due
		return os.ErrDeadlineExceeded
	}
	p.deadline = p.next(p.rests && between)
	idle := !now.Before(p.deadline)
	if idle {
		p.deadline = p.due
	}
	conn.SetReadDeadline(p.deadline)
	if idle {
		return ErrIdle
	}
	return nil
}

func (p *patience) mayRest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rests = true
}

func (p *patience) until() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.due
}

// Upgrader makes connections of requests.
type Upgrader struct {
	// Refuse answers a request that is no websocket's.
	Refuse func(w http.ResponseWriter, status int, reason error)

	// DiscardBytes are what is read at most of a message that is refused: what is
	// above the limit of a message is read past, not kept, and this is where that
	// ends.
	DiscardBytes int64

	WriteTimeout time.Duration // of one write of at most WriteSize
}

// buffers are used for nothing: an idle client keeps no buffer.
var buffers sync.Pool

// Upgrade takes a connection over. If it fails, the request has been answered.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	upgrader := websocket.Upgrader{
		WriteBufferSize: 1024,
		WriteBufferPool: &buffers,
		// The credential is the token in the first message, not a cookie: a
		// foreign page has no power over it.
		CheckOrigin: func(*http.Request) bool { return true },
		Error:       func(w http.ResponseWriter, _ *http.Request, status int, reason error) { u.Refuse(w, status, reason) },
	}
	h := &hijacker{ResponseWriter: w}
	ws, err := upgrader.Upgrade(h, r, nil)
	if err != nil {
		return nil, err
	}
	h.conn.silent.Store(true)
	ws.SetReadLimit(u.DiscardBytes)
	c := &Conn{ws: ws, conn: h.conn.Conn, incoming: h.conn, br: h.br, timeout: u.WriteTimeout}
	if s, ok := c.conn.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
	return c, nil
}

// hijacker gives the websocket library a connection that it can read from, and
// write to until the handshake is over. Later it would write on its own when a
// client breaks the rules, across the writer.
type hijacker struct {
	http.ResponseWriter
	conn *incoming
	br   *bufio.Reader
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = &incoming{Conn: conn}
	if rw.Reader.Buffered() > 0 {
		return h.conn, rw, nil // which the library does not accept
	}
	h.br = bufio.NewReaderSize(h.conn, ownSize)
	return h.conn, bufio.NewReadWriter(h.br, rw.Writer), nil
}

// incoming is the side of a connection that is read from.
type incoming struct {
	net.Conn
	patience patience
	mayRest  bool // the reader's, as is the next one
	between  bool // messages
	silent   atomic.Bool
	pace     *rate.Limiter // of bytes; nil: none
	ctx      context.Context
}

// paceFor is for how long a client may send faster than its pace: many clients
// have much to say when they come back.
const paceFor = 8 * time.Second

// SetPace keeps a client from sending more than so many bytes a second: what it
// sends faster waits on its side, until the context ends. It is called before the
// first message.
func (c *Conn) SetPace(ctx context.Context, perSecond int64) {
	if perSecond > 0 {
		c.incoming.ctx = ctx
		c.incoming.pace = rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond*int64(paceFor/time.Second), WriteSize)))
	}
}

// Read implements io.Reader.
func (c *incoming) Read(b []byte) (int, error) {
	if c.pace != nil {
		b = b[:min(len(b), WriteSize)]
	}
	n, err := c.Conn.Read(b)
	for errors.Is(err, os.ErrDeadlineExceeded) {
		if err = c.patience.over(c.Conn, c.between); err != nil {
			return 0, err
		}
		n, err = c.Conn.Read(b)
	}
	if c.pace != nil && n > 0 {
		if waiting := c.pace.WaitN(c.ctx, n); err == nil {
			err = waiting
		}
	}
	return n, err
}

// Write implements io.Writer.
func (c *incoming) Write(b []byte) (int, error) {
	if c.silent.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// readers are buffers that all connections share: one holds one only while there
// is something to read.
var readers = sync.Pool{New: func() any { return &reader{Reader: bufio.NewReaderSize(nil, readSize)} }}

// reader is a buffer and the message that is in it.
type reader struct {
	*bufio.Reader
	message Message
}

// readSize is the buffer of a message that is on its way in. Most headers fit.
const readSize = 4 << 10

// Read waits for the next message, as long as the client may be silent, reads its
// header, and has it handled: with ErrMalformed if it is none. The message's
// payload can be read during the call. limit is that of a message, in bytes.
// After ErrIdle it can be called again.
func (c *Conn) Read(silence time.Duration, limit int, handle func(m *Message, err error) (more bool)) (more bool, err error) {
	if !c.idle { // a sign of life is a message, not its beginning
		c.Expect(silence)
	}
	c.takeBuffer()
	if err := c.await(); err != nil {
		return true, err
	}
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return false, err
	}
	buffer := readers.Get().(*reader)
	buffer.Reset(r)
	defer func() {
		buffer.Reset(nil)
		buffer.message = Message{}
		readers.Put(buffer)
	}()
	buffer.message, err = readMessage(buffer.Reader, limit)
	if err == nil && kind != websocket.BinaryMessage {
		err = ErrMalformed
	}
	if err != nil && !errors.Is(err, ErrMalformed) {
		return false, err
	}
	return handle(&buffer.message, err), nil
}

// Expect gives the client this long until its next sign of life.
func (c *Conn) Expect(within time.Duration) { c.incoming.patience.expect(c.conn, within, false) }

// OnPing and OnPong set what is called by Read when the client sends a ping or a
// pong. An error ends the connection.
func (c *Conn) OnPing(f func(data string) error) { c.ws.SetPingHandler(f) }

// OnPong is described at OnPing.
func (c *Conn) OnPong(f func(data string) error) { c.ws.SetPongHandler(f) }

// Finish is called behind the last frame: the client has a moment to read it and
// to close its end.
func (c *Conn) Finish() {
	c.finishing.Store(true)
	c.incoming.patience.expect(c.conn, lingerTime, true)
	c.wake(true)
}

// Finishing reports whether Finish has been called.
func (c *Conn) Finishing() bool { return c.finishing.Load() }

// AwaitEnd reads past whatever comes until the connection ends.
func (c *Conn) AwaitEnd() {
	for {
		if _, _, err := c.ws.NextReader(); err != nil {
			return
		}
	}
}

// Write sends the rest of whole frames. The client has to take each part of
// WriteSize within the timeout.
func (c *Conn) Write(b []byte) error {
	for len(b) > 0 {
		part := b[:min(len(b), WriteSize)]
		c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
		if _, err := c.conn.Write(part); err != nil {
			return err
		}
		b = b[len(part):]
	}
	return c.conn.SetWriteDeadline(time.Time{})
}

// Offer is a Write that does not wait: it returns how much the connection has
// taken, which is nothing where only Write can tell.
func (c *Conn) Offer(b []byte) (n int, err error) {
	if c.raw == nil || len(b) == 0 {
		return 0, nil
	}
	o := offers.Get().(*offer)
	defer offers.Put(o)
	o.b = b
	if err := c.raw.Write(o.write); err != nil {
		return 0, err
	}
	o.b = nil
	return o.n, o.err
}

// offer is the system call of an Offer.
type offer struct {
	write func(fd uintptr) (done bool)
	b     []byte
	n     int
	err   error
}

var offers = sync.Pool{New: func() any {
	o := new(offer)
	o.write = func(fd uintptr) bool {
		o.n, o.err = writeNow(fd, o.b)
		return true
	}
	return o
}}

// Close ends the connection at once.
func (c *Conn) Close() {
	c.conn.Close()
	c.wake(true)
	c.resting.mu.Lock()
	poller := c.resting.poller
	c.resting.mu.Unlock()
	if poller != nil {
		poller.forget(c)
	}
}

// ErrTooLong is the error of Read when a message goes beyond what is discarded.
var ErrTooLong = websocket.ErrReadLimit

// IsGoodbye reports whether an error of Read says that the client has closed its
// websocket, and not only its connection.
func IsGoodbye(err error) bool {
	closed, ok := errors.AsType[*websocket.CloseError](err)
	return ok && closed.Code != websocket.CloseAbnormalClosure
}

// CloseCode is the code of a frame that closes a websocket (RFC 6455, 7.4).
type CloseCode uint16

// The codes that the server sends.
const (
	CloseNormal         CloseCode = websocket.CloseNormalClosure
	CloseTooBig         CloseCode = websocket.CloseMessageTooBig
	CloseServiceRestart CloseCode = websocket.CloseServiceRestart
)

// The opcodes of RFC 6455 that the server sends.
const (
	opBinary = 0x2
	opClose  = 0x8
	opPong   = 0xA
)

// maxFrameHeader is the length of the longest header.
const maxFrameHeader = 10

// appendFrameHeader appends the header of an unmasked, final frame (RFC 6455,
// 5.2).
func appendFrameHeader(b []byte, op byte, size int) []byte {
	b = append(b, 0x80|op)
	switch {
	case size < 126:
		return append(b, byte(size))
	case size < 1<<16:
		return append(b, 126, byte(size>>8), byte(size))
	}
	return append(b, 127, 0, 0, 0, 0, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
}

// AppendClose appends the frame that closes a websocket (RFC 6455, 5.5.1).
func AppendClose(b []byte, code CloseCode) []byte {
	return append(appendFrameHeader(b, opClose, 2), byte(code>>8), byte(code))
}

// Pong answers a ping of the websocket. A control frame has at most 125 bytes.
func Pong(data string) []byte {
	return append(appendFrameHeader(nil, opPong, len(data)), data...)
}
