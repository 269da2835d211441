package plain_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/server/plain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connection is a plain.Conn over TCP that counts.
type connection struct {
	*net.TCPConn
	unread []byte
	busy   *atomic.Int32 // of all connections
}

func (c *connection) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.TCPConn.Read(b)
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *connection) Unread(b []byte) { c.unread = b }
func (c *connection) Busy()           { c.busy.Add(1) }
func (c *connection) Idle()           { c.busy.Add(-1) }

type listener struct {
	net.Listener
	busy atomic.Int32
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &connection{TCPConn: c.(*net.TCPConn), busy: &l.busy}, nil
}

// running is a server whose plain requests are answered by a test, and all others
// with "net/http".
type running struct {
	*plain.Server
	*listener
	t      *testing.T
	done   chan error
	handed *atomic.Int32 // connections that net/http got
}

func run(t *testing.T, handler http.HandlerFunc, change ...func(*plain.Server)) *running {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	other := quiet()
	other.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "net/http")
	})
	r := &running{
		Server:   &plain.Server{Handler: handler, Prefix: "/v1/", Timeout: time.Minute, Other: other},
		listener: &listener{Listener: l}, t: t, done: make(chan error, 1), handed: new(atomic.Int32),
	}
	other.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.handed.Add(1)
		}
	}
	for _, f := range change {
		f(r.Server)
	}
	go func() { r.done <- r.Serve(r.listener) }()
	t.Cleanup(func() {
		r.Server.Close()
		require.ErrorIs(t, <-r.done, http.ErrServerClosed)
	})
	return r
}

// client is a connection to it.
type client struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func (r *running) dial(text string) *client {
	c, err := net.Dial("tcp", r.Addr().String())
	require.NoError(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	require.NoError(r.t, c.SetDeadline(time.Now().Add(20*time.Second)))
	x := &client{Conn: c, t: r.t, in: bufio.NewReader(c)}
	x.send(text)
	return x
}

func (c *client) send(text string) {
	_, err := io.WriteString(c, text)
	require.NoError(c.t, err)
}

// answer returns the body of the next answer, and the answer.
func (c *client) answer() (body string, res *http.Response) {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, nil)
	require.NoError(c.t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	return string(b), res
}

// ends waits for the end of the connection.
func (c *client) ends() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.in)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
}

// hello answers with the number of the request.
func hello() http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %s", n.Add(1), body)
	}
}

func logTo(w io.Writer) *log.Logger { return log.New(w, "", 0) }

func TestPlainRequestsAreServed(t *testing.T) {
	r := run(t, hello())
	c := r.dial(get)
	for i := 1; i <= 3; i++ {
		body, _ := c.answer()
		require.Equal(t, fmt.Sprintf("%d ", i), body)
		c.send(get)
	}
	body, res := c.answer()
	require.Equal(t, "4 ", body)
	require.NotEmpty(t, res.Header.Get("Date"))
	c.send(post + get + post)
	for _, want := range []string{"5 Data=1", "6 ", "7 Data=1"} {
		body, _ = c.answer()
		require.Equal(t, want, body, "requests that are sent ahead are answered in order")
	}
	large := strings.Repeat("x", 10<<10)
	c.send(fmt.Sprintf("POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(large), large))
	body, _ = c.answer()
	require.Equal(t, "8 "+large, body)
	require.Eventually(t, func() bool { return r.busy.Load() == 0 }, 10*time.Second, time.Millisecond)
}

func TestAllElseIsServedByNetHTTP(t *testing.T) {
	r := run(t, hello())
	for name, request := range map[string]string{
		"another path":    strings.Replace(get, "/v1/", "/v3/", 1),
		"another method":  strings.Replace(get, "GET", "PUT", 1),
		"another version": strings.Replace(get, "1.1", "1.0", 1),
		"the last one":    strings.Replace(get, "Host", "Connection: close\r\nHost", 1),
		"in chunks":       strings.Replace(post, "Content-Length: 6\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n6\r\n", 1) + "\r\n0\r\n\r\n",
		"a large body":    strings.Replace(post, "6\r\n\r\nData=1", "20000\r\n\r\n", 1) + strings.Repeat("x", 20000),
		"a name twice":    strings.Replace(get, "Host", "a: 1\r\nA: 2\r\nHost", 1),
	} {
		c := r.dial(get + request)
		body, _ := c.answer()
		require.Regexp(t, `^\d+ $`, body)
		body, _ = c.answer()
		require.Equal(t, "net/http", body, name)
	}
}

// What does not arrive in a moment is waited for by net/http.
// A target of long answers is net/http's, and the connection stays there.
func TestExceptedTargetsAreServedByNetHTTP(t *testing.T) {
	r := run(t, hello(), func(s *plain.Server) { s.Except = []string{"/long/"} })
	c := r.dial("GET /v1/short HTTP/1.1\r\nHost: x\r\n\r\n")
	body, _ := c.answer()
	require.NotEqual(t, "net/http", body)
	c.send("GET /v1/a/long/b HTTP/1.1\r\nHost: x\r\n\r\n")
	body, _ = c.answer()
	require.Equal(t, "net/http", body)
	require.EqualValues(t, 1, r.handed.Load())
}

func TestSlowRequestsAreServedByNetHTTP(t *testing.T) {
	r := run(t, hello())
	for i, cut := range []int{1, 20, len(post) - 10, len(post) - 3} {
		c := r.dial(post[:cut])
		require.Eventually(t, func() bool { return r.handed.Load() == int32(i+1) }, 10*time.Second, time.Millisecond)
		c.send(post[cut:])
		body, _ := c.answer()
		require.Equal(t, "net/http", body)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	r := run(t, hello(), func(s *plain.Server) { s.Other.IdleTimeout = 50 * time.Millisecond })
	silent, once := r.dial(""), r.dial(get)
	once.answer()
	silent.ends()
	once.ends()
}

// A client that opens connections ahead finds them open when it needs them.
func TestSilentConnectionIsServedLater(t *testing.T) {
	r := run(t, hello(), func(s *plain.Server) { s.Other.ReadHeaderTimeout = time.Millisecond })
	c := r.dial("")
	time.Sleep(20 * time.Millisecond) // longer than a header may take
	c.send(get)
	body, _ := c.answer()
	require.Equal(t, "1 ", body)
}

// until answers when the request is given up, and how.
func until(w http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	fmt.Fprint(w, r.Context().Err())
}

func TestRequestsEndInTime(t *testing.T) {
	r := run(t, func(w http.ResponseWriter, r *http.Request) {
		if by, ok := r.Context().Deadline(); !ok || time.Until(by) > time.Second {
			fmt.Fprint(w, "wrong deadline")
			return
		}
		until(w, r)
	}, func(s *plain.Server) { s.Timeout = time.Second })
	c := r.dial(get + get)
	for range 2 { // the second one has a time of its own
		body, _ := c.answer()
		require.Equal(t, context.DeadlineExceeded.Error(), body)
	}
}

func TestRequestWhoseClientIsGoneIsGivenUp(t *testing.T) {
	gaveUp := make(chan error, 2)
	r := run(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gaveUp <- r.Context().Err()
	})
	gone, stays := r.dial(get), r.dial(get)
	gone.Close()
	require.ErrorIs(t, <-gaveUp, context.Canceled)
	require.Empty(t, gaveUp)
	stays.Close()
	require.ErrorIs(t, <-gaveUp, context.Canceled)
}

func TestContextKnowsTheConnection(t *testing.T) {
	r := run(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RemoteAddr, " ", r.Context().Value(http.LocalAddrContextKey), " ", r.Context().Value("other"))
	})
	c := r.dial(get)
	body, _ := c.answer()
	require.Equal(t, fmt.Sprint(c.LocalAddr(), " ", r.Addr(), " <nil>"), body)
}

