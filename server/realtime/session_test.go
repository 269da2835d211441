package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/auth"
)

func TestInit(t *testing.T) {
	r := start(t)
	first := r.dial().init(token(t, "alice"))
	require.Equal(t, 200, first.Status.Code)
	require.Equal(t, fsmtest.AccountSID, first.Descriptor.Account)
	require.Equal(t, "alice", first.Descriptor.Identity)

	require.NotEmpty(t, first.Storage.Sync.ID)
	require.Equal(t, first.Storage.Sync.ID, r.dial().init(token(t, "alice")).Storage.Sync.ID)
	require.NotEqual(t, first.Storage.Sync.ID, r.dial().init(token(t, "bob")).Storage.Sync.ID)
}

func TestInitRefusals(t *testing.T) {
	r := start(t)
	for name, c := range map[string]struct {
		token  string
		status int
		code   int
	}{
		"no token":        {"", 401, 20101},
		"another secret":  {token(t, "a", func(s *auth.TokenSpec) { s.Secret = "x" }), 401, 20101},
		"another account": {token(t, "a", func(s *auth.TokenSpec) { s.AccountSID = "AC" }), 401, 20101},
		"unknown key":     {token(t, "a", func(s *auth.TokenSpec) { s.KeySID = "SK00" }), 401, 20101},
		"unknown service": {token(t, "a", func(s *auth.TokenSpec) { s.ServiceSID = "other" }), 401, 20101},
		"expired":         {expired(t), 401, 20104},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := r.dial()
			refused := c2.init(c.token)
			require.Equal(t, c.status, refused.Status.Code)
			require.Equal(t, "UNAUTHORIZED", refused.Status.Status)
			require.Equal(t, c.code, refused.Status.ErrorCode)
			require.Error(t, c2.ended())
		})
	}
}

func expired(t *testing.T) string {
	text, err := auth.Mint(auth.TokenSpec{
		AccountSID: fsmtest.AccountSID, KeySID: fsmtest.KeySID.String(), Secret: fsmtest.KeySecret,
		Identity: "a", ServiceSID: "default", Lifetime: time.Minute,
	}, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	return text
}

func TestInitWithoutQuorumIsNotDenied(t *testing.T) {
	r := start(t)
	r.node.failReads(objects.ErrUnavailable)
	unknown := token(t, "a", func(s *auth.TokenSpec) { s.ServiceSID = "new" })
	require.Equal(t, 503, r.dial().init(unknown).Status.Code, "the service may be there: the client comes again")
	require.Equal(t, 200, r.dial().init(token(t, "a")).Status.Code, "what is known needs no quorum")
}

func TestNothingIsServedBeforeInit(t *testing.T) {
	r := start(t)
	c := r.dial()
	c.request("GET", "/v3/Documents/x", "")
	require.Equal(t, "close", c.next().Method)
	require.Error(t, c.ended())
}

func TestInitTimeout(t *testing.T) {
	r := start(t, func(c *Config) { c.InitTimeout = 50 * time.Millisecond })
	c := r.dial()
	closed := c.next()
	require.Equal(t, "close", closed.Method)
	require.Equal(t, 401, closed.Status.Code)
	require.Error(t, c.ended())
}

func TestSecondInitIsUnknown(t *testing.T) {
	c := start(t).connect("alice")
	require.Equal(t, 400, c.init(token(t, "alice")).Status.Code)
}

func TestMalformedMessage(t *testing.T) {
	for name, message := range map[string][]byte{"init": nil, "later": []byte("x")} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			c := r.dial()
			if message != nil {
				require.Equal(t, 200, c.init(token(t, "a")).Status.Code)
			}
			require.NoError(t, c.conn.WriteMessage(websocket.BinaryMessage, []byte("x")))
			closed := c.next()
			require.Equal(t, "close", closed.Method)
			require.Equal(t, 417, closed.Status.Code)
			require.Error(t, c.ended())
		})
	}
}

func TestTextMessageIsMalformed(t *testing.T) {
	c := start(t).connect("a")
	require.NoError(t, c.conn.WriteMessage(websocket.TextMessage, encode(map[string]any{"method": "ping"}, nil)))
	require.Equal(t, 417, c.next().Status.Code)
}

func TestMessageBeyondTheLimitEndsTheConnection(t *testing.T) {
	c := start(t).connect("a")
	c.send(map[string]any{"method": "message"}, make([]byte, 64<<10))
	require.True(t, websocket.IsCloseError(c.ended(), websocket.CloseMessageTooBig))
}

