package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/server/bounds"
	"lockstep/server/certificate"
)

// crowded starts a listener with place for so many connections. Requests for /slow
// are answered when release is called; the first one tells started.
func crowded(t *testing.T, connections int, certificate *tls.Config) (l *listener, started chan struct{}, release func()) {
	started, held := make(chan struct{}, 1), make(chan struct{})
	upgrader := websocket.Upgrader{}
	var err error
	l, err = listen(Config{
		HTTPAddr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Bounds: bounds.Bounds{Connections: connections, ConnectionsPerSource: -1},
	}, certificate, nil)
	require.NoError(t, err)
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			started <- struct{}{}
			<-held
		case "/ws":
			if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
				go func() {
					defer ws.Close()
					for {
						kind, b, err := ws.ReadMessage()
						if err != nil {
							return
						}
						ws.WriteMessage(kind, b)
					}
				}()
			}
		}
	})
	l.show(serve, serve)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, l.close(ctx))
	})
	return l, started, func() { close(held) }
}

func dialListener(t testing.TB, url, text string) net.Conn {
	t.Helper()
	scheme, addr, _ := strings.Cut(url, "://")
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	if scheme == "https" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, text)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c
}

// Connections that ask nothing, or only begin to, keep nobody out.
func TestIdleConnectionsGiveWay(t *testing.T) {
	l, _, _ := crowded(t, 4, nil)
	var idle []net.Conn
	for i := range 4 {
		idle = append(idle, dialListener(t, l.url, []string{"", "GET / HT"}[i%2]))
	}
	for range 20 {
		c := dialListener(t, l.url, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		require.Equal(t, 200, answer.StatusCode)
	}
	for _, c := range idle {
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		var timeout net.Error
		require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "it was closed")
	}
}

// A request that is being served and a websocket keep their places.
func TestWhoIsServedDoesNotGiveWay(t *testing.T) {
	t.Run("without TLS", func(t *testing.T) { whoIsServedDoesNotGiveWay(t, nil) })
	t.Run("with TLS", func(t *testing.T) {
		p := newTestPair(t)
		p.write(t, "127.0.0.1")
		f, err := certificate.Open(p.Cert, p.Key, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		whoIsServedDoesNotGiveWay(t, &tls.Config{GetCertificate: f.Get})
	})
}

func whoIsServedDoesNotGiveWay(t *testing.T, certificate *tls.Config) {
	l, started, release := crowded(t, 3, certificate)
	slow := dialListener(t, l.url, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-started
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	ws, _, err := dialer.Dial("ws"+strings.TrimPrefix(l.url, "http")+"/ws", nil)
	require.NoError(t, err)
	defer ws.Close()
	for range 20 {
		c := dialListener(t, l.url, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
	}
	require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte("still here")))
	_, b, err := ws.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, "still here", string(b))
	operator := dialListener(t, l.adminURL, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_, err = http.ReadResponse(bufio.NewReader(operator), nil)
	require.NoError(t, err, "operators' connections are counted apart")
	release()
	answer, err := http.ReadResponse(bufio.NewReader(slow), nil)
	require.NoError(t, err)
	require.Equal(t, 200, answer.StatusCode)
}
