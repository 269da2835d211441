package durablestreams_test

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/durablestreams"
)

// counted is a request that was counted.
type counted struct {
	write bool
	code  int
	took  time.Duration
}

// watched collects what is counted, noted and traced of requests.
type watched struct {
	mu    sync.Mutex
	all   []counted
	log   bytes.Buffer
	spans []string
}

func (w *watched) configure(_ *client, c *durablestreams.Config) {
	c.Answered = func(write bool, refused *objects.Error, took time.Duration) {
		w.mu.Lock()
		defer w.mu.Unlock()
		one := counted{write: write, took: took}
		if refused != nil {
			one.code = refused.Code
		}
		w.all = append(w.all, one)
	}
	c.Trace = func(ctx context.Context, method, parent string) (context.Context, func(int, *objects.Error)) {
		if parent == "" {
			return ctx, nil
		}
		return ctx, func(status int, _ *objects.Error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.spans = append(w.spans, method+" "+http.StatusText(status))
		}
	}
	c.Logger = slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write takes a line of the log.
func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

func (w *watched) counted() []counted {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

func (w *watched) lastSpan() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.spans[len(w.spans)-1]
}

func (w *watched) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func TestRequestsAreCountedNotedAndTraced(t *testing.T) {
	w := new(watched)
	c := start(t, w.configure)
	made := c.is(201, c.send("PUT", lists+"l", `[1]`, "Content-Type", isJSON, "traceparent", "here"))
	c.is(200, c.send("HEAD", lists+"l", ""))
	missing := c.is(404, c.send("GET", lists+"none?secret=1", "", "traceparent", "here"))
	var found []counted
	for _, one := range w.counted() {
		require.Positive(t, one.took)
		found = append(found, counted{one.write, one.code, 0})
	}
	require.Equal(t, []counted{{write: true}, {}, {code: 54300}}, found)
	require.Equal(t, []string{"PUT Created", "GET Not Found"}, w.spans)
	id, other := made.Header().Get("Twilio-Request-Id"), missing.Header().Get("Twilio-Request-Id")
	require.Regexp(t, "^RQ[0-9a-f]{32}$", id)
	require.NotEqual(t, id, other)
	require.Contains(t, w.logged(), "request="+id+" method=PUT path="+lists+"l status=201 code=0")
	require.Contains(t, w.logged(), "request="+other+" method=GET path="+lists+"none status=404 code=54300")
	require.NotContains(t, w.logged(), "secret")
}

// The minutes that a live reader stays are no latency.
func TestLiveReaderIsCountedWhenItKnowsWhatIsThere(t *testing.T) {
	w := new(watched)
	c := start(t, w.configure, func(_ *client, config *durablestreams.Config) { config.LongPoll = time.Second })
	c.is(201, c.send("PUT", lists+"l", `[1]`, "Content-Type", isJSON))
	url := c.serve()
	for _, path := range []string{lists + "l?offset=-1&live=sse", home + "/Lists/l/Events"} {
		before := len(w.counted())
		answer := c.open(url+path, "traceparent", "here")
		news := bufio.NewReader(answer.Body)
		event(t, news)
		require.Len(t, w.counted(), before+1, "while it stays")
		require.Equal(t, 1, c.handler.LiveReaders())
		require.Equal(t, "GET OK", w.lastSpan())
		c.push(`"news"`) // which is counted as any other
		for text := ""; !strings.Contains(text, "news"); text = event(t, news) {
		}
		answer.Body.Close()
		left := `msg="live reader left" request=` + answer.Header.Get("Twilio-Request-Id")
		require.Eventually(t, func() bool { return strings.Contains(w.logged(), left) && c.handler.LiveReaders() == 0 }, 10*time.Second, time.Millisecond)
		require.Len(t, w.counted(), before+2, "it is counted once")
	}

	// One that polls waited for news, not for the node.
	before := len(w.counted())
	require.Equal(t, 204, c.open(url+lists+"l?offset=now&live=long-poll").StatusCode)
	require.Less(t, w.counted()[before].took, time.Second)
}

// Whoever goes while it waits was not answered.
func TestClientThatGoesIsNotCounted(t *testing.T) {
	w := new(watched)
	c := start(t, w.configure, func(_ *client, config *durablestreams.Config) { config.LongPoll = time.Minute })
	c.is(201, c.send("PUT", lists+"l", `[1]`, "Content-Type", isJSON))
	ctx, goes := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", lists+"l?offset=now&live=long-poll", nil)
	r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.handler.ServeHTTP(httptest.NewRecorder(), r)
	}()
	require.Eventually(t, func() bool { return c.handler.LiveReaders() == 1 }, 10*time.Second, time.Millisecond)
	goes()
	<-served
	require.Contains(t, w.logged(), "status=499")
	require.Len(t, w.counted(), 1, "the list")
}
