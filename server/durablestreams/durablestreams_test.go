package durablestreams_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/auth"
	"lockstep/server/budget"
	"lockstep/server/durablestreams"
	"lockstep/server/hub"
)

var lists = "/v1/Services/" + fsmtest.Service.String() + "/durable/Lists/"

type keyring struct{ node api.Node }

func (k keyring) Account() (sid string, tokens []string) {
	sid, _ = k.node.View().Account()
	return sid, k.node.View().AuthTokens()
}

func (k keyring) Key(text string) (auth.Key, bool) {
	sid, _ := objects.ParseSID(text)
	key, ok := k.node.View().Key(sid)
	if !ok {
		return auth.Key{}, false
	}
	return auth.Key{Secret: key.Secret, Scope: key.KeyScope}, true
}

type client struct {
	t       *testing.T
	clock   time.Time
	node    *fsmtest.Node
	api     *api.API
	handler *durablestreams.Handler
	hub     *hub.Hub

	lifetime time.Duration // of tokens
}

// start makes a handler on a new store. change may alter its configuration.
func start(t *testing.T, change ...func(*client, *durablestreams.Config)) *client {
	c := &client{t: t, lifetime: time.Hour, clock: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	c.node = fsmtest.New(func() time.Time { return c.clock })
	c.api = api.New(c.node)
	c.hub = hub.New(hub.Config{Feed: c.node.FSM().Feed(), View: c.node.View})
	ctx, stop := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		c.hub.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-followed
	})
	config := durablestreams.Config{
		API: c.api, Keyring: keyring{c.node}, Hub: c.hub, View: c.node.View, LongPoll: 100 * time.Millisecond, WaitingOfEach: 8, Clock: func() time.Time { return c.clock }, Logger: slog.New(slog.DiscardHandler),
		Token: func(_ *http.Request, token string) (auth.Principal, *objects.Service, *objects.Error) {
			if token == "expired" {
				return auth.Principal{}, nil, objects.ErrTokenExpired
			}
			s, _ := c.node.View().Service(fsm.Ref{SID: fsmtest.Service})
			return auth.Principal{Token: true, Identity: token, Expires: c.clock.Add(c.lifetime)}, s, nil
		},
	}
	for _, f := range change {
		f(c, &config)
	}
	c.handler = durablestreams.New(config)
	return c
}

// send sends a request with the account's credentials, unless headers say otherwise.
func (c *client) send(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://sync.test"+path, strings.NewReader(body))
	r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w
}

// is requires the status of an answer.
func (c *client) is(status int, w *httptest.ResponseRecorder) *httptest.ResponseRecorder {
	c.t.Helper()
	require.Equal(c.t, status, w.Code, w.Body.String())
	return w
}

const isJSON, isText = "application/json", "text/plain"

func next(w *httptest.ResponseRecorder) string { return w.Header().Get("Stream-Next-Offset") }

