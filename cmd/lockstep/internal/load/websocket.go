package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// WebSocket is a websocket's client side, with a buffer of a kilobyte. One
// goroutine reads; any may write. What it sends has a mask of zero, which saves the
// masking: it is no browser, whose scripts a mask keeps from choosing the bytes.
type WebSocket struct {
	conn net.Conn
	r    *bufio.Reader
	buf  []byte

	mu  sync.Mutex // held while writing
	out []byte
}

// Kinds of websocket message.
const (
	Text   = 1
	Binary = 2
)

// DialWebSocket opens a websocket at a path of an origin, as DialHTTP does.
func DialWebSocket(ctx context.Context, origin, path string, trust *tls.Config) (*WebSocket, error) {
	conn, host, err := dial(ctx, origin, trust)
	if err != nil {
		return nil, err
	}
	w := &WebSocket{conn: conn, r: bufio.NewReaderSize(conn, 8<<10)}
	if err := w.handshake(host, path); err != nil {
		return nil, errors.Join(fmt.Errorf("open websocket: %w", err), conn.Close())
	}
	return w, nil
}

func (w *WebSocket) handshake(host, path string) error {
	if err := w.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path, host)
	if err != nil {
		return err
	}
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return Refused{res.StatusCode, res.Status}
	}
	return w.conn.SetDeadline(time.Time{})
}

// Close closes the connection below; a Read ends.
func (w *WebSocket) Close() error { return w.conn.Close() }

// Write sends a message.
func (w *WebSocket) Write(kind byte, message []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := append(w.out[:0], 0x80|kind)
	switch n := len(message); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(append(b, 0, 0, 0, 0), message...)
	w.out = b
	_, err := w.conn.Write(b)
	return err
}

// Read returns the next message, which is valid until the next call. It answers
// pings; at the end it returns an error. Servers send each message in one frame.
func (w *WebSocket) Read() ([]byte, error) {
	for {
		var head [8]byte
		if _, err := io.ReadFull(w.r, head[:2]); err != nil {
			return nil, err
		}
		kind, size := head[0]&0xf, uint64(head[1])
		var err error
		switch size {
		case 126:
			_, err = io.ReadFull(w.r, head[:2])
			size = uint64(binary.BigEndian.Uint16(head[:2]))
		case 127:
			_, err = io.ReadFull(w.r, head[:8])
			size = binary.BigEndian.Uint64(head[:8])
		}
		if err != nil {
			return nil, err
		}
		if size > 64<<20 {
			return nil, fmt.Errorf("a frame of %d bytes", size)
		}
		if uint64(cap(w.buf)) < size {
			w.buf = make([]byte, size)
		}
		b := w.buf[:size]
		if _, err := io.ReadFull(w.r, b); err != nil {
			return nil, err
		}
		switch kind {
		case 0, Text, Binary:
			return b, nil
		case 8: // close
			return nil, io.EOF
		case 9: // ping
			if err := w.Write(10, b); err != nil {
				return nil, err
			}
		}
	}
}
