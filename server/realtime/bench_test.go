package realtime

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/hub"
	"lockstep/server/realtime/wire"
)

// sink is a connection that counts what is written to it.
type sink struct {
	net.Conn
	taken   *atomic.Int64
	sent    chan []byte   // by the client; nil: nothing
	written chan struct{} // to the client; nil: nobody waits for it
	closed  chan struct{}
}

func (s *sink) Read(b []byte) (int, error) {
	select {
	case frame := <-s.sent:
		return copy(b, frame), nil
	case <-s.closed:
		return 0, io.EOF
	}
}

func (s *sink) Write(b []byte) (int, error) {
	s.taken.Add(int64(len(b)))
	if s.written != nil {
		s.written <- struct{}{}
	}
	return len(b), nil
}

func (s *sink) Close() error {
	select {
	case <-s.closed:
		return os.ErrClosed
	default:
		close(s.closed)
		return nil
	}
}

func (s *sink) SetDeadline(time.Time) error      { return nil }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// handshake is a request for a websocket, on a sink.
type handshake struct {
	http.ResponseWriter
	conn *sink
}

func (h handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// connect returns a connection to a sink. The handshake does not count.
func connect(b *testing.B, taken *atomic.Int64) *wire.Conn {
	return upgrade(b, &sink{closed: make(chan struct{})}, taken)
}

func upgrade(b *testing.B, conn *sink, taken *atomic.Int64) *wire.Conn {
	conn.taken = new(atomic.Int64)
	r := httptest.NewRequest(http.MethodGet, Path, nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
		r.Header.Set(name, value)
	}
	u := wire.Upgrader{Refuse: refuseUpgrade, DiscardBytes: 1 << 20, WriteTimeout: time.Second}
	c, err := u.Upgrade(handshake{httptest.NewRecorder(), conn}, r)
	require.NoError(b, err)
	conn.taken = taken
	return c
}

// BenchmarkFanOut is one change of a document of 256 bytes that all sessions
// hear, up to the write to the socket, which costs nothing here.
func BenchmarkFanOut(b *testing.B) {
	for _, count := range []int{1000, 5000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			node := fsmtest.New(nil)
			ready := make(chan struct{})
			close(ready)
			s := New(Config{API: api.New(node), Node: node, Feed: node.FSM().Feed(), Ready: ready})
			defer s.Close()
			s.writers.mu.Lock()
			s.writers.gap = 0 // the next update comes when all have heard of the last one
			s.writers.mu.Unlock()
			sid := objects.NewSID(objects.KindDocument, commandid.New())
			node.Must(&fsm.CreateObject{SID: sid, Data: objects.EmptyObject})
			service, _ := node.View().Service(fsm.Ref{SID: fsmtest.Service})
			var taken atomic.Int64
			for range count {
				x := newSession(s, connect(b, &taken), "http://node", "", netip.Addr{})
				x.service, x.queue = service, s.hub.NewQueue("u", x.wake)
				x.introduced.Store(true)
				x.startWriting()
				x.queue.SubscribeObject(sid, &objectSource{recipient: recipient{version: wire.Version4, correlation: []byte("1")}, session: x, object: sid}).Start(0)
				defer x.cancel()
			}
			wait := func(bytes int64) {
				for taken.Load() < bytes {
					time.Sleep(10 * time.Microsecond)
				}
			}
			established := int64(len(wire.AppendEstablished(nil, wire.Version4, sid.String(), "document", []byte("1"), 0)))
			want := established * int64(count)
			wait(want)
			op := &fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: sid}, Data: []byte(`{"p":"` + strings.Repeat("x", 248) + `"}`)}
			b.ReportAllocs()
			for b.Loop() {
				node.Must(op)
				o, ok := node.View().ObjectBySID(sid)
				require.True(b, ok)
				frame := s.encode(&objects.Event{Type: objects.ObjectUpdated, ID: o.EventID, At: o.Updated, Object: o}, hub.Form(wire.Version4)).Bytes
				want += int64(len(frame)) * int64(count)
				wait(want)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/delivery")
		})
	}
}

// BenchmarkUpdate is a client that changes documents of 256 bytes, one after another,
// from its frame to that of the answer. Nothing is replicated or synced.
func BenchmarkUpdate(b *testing.B) {
	node := fsmtest.New(nil)
	ready := make(chan struct{})
	close(ready)
	s := New(Config{API: api.New(node), Node: node, Feed: node.FSM().Feed(), Ready: ready})
	defer s.Close()
	data := `{"p":"` + strings.Repeat("x", 248) + `"}`
	frames := make([][]byte, 1000)
	for i := range frames {
		name := fmt.Sprint("document ", i)
		node.Must(&fsm.CreateObject{SID: objects.NewSID(objects.KindDocument, commandid.New()), UniqueName: name, Data: objects.EmptyObject})
		body := `{"data":` + data + `}`
		head := fmt.Sprintf(`{"method":"message","id":"TM%d","active_grant":"data_sync","payload_type":"application/json","payload_size":%d,`+
			`"http_request":{"host":"cds","path":"/v3/Documents/document%%20%d","method":"POST","params":{},"headers":{"Content-Type":"application/json"}}}`, i, len(body), i)
		frames[i] = masked(fmt.Sprintf("TWILSOCK V3.0 %d\r\n%s\r\n%s", len(head), head, body))
	}
	conn := &sink{sent: make(chan []byte), closed: make(chan struct{})}
	x := newSession(s, upgrade(b, conn, new(atomic.Int64)), "http://node", "", netip.Addr{})
	conn.written = make(chan struct{}, 1)
	x.service, _ = node.View().Service(fsm.Ref{SID: fsmtest.Service})
	x.actor = fsm.Actor{Identity: "u", Token: true}
	x.holder, x.pace = "u", paceOf(0)
	x.queue = s.hub.NewQueue("u", x.wake)
	x.introduced.Store(true)
	x.startWriting()
	var reading sync.WaitGroup
	reading.Go(func() { x.readAll() })
	before := node.View().Index()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		conn.sent <- frames[i%len(frames)]
		<-conn.written
	}
	require.Equal(b, before+uint64(b.N), node.View().Index(), "each was written")
	x.abort()
	reading.Wait()
}

// masked is a message as a frame of a client, with a mask that changes nothing.
func masked(message string) []byte {
	b := []byte{0x82, 0x80 | 126, byte(len(message) >> 8), byte(len(message)), 0, 0, 0, 0}
	return append(b, message...)
}