func TestListIsReadOnFromAnOffset(t *testing.T) {
	c := start(t)
	made := c.is(201, c.send("PUT", lists+"l", `[1,[2,3]]`, "Content-Type", isJSON))
	require.Equal(t, "http://sync.test"+lists+"l", made.Header().Get("Location"))
	all := c.is(200, c.send("GET", lists+"l", ""))
	require.Equal(t, `[1,[2,3]]`, all.Body.String())
	require.Equal(t, "true", all.Header().Get("Stream-Up-To-Date"))
	require.Equal(t, next(made), next(all))
	appended := c.is(204, c.send("POST", lists+"l", `{ "a": null }`, "Content-Type", isJSON))
	require.Greater(t, next(appended), next(all))
	require.Equal(t, `[{"a":null}]`, c.is(200, c.send("GET", lists+"l?offset="+next(all), "")).Body.String())
	require.Equal(t, `[]`, c.is(200, c.send("GET", lists+"l?offset="+next(appended), "")).Body.String())
	require.Equal(t, `[]`, c.is(200, c.send("GET", lists+"l?offset=now", "")).Body.String())
	require.Equal(t, `[1,[2,3],{"a":null}]`, c.is(200, c.send("GET", lists+"l?offset=-1", "")).Body.String())
	require.Equal(t, next(appended), next(c.is(200, c.send("HEAD", lists+"l", ""))))

	// It is a list as any other.
	_, i, err := c.api.FetchItem(t.Context(), api.Caller{Service: fsm.Ref{SID: fsmtest.Service}}, objects.KindList, fsm.Ref{Name: "l"}, fsm.ItemKey{Index: 1})
	require.NoError(t, err)
	require.Equal(t, `[2,3]`, string(i.Data))
	_, err = c.api.WriteItem(t.Context(), api.Caller{Service: fsm.Ref{SID: fsmtest.Service}}, objects.KindList, fsm.Ref{Name: "l"}, api.ItemWrite{Mode: fsm.AppendItem, Data: []byte(`4`)})
	require.NoError(t, err)
	require.Equal(t, `[4]`, c.send("GET", lists+"l?offset="+next(appended), "").Body.String())

	c.is(204, c.send("DELETE", lists+"l", ""))
	c.is(404, c.send("GET", lists+"l", ""))
	c.is(201, c.send("PUT", lists+"l", ""))
	c.is(410, c.send("GET", lists+"l?offset="+next(appended), ""))
}

func TestTagChangesWithWhatIsRead(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", `[1,2]`, "Content-Type", isJSON))
	tag := c.send("GET", lists+"l", "").Header().Get("ETag")
	unchanged := func() int { return c.send("GET", lists+"l", "", "If-None-Match", tag).Code }
	require.Equal(t, 304, unchanged())
	c.is(204, c.send("POST", lists+"l", "", "Stream-Closed", "true"))
	require.Equal(t, 200, unchanged(), "it has ended")
	tag = c.send("GET", lists+"l", "").Header().Get("ETag")
	_, err := c.api.RemoveItem(t.Context(), api.Caller{Service: fsm.Ref{SID: fsmtest.Service}}, objects.KindList, fsm.Ref{Name: "l"}, fsm.ItemKey{Index: 0}, objects.Precondition{})
	require.NoError(t, err)
	require.Equal(t, 200, unchanged(), "an item was removed")
}

func TestLongStreamsComeInParts(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", "", "Content-Type", isText))
	text := strings.Repeat("\"Zwölf\x00\n", 25_000)
	c.is(204, c.send("POST", lists+"l", text, "Content-Type", isText))
	c.is(204, c.send("POST", lists+"l", text, "Content-Type", isText))
	var got strings.Builder
	parts := 0
	for at := "-1"; ; parts++ {
		w := c.is(200, c.send("GET", lists+"l?offset="+at, ""))
		got.WriteString(w.Body.String())
		if at = next(w); w.Header().Get("Stream-Up-To-Date") == "true" {
			break
		}
		require.Contains(t, w.Header().Get("Cache-Control"), "max-age")
	}
	require.Equal(t, text+text, got.String())
	require.Greater(t, parts, 1)
	c.is(413, c.send("POST", lists+"l", strings.Repeat("x", 256<<10+1), "Content-Type", isText))
}

func TestBytesAreKept(t *testing.T) {
	c := start(t)
	var all []byte
	for i := range 40_000 {
		all = append(all, byte(i))
	}
	c.is(201, c.send("PUT", lists+"b", string(all), "Content-Type", "application/octet-stream"))
	require.Equal(t, string(all), c.is(200, c.send("GET", lists+"b", "")).Body.String())
	c.is(400, c.send("PUT", lists+"t", string(all), "Content-Type", isText))
}

// Whoever may write to a stream chooses its content type.
func TestStreamOfHTMLIsNoPage(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", "<script>alert(1)</script>", "Content-Type", "text/html"))
	read := c.is(200, c.send("GET", lists+"l", ""))
	require.Equal(t, "text/html", read.Header().Get("Content-Type"))
	require.Contains(t, read.Header().Get("Content-Security-Policy"), "sandbox")
	require.Equal(t, "nosniff", read.Header().Get("X-Content-Type-Options"))
}