func TestMethodsWithoutWork(t *testing.T) {
	c := start(t).connect("a")
	c.send(map[string]any{"method": "telemetry.v1", "events": []any{}}, nil)
	c.send(map[string]any{"method": "reply"}, []byte("{}"))
	for _, method := range []string{"put_notification_ctx", "delete_notification_ctx"} {
		id := c.send(map[string]any{"method": method, "notification_ctx_id": "x"}, nil)
		require.Equal(t, 200, c.reply(id).Status.Code)
	}
	require.Equal(t, 400, c.reply(c.send(map[string]any{"method": "message"}, nil)).Status.Code, "without a request")
	c.quiet()
}

func TestClientCloses(t *testing.T) {
	c := start(t).connect("a")
	c.send(map[string]any{"method": "close"}, nil)
	require.Error(t, c.ended())
}

func TestWebsocketPingIsAnswered(t *testing.T) {
	c := start(t).connect("a")
	pong := make(chan string, 1)
	c.conn.SetPongHandler(func(data string) error { pong <- data; return nil })
	require.NoError(t, c.conn.WriteControl(websocket.PingMessage, []byte("hello"), time.Now().Add(patience)))
	c.quiet()
	require.Equal(t, "hello", <-pong)
}

func TestSilentSessionIsPingedAndClosed(t *testing.T) {
	r := start(t, func(c *Config) { c.PingInterval, c.SilenceTimeout = 20*time.Millisecond, 500*time.Millisecond })
	c := r.connect("a")
	require.Equal(t, "ping", c.next().Method)
	require.Equal(t, "ping", c.next().Method)
	require.Error(t, c.ended())
}

func TestAnsweredPingsKeepASession(t *testing.T) {
	r := start(t, func(c *Config) { c.PingInterval, c.SilenceTimeout = 50*time.Millisecond, 5*time.Second })
	c := r.connect("a")
	for range 5 {
		ping := c.next()
		require.Equal(t, "ping", ping.Method)
		require.NoError(t, c.conn.WriteMessage(websocket.BinaryMessage, encode(map[string]any{"method": "reply", "id": ping.ID}, nil)))
	}
}

func TestTokenAboutToExpireAndExpired(t *testing.T) {
	c := start(t).dial()
	soon := token(t, "a", func(s *auth.TokenSpec) { s.Lifetime = 2 * time.Second })
	require.Equal(t, 200, c.init(soon).Status.Code)
	notice := c.next()
	require.Equal(t, "client_update", notice.Method)
	require.Equal(t, "token_about_to_expire", notice.Update)
	closed := c.next()
	require.Equal(t, "close", closed.Method)
	require.Equal(t, 410, closed.Status.Code)
	require.Equal(t, "TOKEN_EXPIRED", closed.Status.Status)
	require.True(t, websocket.IsCloseError(c.ended(), websocket.CloseServiceRestart))
}

func TestUpdateToALaterTokenKeepsTheSession(t *testing.T) {
	c := start(t, func(c *Config) { c.ExpiryNotice = time.Second }).dial()
	soon := token(t, "a", func(s *auth.TokenSpec) { s.Lifetime = 3 * time.Second })
	require.Equal(t, 200, c.init(soon).Status.Code)
	later := token(t, "a", func(s *auth.TokenSpec) { s.Lifetime = 5 * time.Second })
	require.Equal(t, 200, c.reply(c.send(map[string]any{"method": "update", "token": later}, nil)).Status.Code)
	require.Equal(t, "client_update", c.next().Method, "only the later token is announced")
	require.Equal(t, 410, c.next().Status.Code)
}

func TestUpdateRefusals(t *testing.T) {
	c := start(t).connect("alice")
	for name, text := range map[string]string{
		"none": "", "expired": expired(t), "another identity": token(t, "bob"),
		"another service": token(t, "alice", func(s *auth.TokenSpec) { s.ServiceSID = "x" }),
	} {
		refused := c.reply(c.send(map[string]any{"method": "update", "token": text}, nil))
		require.Equal(t, 401, refused.Status.Code, name)
		require.Equal(t, "UNAUTHORIZED", refused.Status.Status, name)
	}
	require.Equal(t, 200, c.reply(c.send(map[string]any{"method": "update", "token": token(t, "alice")}, nil)).Status.Code)
}

func TestRevokedKeyEndsItsSessions(t *testing.T) {
	r := start(t)
	other := objects.NewSID(objects.KindKey, [16]byte{7})
	r.node.Must(&fsm.CreateKey{SID: other, Secret: "another"})
	stays, goes := r.connect("a"), r.dial()
	require.Equal(t, 200, goes.init(token(t, "a", func(s *auth.TokenSpec) { s.KeySID, s.Secret = other.String(), "another" })).Status.Code)
	r.node.Must(&fsm.RevokeKey{SID: other})
	require.Equal(t, 401, goes.next().Status.Code)
	require.Error(t, goes.ended())
	stays.quiet()
}

