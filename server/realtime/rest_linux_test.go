package realtime_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/realtime"
)

// overTCP runs a test in which clients come over TCP, in real time.
func overTCP(t *testing.T, change func(*realtime.Config), test func(w *world, connect func() *client)) {
	w := newWorld(t, change)
	defer w.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	test(w, func() *client {
		c := w.dialBy(func(ctx context.Context, _, _ string) (net.Conn, error) {
			client, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			if err != nil {
				return nil, err
			}
			server, err := l.Accept()
			w.pipes.accept <- server
			return client, err
		})
		require.Equal(w, 200, c.init(w.token("alice", nil)).Status.Code)
		return c
	})
}

func (w *world) rest(count int) {
	w.Helper()
	require.Eventually(w, func() bool { return w.endpoint.Resting() == count }, 10*time.Second, 5*time.Millisecond)
}

// A session over which nothing comes has no goroutine and no buffer, and nobody
// notices.
func TestIdleSessionsRest(t *testing.T) {
	ended := make(chan string, 10)
	hook := func(c *realtime.Config) {
		c.Disconnected = func(_ objects.SID, _ fsm.Actor, session string) { ended <- session }
	}
	overTCP(t, hook, func(w *world, connect func() *client) {
		reader, writer := connect(), connect()
		d := writer.create("Documents")
		reader.subscribe(1, wish(d, "document", 0))
		require.Equal(w, []string{"subscription_established 0 (1)"}, reader.heard(1))
		w.rest(2)
		for i := range 3 {
			writer.http(200, "POST", "/v3/Documents/"+d, `{"data":{}}`)
			require.Equal(w, []string{"document_updated " + string(rune('1'+i)) + " {}"}, reader.heard(1))
			w.rest(2)
		}
		require.Equal(w, 200, reader.ask(map[string]any{"method": "ping"}, "").Status.Code)
		w.rest(2)

		reader.ws.NetConn().Close()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			require.Fail(w, "that the client is gone was not noticed")
		}
		w.rest(1) // the other one ends with the server
	})
}

func TestSessionThatRestsHasToGiveSignsOfLife(t *testing.T) {
	times := func(c *realtime.Config) { c.SilenceTimeout, c.PingInterval = time.Second, time.Minute }
	overTCP(t, times, func(w *world, connect func() *client) {
		c := connect()
		begun := time.Now()
		w.rest(1)
		last, code := c.closes()
		require.Empty(w, last.Method)
		require.Equal(w, -1, code)
		require.Greater(w, time.Since(begun), 500*time.Millisecond)
	})
}

func TestDrainEndsSessionsThatRest(t *testing.T) {
	overTCP(t, nil, func(w *world, connect func() *client) {
		c := connect()
		w.rest(1)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		w.endpoint.Drain(ctx)
		require.NoError(w, ctx.Err())
		_, code := c.closes()
		require.Equal(w, 1012, code)
	})
}