func TestAnswersThatAreNotTakenAreCutOff(t *testing.T) {
	r := run(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write(make([]byte, 64<<20)) // more than the sockets hold
	}, func(s *plain.Server) { s.Other.WriteTimeout = 50 * time.Millisecond })
	c := r.dial(get)
	require.Eventually(t, func() bool { return r.busy.Load() == 1 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return r.busy.Load() == 0 }, 10*time.Second, time.Millisecond)
	n, _ := io.Copy(io.Discard, c)
	require.Less(t, n, int64(64<<20))
}

func TestPanicEndsItsConnectionOnly(t *testing.T) {
	for _, fault := range []any{"a fault", http.ErrAbortHandler} {
		var log strings.Builder
		r := run(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				panic(fault)
			}
		}, func(s *plain.Server) { s.Other.ErrorLog = logTo(&log) })
		c, other := r.dial(post), r.dial(get)
		c.ends()
		other.answer()
		other.send(get)
		other.answer()
		require.NoError(t, r.Server.Close())
		require.Equal(t, fault == "a fault", strings.Contains(log.String(), "a fault"))
	}
}

// A stop waits for what is under way, here and in net/http, and closes the rest.
func TestShutdown(t *testing.T) {
	started, held := make(chan struct{}, 2), make(chan struct{})
	slow := func(w http.ResponseWriter, _ *http.Request) {
		started <- struct{}{}
		<-held
	}
	r := run(t, slow, func(s *plain.Server) { s.Other.Handler = http.HandlerFunc(slow) })
	waits, served, others := r.dial(""), r.dial(get), r.dial(strings.Replace(get, "GET", "PUT", 1))
	<-started
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- r.Shutdown(t.Context()) }()
	waits.ends()
	require.ErrorIs(t, <-r.done, http.ErrServerClosed)
	r.done <- http.ErrServerClosed // for the cleanup
	require.Empty(t, stopped)
	close(held)
	_, res := served.answer()
	require.True(t, res.Close)
	served.ends()
	_, res = others.answer()
	require.True(t, res.Close)
	require.NoError(t, <-stopped)
	_, err := net.Dial("tcp", r.Addr().String())
	require.Error(t, err)
}

func TestCloseCutsOff(t *testing.T) {
	started := make(chan struct{})
	r := run(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	})
	c := r.dial(get)
	<-started
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Shutdown(short), context.DeadlineExceeded)
	require.NoError(t, r.Server.Close())
	c.ends()
}

// A request with the same header as the last one costs nothing, nor does its answer.
func TestPlainRequestsCostNoMemory(t *testing.T) {
	answer := []byte("{}")
	header := []byte("Content-Length: 2\r\nContent-Type: application/json\r\n")
	r := run(t, func(w http.ResponseWriter, r *http.Request) {
		w.(interface{ WriteAnswer(int, []byte, []byte) }).WriteAnswer(http.StatusOK, header, answer)
	})
	c := r.dial(get)
	b := make([]byte, 4096)
	request := []byte(post)
	ask := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	c.answer()
	ask()
	// The race detector has pools forget some of what they keep.
	require.LessOrEqual(t, testing.AllocsPerRun(200, ask), 1.0, "of both sides")
}
