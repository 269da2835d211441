package wire_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/server/realtime/wire"
)

// pair returns both ends of a connection over TCP.
func pair(t *testing.T) (server *wire.Conn, client net.Conn) {
	conns := make(chan *wire.Conn, 1)
	u := wire.Upgrader{
		Refuse:       func(w http.ResponseWriter, status int, _ error) { w.WriteHeader(status) },
		DiscardBytes: 1 << 20, WriteTimeout: 10 * time.Second,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := u.Upgrade(w, r); err == nil {
			conns <- c
		}
	}))
	t.Cleanup(s.Close)
	ws, _, err := websocket.DefaultDialer.Dial("ws"+s.URL[len("http"):], nil)
	require.NoError(t, err)
	t.Cleanup(func() { ws.Close() })
	server = <-conns
	t.Cleanup(server.Close)
	return server, ws.NetConn()
}

// What a client does not take at once is left over, and nothing is lost or doubled.
func TestOfferTakesWhatTheSocketTakes(t *testing.T) {
	server, client := pair(t)
	sent := make([]byte, 32<<20)
	for i := range sent {
		sent[i] = byte(i * i >> 8)
	}
	rest := sent
	for len(rest) > 0 {
		part := rest[:min(len(rest), wire.WriteSize)]
		n, err := server.Offer(part)
		require.NoError(t, err)
		rest = rest[n:]
		if n < len(part) {
			break
		}
	}
	require.NotEmpty(t, rest, "the socket is full")
	n, err := server.Offer(rest)
	require.NoError(t, err)
	require.Zero(t, n)

	written := make(chan error, 1)
	go func() { written <- server.Write(rest) }()
	got := make([]byte, len(sent))
	_, err = io.ReadFull(client, got)
	require.NoError(t, err)
	require.NoError(t, <-written)
	require.True(t, bytes.Equal(sent, got))

	n, err = server.Offer([]byte("more"))
	require.NoError(t, err)
	require.Equal(t, 4, n, "after a Write there is no deadline")
	server.Close()
	_, err = server.Offer([]byte("x"))
	require.Error(t, err)
}