func TestWhatIsRefused(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", "", "Content-Type", isJSON))
	for name, x := range map[string]struct {
		status        int
		method, query string
		body          string
		headers       []string
	}{
		"no credentials":           {401, "GET", "", "", []string{"Authorization", ""}},
		"a token that has expired": {401, "GET", "", "", []string{"Authorization", "Bearer expired"}},
		"a bad offset":             {400, "GET", "?offset=a,b", "", nil},
		"no offset":                {400, "GET", "?offset=", "", nil},
		"an offset in capitals":    {400, "GET", "?offset=000000000000000A_0000000000000000", "", nil},
		"two offsets":              {400, "GET", "?offset=-1&offset=-1", "", nil},
		"an offset to come":        {410, "GET", "?offset=ffffffffffffffff_0000000000000000", "", nil},
		"nothing to append":        {400, "POST", "", "", []string{"Content-Type", isJSON}},
		"an empty array":           {400, "POST", "", "[]", []string{"Content-Type", isJSON}},
		"no JSON":                  {400, "POST", "", "{", []string{"Content-Type", isJSON}},
		"no content type":          {400, "POST", "", "1", nil},
		"another content type":     {409, "POST", "", "1", []string{"Content-Type", isText}},
		"a large message":          {413, "POST", "", `"` + strings.Repeat("x", objects.MaxData) + `"`, []string{"Content-Type", isJSON}},
		"many messages":            {413, "POST", "", "[" + strings.Repeat("1,", fsm.MaxAppend) + "1]", []string{"Content-Type", isJSON}},
		"half a producer":          {400, "POST", "", "1", []string{"Content-Type", isJSON, "Producer-Id", "p"}},
		"a producer's fraction":    {400, "POST", "", "1", []string{"Content-Type", isJSON, "Producer-Id", "p", "Producer-Epoch", "0", "Producer-Seq", "1.0"}},
		"a gap":                    {409, "POST", "", "1", []string{"Content-Type", isJSON, "Producer-Id", "p", "Producer-Epoch", "0", "Producer-Seq", "1"}},
		"both ends":                {400, "PUT", "", "", []string{"Stream-TTL", "1", "Stream-Expires-At", "2030-01-01T00:00:00Z"}},
		"no TTL":                   {400, "PUT", "", "", []string{"Stream-TTL", "01"}},
		"no time":                  {400, "PUT", "", "", []string{"Stream-Expires-At", "tomorrow"}},
		"what is there otherwise":  {409, "PUT", "", "", []string{"Content-Type", isText}},
		"a fork":                   {400, "PUT", "", "", []string{"Stream-Forked-From", lists + "l"}},
		"a method":                 {405, "PATCH", "", "", nil},
	} {
		w := c.send(x.method, lists+"l"+x.query, x.body, x.headers...)
		require.Equal(t, x.status, w.Code, "%s: %s", name, w.Body)
		var e struct{ Code, Status int }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e), name)
		require.Equal(t, x.status, e.Status, name)
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"), name)
	}
	for _, path := range []string{"", "l/m"} {
		c.is(404, c.send("GET", lists+path, ""))
	}
	c.is(404, c.send("GET", "/v1/Services/default/durable/Maps/l", ""))
	require.Equal(t, "GET, HEAD, OPTIONS", c.is(405, c.send("POST", "/v1/Services/default/durable/Streams/l", "1")).Header().Get("Allow"))
}

func TestTokensHavePermissions(t *testing.T) {
	c := start(t)
	_, err := c.api.UpdateService(t.Context(), api.Caller{Service: fsm.Ref{SID: fsmtest.Service}}, &fsm.UpdateService{ACLEnabled: new(true)})
	require.NoError(t, err)
	alice, bob := []string{"Authorization", "Bearer alice", "Content-Type", isJSON}, []string{"Authorization", "Bearer bob", "Content-Type", isJSON}
	c.is(201, c.send("PUT", lists+"l", "", alice...))
	c.is(204, c.send("POST", lists+"l", "1", alice...))
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
		body := ""
		if method == "POST" {
			body = "1"
		}
		c.is(403, c.send(method, lists+"l", body, bob...))
	}
	_, _, err = c.api.SetPermission(t.Context(), api.Caller{Service: fsm.Ref{SID: fsmtest.Service}}, objects.KindList, fsm.Ref{Name: "l"}, "bob", objects.Read)
	require.NoError(t, err)
	require.Equal(t, "[1]", c.is(200, c.send("GET", lists+"l", "", bob...)).Body.String())
	c.is(403, c.send("POST", lists+"l", "1", bob...))
}

