package realtime

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"lockstep/objects"
	"lockstep/server/refusal"
)

const (
	// writeSize is how much goes into one write, and into a shared buffer.
	writeSize = 64 << 10

	// lingerTime is how long a client may take to close its end after the last
	// frame. Closing at once would destroy what it has not read yet.
	lingerTime = 2 * time.Second
)

// socket is a client's connection. Reading is the websocket library's.
// Writing is this package's alone, in whole frames that are ready as they are,
// by one goroutine: so all that waits goes into one write. The library would give
// each message a write of its own, and make its frame anew for each client.
type socket struct {
	ws       *websocket.Conn
	conn     net.Conn
	incoming *incoming
	timeout  time.Duration // of one write
	ending   atomic.Bool   // the last frame is written
}

func newUpgrader() websocket.Upgrader {
	return websocket.Upgrader{
		ReadBufferSize:  1024,
		WriteBufferSize: 1024,
		WriteBufferPool: new(sync.Pool), // used for nothing: an idle client keeps no buffer
		// The credential is the token in the first message, not a cookie: a
		// foreign page has no power over it.
		CheckOrigin: func(*http.Request) bool { return true },
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			e := objects.ErrParameter.With("%v", reason)
			e.Status = status
			refusal.Write(w, e)
		},
	}
}

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) (*socket, error) {
	h := &hijacker{ResponseWriter: w}
	ws, err := s.upgrader.Upgrade(h, r, nil)
	if err != nil {
		return nil, err
	}
	h.conn.silent.Store(true)
	// What is above the limit of a message is read past, not kept. This is where
	// that ends.
	ws.SetReadLimit(s.config.DiscardBytes)
	return &socket{ws: ws, conn: h.conn.Conn, incoming: h.conn, timeout: s.config.WriteTimeout}, nil
}

// hijacker gives the websocket library a connection that it can read from, and
// write to until the handshake is over. Later it would write on its own when a
// client breaks the rules, across the writer.
type hijacker struct {
	http.ResponseWriter
	conn *incoming
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = &incoming{Conn: conn}
	return h.conn, rw, nil
}

// incoming is the side of a connection that is read from.
type incoming struct {
	net.Conn
	silent atomic.Bool
	pace   *rate.Limiter // of bytes; nil: none
	ctx    context.Context
}

// paceFor is for how long a client may send faster than its pace: many clients
// have much to say when they come back.
const paceFor = 8 * time.Second

// setPace keeps a client from sending more than so many bytes a second: what it
// sends faster waits on its side. It is called before the first message.
func (c *incoming) setPace(ctx context.Context, perSecond int64) {
	if perSecond > 0 {
		c.ctx = ctx
		c.pace = rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond*int64(paceFor/time.Second), writeSize)))
	}
}

// Read implements io.Reader.
func (c *incoming) Read(b []byte) (int, error) {
	if c.pace != nil {
		b = b[:min(len(b), writeSize)]
	}
	n, err := c.Conn.Read(b)
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

// readers and outgoing are buffers that all sessions share: a session holds one
// only while there is something to read or to write.
var (
	readers  = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readSize) }}
	outgoing = sync.Pool{New: func() any { return new([]byte) }}
)

// readSize is the buffer of a message that is on its way in. Most headers fit.
const readSize = 4 << 10

// read waits for the next message, reads its header, and has it handled. The
// message's payload can be read during the call. limit is that of a message, in
// bytes.
func (s *socket) read(silence time.Duration, limit int, handle func(m *message, err error) (more bool)) (more bool, err error) {
	s.expect(silence)
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return false, err
	}
	buffer := readers.Get().(*bufio.Reader)
	buffer.Reset(r)
	defer func() {
		buffer.Reset(nil)
		readers.Put(buffer)
	}()
	m, err := readMessage(buffer, limit)
	if err == nil && kind != websocket.BinaryMessage {
		err = errMessage
	}
	if err != nil && !errors.Is(err, errMessage) {
		return false, err
	}
	return handle(&m, err), nil
}

// expect gives the client this long until its next sign of life.
func (s *socket) expect(within time.Duration) {
	if s.ending.Load() {
		return
	}
	s.conn.SetReadDeadline(time.Now().Add(within))
	if s.ending.Load() {
		s.conn.SetReadDeadline(time.Now().Add(lingerTime))
	}
}

// end is called behind the last frame: the client has a moment to read it and
// to close its end.
func (s *socket) end() {
	s.ending.Store(true)
	s.conn.SetReadDeadline(time.Now().Add(lingerTime))
}

// write sends whole frames. The client has to take each part of writeSize
// within the timeout.
func (s *socket) write(b []byte) error {
	for len(b) > 0 {
		part := b[:min(len(b), writeSize)]
		s.conn.SetWriteDeadline(time.Now().Add(s.timeout))
		if _, err := s.conn.Write(part); err != nil {
			return err
		}
		b = b[len(part):]
	}
	return nil
}

func (s *socket) close() { s.conn.Close() }

// The opcodes of RFC 6455 that the server sends.
const (
	opBinary = 0x2
	opClose  = 0x8
	opPong   = 0xA
)

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

// closeWebsocket returns the frame that closes a websocket (RFC 6455, 5.5.1).
func closeWebsocket(code int) []byte {
	return append(appendFrameHeader(nil, opClose, 2), byte(code>>8), byte(code))
}

// pong answers a ping of the websocket. A control frame has at most 125 bytes.
func pong(data string) []byte {
	return append(appendFrameHeader(nil, opPong, len(data)), data...)
}
