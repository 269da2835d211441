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
	taken  *atomic.Int64
	closed chan struct{}
}

func (s *sink) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.EOF
}

func (s *sink) Write(b []byte) (int, error) {
	s.taken.Add(int64(len(b)))
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
	conn := &sink{taken: new(atomic.Int64), closed: make(chan struct{})}
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
				frame := s.encode(&objects.Event{Type: objects.ObjectUpdated, ID: o.EventID, At: o.Updated, Object: o}, hub.Form(wire.Version4))
				want += int64(len(frame)) * int64(count)
				wait(want)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/delivery")
		})
	}
}
