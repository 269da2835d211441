package load

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHistogramIsExactToAHundredth(t *testing.T) {
	for _, d := range []time.Duration{0, time.Microsecond, 127 * time.Microsecond, 128 * time.Microsecond, 300 * time.Microsecond, 12345 * time.Microsecond, 7 * time.Second, time.Hour} {
		var h Histogram
		h.Add(d)
		s := h.Summary()
		require.InDelta(t, d, s.P50, float64(d)/100, "%v", d)
		require.Equal(t, s.P50, s.P999)
		require.Equal(t, d, s.Max)
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h Histogram
	require.Zero(t, h.Summary())
	for i := range 1000 {
		h.Add(time.Duration(i+1) * time.Millisecond)
	}
	h.Add(-time.Second)
	s := h.Summary()
	require.EqualValues(t, 1001, s.Count)
	require.InEpsilon(t, 500*time.Millisecond, s.P50, 0.02)
	require.InEpsilon(t, 990*time.Millisecond, s.P99, 0.02)
	require.Equal(t, time.Second, s.Max)
	h.Reset()
	require.Zero(t, h.Summary())
}

// fake does what a test says.
type fake struct {
	do     func() error
	closed *atomic.Int64
}

func (f fake) Do(context.Context, int) error { return f.do() }
func (f fake) Close() error                  { f.closed.Add(1); return nil }

func loopOf(do func() error, closed *atomic.Int64) Loop {
	return Loop{Clients: 3, Measure: 200 * time.Millisecond, Connect: func(context.Context, int) (Client, error) { return fake{do, closed}, nil }}
}

func TestLoopTellsLimitsFromFailures(t *testing.T) {
	var n, closed atomic.Int64
	l := loopOf(func() error {
		time.Sleep(time.Millisecond)
		switch n.Add(1) % 3 {
		case 0:
			return Refused{Status: 429}
		case 1:
			return errors.New("it is broken")
		}
		return nil
	}, &closed)
	var began, ended int
	l.Began, l.Ended = func() { began++ }, func() { ended++ }
	r, err := l.Run(t.Context())
	require.NoError(t, err)
	require.Positive(t, r.Operations)
	require.Positive(t, r.Limited)
	require.Positive(t, r.Failed)
	require.Equal(t, "it is broken", r.FirstError)
	require.Equal(t, r.Operations, r.Latency.Count)
	require.Equal(t, []int{1, 1}, []int{began, ended})
	require.EqualValues(t, 3, closed.Load())
}

func TestLoopDoesNotCountTheWarmUp(t *testing.T) {
	var warm, closed atomic.Int64
	var counting atomic.Bool
	l := loopOf(func() error {
		if !counting.Load() {
			warm.Add(1)
		}
		time.Sleep(time.Millisecond)
		return nil
	}, &closed)
	l.Warm, l.Measure = 300*time.Millisecond, 100*time.Millisecond
	l.Began = func() { counting.Store(true) }
	r, err := l.Run(t.Context())
	require.NoError(t, err)
	require.Positive(t, warm.Load())
	require.Less(t, r.Operations, 3*101+int64(1), "no more than fit into the time that counts")
	require.InDelta(t, 100*time.Millisecond, r.Elapsed, float64(time.Second))
}

func TestLoopEndsWithItsContext(t *testing.T) {
	var closed atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	l := loopOf(func() error { cancel(); return nil }, &closed)
	l.Measure = time.Hour
	_, err := l.Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 3, closed.Load())
}

func TestLoopClosesClientsWhenOneDoesNotConnect(t *testing.T) {
	var closed atomic.Int64
	l := loopOf(func() error { return nil }, &closed)
	connect := l.Connect
	l.Connect = func(ctx context.Context, i int) (Client, error) {
		if i == 2 {
			return nil, errors.New("no")
		}
		return connect(ctx, i)
	}
	l.Clients = 3
	_, err := l.Run(t.Context())
	require.ErrorContains(t, err, "connect client 2: no")
}

