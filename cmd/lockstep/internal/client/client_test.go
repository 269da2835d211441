package client_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/objects"
	"lockstep/server/refusal"
)

const deadURL = "http://127.0.0.1:1"

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestRequestIsWhatTheAPIReads(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		assert.Equal(t, "AC1 token", user+" "+password)
		assert.Equal(t, "/v1/Services/default/Maps/a%2Fb%20%3F", r.URL.EscapedPath())
		assert.Equal(t, "7f", r.Header.Get("If-Match"))
		assert.NotEmpty(t, r.Header.Get("Idempotency-Key"))
		assert.NoError(t, r.ParseForm())
		assert.Equal(t, url.Values{"Ttl": {"60"}}, r.PostForm)
		fmt.Fprint(w, `{"sid":"MP1"}`)
	})
	c := &client.Client{URLs: []string{u}, User: "AC1", Password: "token"}
	var answer struct{ SID string }
	require.NoError(t, c.Do(t.Context(), client.Request{
		Method: http.MethodPost, Path: client.Path("Services", "default", "Maps", "a/b ?"), Form: url.Values{"Ttl": {"60"}}, IfMatch: "7f",
	}, &answer))
	require.Equal(t, "MP1", answer.SID)
}

func TestRefusalIsAnErrorWithAllThatIsKnownOfIt(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Twilio-Request-Id", "RQ1")
		refusal.Write(w, objects.ErrNameExists)
	})
	c := &client.Client{URLs: []string{u}}
	err := c.Get(t.Context(), "/v1/Services", nil)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, client.Error{Status: 409, Code: 54301, Message: objects.ErrNameExists.Message, RequestID: "RQ1"}, *e)
	require.True(t, client.IsConflict(err))
	require.False(t, client.IsNotFound(err))
	require.EqualError(t, err, "54301: An object with this unique name exists already (request RQ1)")

	c.URLs = []string{serve(t, http.NotFound)}
	err = c.Get(t.Context(), "/v1/Services", nil)
	require.EqualError(t, err, "the answer, of status 404, is not the API's: Not Found")
}

func TestNodeThatDoesNotAnswerIsPassedOverFromThenOn(t *testing.T) {
	var asked atomic.Int32
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); fmt.Fprint(w, `{}`) })
	c := &client.Client{URLs: []string{deadURL, u}}
	require.NoError(t, c.Get(t.Context(), "/v1/Services", nil))
	require.Equal(t, []string{u, deadURL}, c.URLs)
	require.EqualValues(t, 1, asked.Load())

	c = &client.Client{URLs: []string{deadURL}, Patience: time.Millisecond}
	require.ErrorIs(t, c.Get(t.Context(), "/v1/Services", nil), client.ErrUnreachable)
}

// A write whose answer got lost is sent again under the same key, here or
// elsewhere: the server gives the first answer again.
func TestRepeatedWriteHasTheSameKey(t *testing.T) {
	var mu sync.Mutex // two servers' goroutines add to keys
	var keys []string
	add := func(r *http.Request) (total int) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		return len(keys)
	}
	breaking := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		add(r)
		panic(http.ErrAbortHandler)
	})
	busy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if add(r) == 2 {
			refusal.Write(w, objects.ErrUnavailable)
			return
		}
		fmt.Fprint(w, `{}`)
	})
	c := &client.Client{URLs: []string{breaking, busy}}
	begin := time.Now()
	require.NoError(t, c.Do(t.Context(), client.Request{Method: http.MethodPost, Path: "/v1/Services"}, nil))
	require.Len(t, keys, 3)
	require.Equal(t, keys[0], keys[1])
	require.Equal(t, keys[0], keys[2])
	require.GreaterOrEqual(t, time.Since(begin), time.Second, "as long as Retry-After says")

	require.NoError(t, c.Do(t.Context(), client.Request{Method: http.MethodPost, Path: "/v1/Services"}, nil))
	require.NotEqual(t, keys[0], keys[3], "another write is another one")
}

func TestWaitingEndsWithPatience(t *testing.T) {
	var asked atomic.Int32
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		refusal.Write(w, objects.ErrRate.After(60))
	})
	c := &client.Client{URLs: []string{u}, Patience: time.Second}
	begin := time.Now()
	err := c.Get(t.Context(), "/v1/Services", nil)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, time.Minute, e.RetryAfter)
	require.EqualValues(t, 1, asked.Load())
	require.Less(t, time.Since(begin), 5*time.Second)
}

func TestAllTurnsPages(t *testing.T) {
	const total = 250
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		first, _ := strconv.Atoi(r.URL.Query().Get("PageToken"))
		assert.Equal(t, "desc", r.URL.Query().Get("Order"))
		var items []int
		for i := first; i < min(first+100, total); i++ {
			items = append(items, i)
		}
		body := map[string]any{"items": items, "meta": map[string]any{"key": "items", "next_page_url": nil}}
		if first+100 < total {
			// A host that this client cannot reach.
			body["meta"] = map[string]any{"key": "items", "next_page_url": fmt.Sprintf("http://sync.invalid/v1/x?Order=desc&PageToken=%d", first+100)}
		}
		assert.NoError(t, json.NewEncoder(w).Encode(body))
	})
	c := &client.Client{URLs: []string{u}}
	n := 0
	for raw, err := range c.All(t.Context(), "/v1/x", url.Values{"Order": {"desc"}}) {
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(n), string(raw))
		n++
	}
	require.Equal(t, total, n)

	c.URLs, c.Patience = []string{deadURL}, time.Millisecond
	for _, err := range c.All(t.Context(), "/v1/x", nil) {
		require.ErrorIs(t, err, client.ErrUnreachable)
	}
}