func TestWriteIsRepeatedUnderItsKey(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", "", "Content-Type", isJSON))
	for range 2 {
		c.is(204, c.send("POST", lists+"l", "1", "Content-Type", isJSON, "Idempotency-Key", "k"))
	}
	require.Equal(t, "[1]", c.send("GET", lists+"l", "").Body.String())
}

func TestIdleStreamEnds(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", "", "Stream-TTL", "60"))
	require.Equal(t, "60", c.send("HEAD", lists+"l", "").Header().Get("Stream-TTL"))
	ends := func() int64 {
		s, _ := c.node.View().Service(fsm.Ref{SID: fsmtest.Service})
		o, _ := c.node.View().Object(s.Num, objects.KindList, fsm.Ref{Name: "l"})
		return o.Expires - c.clock.UnixMilli()
	}
	c.clock = c.clock.Add(50 * time.Second)
	c.is(200, c.send("HEAD", lists+"l", ""))
	require.EqualValues(t, 10_000, ends())
	c.is(204, c.send("POST", lists+"l", "1", "Content-Type", isJSON))
	require.EqualValues(t, 60_000, ends())
	c.clock = c.clock.Add(50 * time.Second)
	c.is(200, c.send("GET", lists+"l", ""))
	require.EqualValues(t, 60_000, ends(), "although nothing else was written meanwhile")
	c.is(201, c.send("PUT", lists+"m", "", "Stream-Expires-At", "2026-03-05T00:00:00.5+01:00"))
	require.Equal(t, "2026-03-04T23:00:00.5Z", c.send("HEAD", lists+"m", "").Header().Get("Stream-Expires-At"))
}

// during calls something before each command is carried out.
type during struct {
	api.Node
	call func()
}

func (d during) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	d.call()
	return d.Node.Propose(ctx, c)
}

// Bytes of bodies are taken before a body is read, and given back with the answer.
func TestBodiesUnderWayAreBounded(t *testing.T) {
	bodies, used := budget.New(-1), int64(0)
	c := start(t, func(c *client, config *durablestreams.Config) {
		config.API = api.New(during{c.node, func() { used = bodies.Used() }})
		config.Bodies = bodies.Share(1000)
	})
	c.is(201, c.send("PUT", lists+"l", "", "Content-Type", isText))
	c.is(204, c.send("POST", lists+"l", strings.Repeat("x", 1000), "Content-Type", isText))
	require.EqualValues(t, 1000, used, "while it is carried out")
	refused := c.is(429, c.send("POST", lists+"l", strings.Repeat("x", 1001), "Content-Type", isText))
	require.Equal(t, "1", refused.Header().Get("Retry-After"))
	require.Zero(t, bodies.Used())
}

// A body may take longer to arrive than what follows may take.
func TestBodyHasATimeOfItsOwn(t *testing.T) {
	const timeout = 200 * time.Millisecond
	c := start(t, func(_ *client, config *durablestreams.Config) { config.Timeout = timeout })
	r, body := io.Pipe()
	go func() {
		time.Sleep(timeout + 100*time.Millisecond) // the request is as old then
		_, _ = io.WriteString(body, "1")
		body.Close()
	}()
	request, err := http.NewRequestWithContext(t.Context(), "PUT", c.serve()+lists+"l", r)
	require.NoError(t, err)
	request.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, 201, answer.StatusCode)
}

func TestPathsOfStreams(t *testing.T) {
	for text, want := range map[string]bool{
		lists + "l": true, "/v1/Services/a%2Fdurable%2Fb/Lists/l": false, "/v1/Services/x/Lists/durable": false, "/durable/x": false,
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, durablestreams.Serves(u), text)
	}
}
