package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"
)

// A frame is a length, and then: the request's id, its kind, the milliseconds
// that the caller still waits, and the body. An answer has the id of its
// request and neither kind nor time.
const (
	headerBytes  = 8 + 1 + 4
	maxFrame     = 8 << 20
	maxOutbox    = 32 << 20
	writeTimeout = 10 * time.Second
)

// kindPing is a request that the link answers itself.
const kindPing byte = 0

var errFull = errors.New("link: too much waits to be sent")

type frame struct {
	id      uint64
	kind    byte
	timeout time.Duration
	body    []byte
}

func readFrame(r io.Reader) (frame, error) {
	var head [4 + headerBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < headerBytes || size > maxFrame {
		return frame{}, fmt.Errorf("link: frame of %d bytes", size)
	}
	f := frame{
		id:      binary.BigEndian.Uint64(head[4:]),
		kind:    head[12],
		timeout: time.Duration(binary.BigEndian.Uint32(head[13:])) * time.Millisecond,
		body:    make([]byte, size-headerBytes),
	}
	_, err := io.ReadFull(r, f.body)
	return f, err
}

func (f frame) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(headerBytes+len(f.body)))
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = append(b, f.kind)
	b = binary.BigEndian.AppendUint32(b, uint32(f.timeout.Milliseconds()))
	return append(b, f.body...)
}

// outbox gathers frames while the one before is being written, so that many
// frames share a system call. It holds at most maxOutbox bytes, and refuses
// frames beyond that.
type outbox struct {
	mu      sync.Mutex
	waiting []byte
	wake    chan struct{} // one slot
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) put(f frame) error {
	if len(f.body) > maxFrame-headerBytes {
		return fmt.Errorf("link: body of %d bytes", len(f.body))
	}
	o.mu.Lock()
	if len(o.waiting)+len(f.body) > maxOutbox {
		o.mu.Unlock()
		return errFull
	}
	o.waiting = f.appendTo(o.waiting)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return nil
}

// run writes until done is closed or the connection fails.
func (o *outbox) run(c net.Conn, done <-chan struct{}) {
	var spare []byte
	for {
		select {
		case <-o.wake:
		case <-done:
			return
		}
		runtime.Gosched() // whoever has a frame to add goes first
		o.mu.Lock()
		full := o.waiting
		o.waiting = spare[:0]
		o.mu.Unlock()
		c.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := c.Write(full); err != nil {
			c.Close()
			return
		}
		if spare = full; cap(spare) > 1<<20 {
			spare = nil // a burst is over; do not keep its memory
		}
	}
}