func TestKeyRevokedWhileMissed(t *testing.T) {
	r := start(t)
	c := r.connect("a")
	for _, x := range r.sessions() {
		r.server.hub.Leave(x)
	}
	r.node.Must(&fsm.RevokeKey{SID: fsmtest.KeySID})
	for _, x := range r.sessions() {
		x.Lost()
	}
	require.Equal(t, 401, c.next().Status.Code)
}

func TestRemovedServiceEndsItsSessions(t *testing.T) {
	r := start(t)
	other := objects.NewSID(objects.KindService, [16]byte{7})
	r.node.Must(&fsm.CreateService{SID: other})
	stays, goes := r.connect("a"), r.dial()
	require.Equal(t, 200, goes.init(token(t, "a", func(s *auth.TokenSpec) { s.ServiceSID = other.String() })).Status.Code)
	_, err := r.node.Propose(context.Background(), &fsm.Command{ID: fsm.NewID(), Service: other, Op: &fsm.RemoveService{}})
	require.NoError(t, err)
	require.Equal(t, 401, goes.next().Status.Code)
	stays.quiet()
}

func TestReachabilityIsToldOnce(t *testing.T) {
	var mu sync.Mutex
	var told []string
	note := func(what string) func(objects.SID, fsm.Actor) {
		return func(service objects.SID, actor fsm.Actor) {
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, fsmtest.Service, service)
			told = append(told, what+" "+actor.Identity)
		}
	}
	r := start(t, func(c *Config) { c.Connected, c.Disconnected = note("connected"), note("disconnected") })
	c := r.connect("a")
	r.dial().init("nothing")
	c.send(map[string]any{"method": "close"}, nil)
	c.ended()
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == 2 })
	require.Equal(t, []string{"connected a", "disconnected a"}, told)
}

func TestNotReadyLetsNobodyIn(t *testing.T) {
	r := start(t, func(c *Config) { c.Ready = make(chan struct{}) })
	_, response, err := websocket.DefaultDialer.Dial(r.url, nil)
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NotEmpty(t, response.Header.Get("Retry-After"))
}

func TestOrdinaryRequestIsRefusedAsError(t *testing.T) {
	r := start(t)
	response, err := http.Get("http" + strings.TrimPrefix(r.url, "ws"))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	var e struct{ Code int }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&e))
	require.NotZero(t, e.Code)
}

