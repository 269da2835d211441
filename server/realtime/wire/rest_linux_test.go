package wire_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/realtime/wire"
)

// restful returns both ends of a connection that may rest, and has nothing to read.
func restful(t *testing.T) (server *wire.Conn, client net.Conn, resumed chan struct{}) {
	server, client = pair(t)
	p, err := wire.NewPoller()
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run()
	}()
	t.Cleanup(func() {
		p.Close()
		<-done
	})
	server.MayRest(p)
	idle(t, server)
	return server, client, make(chan struct{}, 10)
}

func idle(t *testing.T, c *wire.Conn) {
	t.Helper()
	_, err := c.Read(time.Minute, 1<<20, nil)
	require.Equal(t, wire.ErrIdle, err)
}

func awaits(t *testing.T, resumed chan struct{}) {
	t.Helper()
	select {
	case <-resumed:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "it rests on")
	}
}

// ping is a frame with a message, its mask being zero.
var ping = append([]byte{0x82, 0x80 | 68, 0, 0, 0, 0}, "TWILSOCK V3.0 48\r\n"+`{"method":"ping","id":"TM1234","payload_size":0}`+"\r\n"...)

func reads(t *testing.T, c *wire.Conn) {
	t.Helper()
	more, err := c.Read(time.Minute, 1<<20, func(m *wire.Message, err error) bool {
		require.NoError(t, err)
		require.Equal(t, "ping", m.Method)
		return true
	})
	require.NoError(t, err)
	require.True(t, more)
}

func TestRestEndsWithWhatComes(t *testing.T) {
	server, client, resumed := restful(t)
	for range 3 {
		require.True(t, server.Rest(func() { resumed <- struct{}{} }))
		overdue, due := server.Overdue(time.Now())
		require.False(t, overdue)
		require.NotZero(t, due)
		overdue, _ = server.Overdue(time.Now().Add(time.Hour))
		require.True(t, overdue)
		require.Empty(t, resumed)
		for _, part := range [][]byte{ping[:1], ping[1:], ping} { // the last one waits in the buffer
			_, err := client.Write(part)
			require.NoError(t, err)
		}
		awaits(t, resumed)
		_, due = server.Overdue(time.Now())
		require.Zero(t, due)
		reads(t, server)
		reads(t, server)
		idle(t, server)
	}
	require.Empty(t, resumed)
}

func TestWhatCameBeforeTheRestEndsIt(t *testing.T) {
	server, client, resumed := restful(t)
	_, err := client.Write(ping)
	require.NoError(t, err)
	require.True(t, server.Rest(func() { resumed <- struct{}{} }))
	awaits(t, resumed)
	reads(t, server)
}

func TestRestEndsWithTheConnection(t *testing.T) {
	server, client, resumed := restful(t)
	require.True(t, server.Rest(func() { resumed <- struct{}{} }))
	client.Close()
	awaits(t, resumed)

	server, _, resumed = restful(t)
	require.True(t, server.Rest(func() { resumed <- struct{}{} }))
	server.Close()
	awaits(t, resumed)
	require.False(t, server.Rest(func() { resumed <- struct{}{} }), "it is awake for good")

	server, _, resumed = restful(t)
	require.True(t, server.Rest(func() { resumed <- struct{}{} }))
	server.Finish()
	awaits(t, resumed)
	require.False(t, server.Rest(func() { resumed <- struct{}{} }), "it is awake for good")
}

// A client that sends the beginning of a message has not given a sign of life.
func TestBeginningOfMessageIsNoSignOfLife(t *testing.T) {
	server, client, resumed := restful(t)
	server.Expect(time.Second)
	require.True(t, server.Rest(func() { resumed <- struct{}{} }))
	_, err := client.Write(ping[:1])
	require.NoError(t, err)
	awaits(t, resumed)
	begun := time.Now()
	_, err = server.Read(time.Minute, 1<<20, nil)
	require.Error(t, err)
	require.NotEqual(t, wire.ErrIdle, err)
	require.Less(t, time.Since(begun), 10*time.Second)
}