func TestParallelDoesEachOnce(t *testing.T) {
	var done [100]atomic.Int64
	require.NoError(t, Parallel(t.Context(), 7, len(done), func(_ context.Context, i int) error { done[i].Add(1); return nil }))
	for i := range done {
		require.EqualValues(t, 1, done[i].Load())
	}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestHTTPReadsWhatServersAnswer(t *testing.T) {
	long := strings.Repeat("long ", 10_000)
	origin := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/form":
			w.Write([]byte(r.Method + " " + r.Host + " " + r.FormValue("a") + " " + r.Header.Get("X-B")))
		case "/long": // comes in chunks
			w.Write([]byte(long))
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/wait":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	c, err := DialHTTP(t.Context(), origin, nil)
	require.NoError(t, err)
	defer c.Close()
	for range 2 { // on one connection
		a, err := c.Do("POST", "/form", "Content-Type: application/x-www-form-urlencoded\r\nX-B: 2\r\n", []byte("a=1"))
		require.NoError(t, err)
		require.NoError(t, a.Err())
		require.Equal(t, "POST "+strings.TrimPrefix(origin, "http://")+" 1 2", string(a.Body))
		a, err = c.Do("GET", "/long", "", nil)
		require.NoError(t, err)
		require.Equal(t, long, string(a.Body))
		a, err = c.Do("DELETE", "/none", "", nil)
		require.NoError(t, err)
		require.Equal(t, 204, a.Status)
		a, err = c.Do("GET", "/wait", "", nil)
		require.NoError(t, err)
		require.Equal(t, 7*time.Second, a.RetryAfter)
		require.True(t, limited(a.Err()))
	}
}

func TestHTTPOverTLSAsksForItsCertificate(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	_, err := DialHTTP(t.Context(), s.URL, nil)
	require.ErrorContains(t, err, "certificate")
	c, err := DialHTTP(t.Context(), s.URL, s.Client().Transport.(*http.Transport).TLSClientConfig)
	require.NoError(t, err)
	defer c.Close()
	a, err := c.Do("GET", "/", "", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, a.Status)
	_, err = DialHTTP(t.Context(), "ftp://127.0.0.1:1", nil)
	require.ErrorContains(t, err, "no origin of http or https")
}

func TestWebSocketSpeaksToOthers(t *testing.T) {
	up := websocket.Upgrader{}
	origin := serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil || string(message) == "enough" {
				return
			}
			if conn.WriteControl(websocket.PingMessage, []byte("there?"), time.Now().Add(time.Second)) != nil || conn.WriteMessage(kind, message) != nil {
				return
			}
		}
	})
	w, err := DialWebSocket(t.Context(), origin, "/", nil)
	require.NoError(t, err)
	defer w.Close()
	for _, size := range []int{0, 1, 125, 126, 1 << 12, 1<<16 - 1, 1 << 16} {
		message := strings.Repeat("x", size)
		require.NoError(t, w.Write(Binary, []byte(message)))
		got, err := w.Read()
		require.NoError(t, err)
		require.Equal(t, message, string(got))
	}
	require.NoError(t, w.Write(Text, []byte("enough")))
	_, err = w.Read()
	require.Error(t, err)

	_, err = DialWebSocket(t.Context(), serve(t, http.NotFound), "/", nil)
	require.ErrorContains(t, err, "404")
}

func TestMeterCountsWhatIsHeard(t *testing.T) {
	var m Meter
	require.Len(t, Stamped(256), 256)
	require.Zero(t, m.Hear([]byte(`{"v":"@at=12"}`)), "a stamp that is cut off")
	require.EqualValues(t, 2, m.Hear(append(Stamped(40), Stamped(256)...)))
	s := m.Delay.Summary()
	require.EqualValues(t, 2, s.Count)
	require.Less(t, s.Max, time.Minute)
}

// Of what is published, a rate limit refuses a part, and a part is heard by fewer
// than should.
func TestFanoutAccountsForEveryDelivery(t *testing.T) {
	const each = 5
	for _, tt := range []struct {
		name    string
		publish func(m *Meter, n int)
		want    func(t *testing.T, r Result)
	}{
		{"all is heard", func(m *Meter, _ int) {
			for range each {
				m.Hear(Stamped(64))
			}
		}, func(t *testing.T, r Result) {
			require.Zero(t, r.Failed)
			require.Zero(t, r.Limited)
			require.Zero(t, r.Operations%each)
		}},
		{"limited", func(m *Meter, n int) {
			if n%2 == 1 {
				m.Note(Refused{Status: 429})
				return
			}
			for range each {
				m.Hear(Stamped(64))
			}
		}, func(t *testing.T, r Result) {
			require.Positive(t, r.Limited)
			require.Zero(t, r.Failed)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m Meter
			r, err := Fanout{
				Meter: &m, Each: each, Window: 2, Measure: 300 * time.Millisecond,
				Publish: func(n int) error { time.Sleep(time.Millisecond); tt.publish(&m, n); return nil },
			}.Run(t.Context())
			require.NoError(t, err)
			require.Positive(t, r.Operations)
			require.Equal(t, r.Operations, r.Latency.Count)
			tt.want(t, r)
		})
	}
}

func TestFanoutDoesNotWaitForWhatIsLost(t *testing.T) {
	var m Meter
	r, err := Fanout{
		Meter: &m, Each: 3, Window: 1, Measure: 100 * time.Millisecond,
		Publish: func(int) error { m.Hear(Stamped(64)); return nil },
	}.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, r.Operations)
	require.EqualValues(t, 2, r.Failed)
	require.NotEmpty(t, r.FirstError)
}