func TestDrainClosesPlainlyAndWaits(t *testing.T) {
	r := start(t)
	var clients []*client
	for range 20 {
		clients = append(clients, r.connect("a"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.server.Drain(ctx)
	require.NoError(t, ctx.Err())
	require.Empty(t, r.sessions(), "Drain waits")
	for _, c := range clients {
		require.True(t, websocket.IsCloseError(c.ended(), websocket.CloseServiceRestart), "a close message would keep the client away")
		require.Len(t, c.frames, 1, "nothing but the reply to init")
	}
	_, response, err := websocket.DefaultDialer.Dial(r.url, nil)
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
}

func TestCloseEndsSessionsWithWorkUnderWay(t *testing.T) {
	r := start(t)
	document := r.create(objects.KindDocument, "d")
	release := r.node.keepAnswers()
	defer release()
	c := r.connect("a")
	c.request("POST", "/v3/Documents/"+document.SID.String(), `{"data":{"n":1}}`)
	eventually(t, func() bool { o, _ := r.node.View().ObjectBySID(document.SID); return o.EventID == 1 })
	require.NoError(t, r.server.Close())
	require.Empty(t, r.sessions())
	require.Error(t, c.ended())
}

func TestClientThatTakesNothingIsDisconnected(t *testing.T) {
	r := start(t, func(c *Config) { c.WriteTimeout = 100 * time.Millisecond })
	document := r.create(objects.KindDocument, "d")
	c := r.openPipe()
	c.send(map[string]any{"method": "init", "token": token(t, "a")}, nil)
	_, b, err := c.conn.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, 200, parse(t, b).Status.Code)
	c.request("GET", "/v3/Documents/"+document.SID.String(), "")
	eventually(t, func() bool { return count(r.server.metrics.slow) == 1 })
	eventually(t, func() bool { return len(r.sessions()) == 0 })
}

func TestClientThatTakesALittleIsKept(t *testing.T) {
	r := start(t, func(c *Config) { c.WriteTimeout = 200 * time.Millisecond })
	data := `{"x":"` + strings.Repeat("x", 10_000) + `"}`
	m := r.create(objects.KindMap, "m")
	for _, key := range []string{"a", "b", "c", "d"} {
		r.put(m, key, data)
	}
	c := r.openPipe()
	c.send(map[string]any{"method": "init", "token": token(t, "a")}, nil)
	_, _, err := c.conn.ReadMessage()
	require.NoError(t, err)
	c.request("GET", "/v3/Maps/m/Items", "")
	// The whole answer takes longer than the write time-out.
	raw, total := make([]byte, 4000), 0
	for total < 40_000 {
		time.Sleep(50 * time.Millisecond)
		n, err := c.conn.NetConn().Read(raw)
		require.NoError(t, err)
		total += n
	}
}

func TestFloodOfRequestsWithoutReadingIsBounded(t *testing.T) {
	r := start(t, func(c *Config) { c.QueueBytes, c.RequestsPerSession = 20_000, 4 })
	m := r.create(objects.KindMap, "m")
	r.put(m, "k", `{"x":"`+strings.Repeat("x", 15_000)+`"}`)
	c := r.openPipe()
	c.send(map[string]any{"method": "init", "token": token(t, "a")}, nil)
	_, _, err := c.conn.ReadMessage()
	require.NoError(t, err)

	const requests = 50
	sent := make(chan error, 1)
	go func() {
		for range requests {
			message := encode(map[string]any{"method": "message", "id": "x", "http_request": map[string]any{"path": "/v3/Maps/m/Items", "method": "GET"}}, nil)
			if err := c.conn.WriteMessage(websocket.BinaryMessage, message); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	x := r.sessions()[0]
	eventually(t, func() bool { return len(x.slots) == cap(x.slots) })
	x.outbox.mu.Lock()
	waiting := len(x.outbox.frames)
	x.outbox.mu.Unlock()
	require.LessOrEqual(t, waiting, 2+4, "a full outbox, and one answer of each slot")
	for range requests {
		_, b, err := c.conn.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, 200, parse(t, b).HTTP.Code)
	}
	require.NoError(t, <-sent)
}

func TestRequestsForOneObjectTakeEffectInOrder(t *testing.T) {
	r := start(t)
	list := r.create(objects.KindList, "l")
	c := r.connect("a")
	below := "/v3/Services/" + fsmtest.Service.String()
	const n = 200
	for i := range n {
		path := "/v3/Lists/" + list.SID.String() + "/Items"
		if i%2 == 1 { // mobile clients name the service, too
			path = below + "/Lists/" + list.SID.String() + "/Items"
		}
		data, _ := json.Marshal(map[string]any{"data": map[string]int{"n": i}})
		c.request("POST", path, string(data))
	}
	for range n {
		require.Equal(t, 201, c.next().HTTP.Code)
	}
	o, _ := r.node.View().ObjectBySID(list.SID)
	i := 0
	r.node.View().EachItem(o, func(item *objects.Item) bool {
		var data struct{ N int }
		require.NoError(t, json.Unmarshal(item.Data, &data))
		require.Equal(t, i, data.N)
		i++
		return true
	})
	require.Equal(t, n, i)
}

func TestRequestsForOtherObjectsDoNotWait(t *testing.T) {
	r := start(t)
	r.create(objects.KindDocument, "slow")
	r.create(objects.KindDocument, "fast")
	c := r.connect("a")
	release := r.node.keepAnswers()
	slow := c.request("POST", "/v3/Documents/slow", `{"data":{}}`)
	require.Equal(t, 200, c.do("GET", "/v3/Documents/fast", "").HTTP.Code)
	release()
	require.Equal(t, 200, c.reply(slow).HTTP.Code)
}

func TestUnavailableAndUnknown(t *testing.T) {
	r := start(t)
	c := r.connect("a")
	for path, status := range map[string]int{
		"": 404, "/": 404, "/v3": 404, "/v2/Maps/x": 404, "/v3/Things/x": 404, "/v3/Maps/%zz": 400, "/v4/Other": 404,
		"/v3/Services/IS00000000000000000000000000000099/Maps/x": 404, "/v3/Services": 404, "/v3/Services/default/Maps/x": 404,
	} {
		require.Equal(t, status, c.do("GET", path, "").HTTP.Code, path)
	}
	r.node.failReads(errors.New("no leader"))
	require.Equal(t, 503, c.do("GET", "/v3/Maps/x", "").HTTP.Code)
}
