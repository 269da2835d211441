package realtime_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/auth"
	"lockstep/server/realtime"
)

func TestInitTellsWhatTheClientReads(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		type reply struct {
			Continuation string                       `json:"continuation_token"`
			Storage      map[string]map[string]string `json:"offline_storage"`
			Account      struct {
				Account   string            `json:"account_sid"`
				Instances map[string]string `json:"instance_sids"`
				Identity  string            `json:"identity"`
			} `json:"account_descriptor"`
		}
		connect := func(identity string, continuation any) (r reply) {
			m := w.dial().ask(map[string]any{"method": "init", "token": w.token(identity, nil), "continuation_token": continuation}, "")
			require.Equal(w, 200, m.Status.Code)
			require.NoError(w, json.Unmarshal(m.header, &r))
			return r
		}
		first, again, other := connect("zoë", nil), connect("zoë", "CTmine"), connect("bob", nil)
		require.Equal(w, fsmtest.AccountSID, first.Account.Account)
		require.Equal(w, fsmtest.Service.String(), first.Account.Instances["data_sync"])
		require.Equal(w, "zoë", first.Account.Identity)
		require.NotEmpty(w, first.Continuation)
		require.Equal(w, "CTmine", again.Continuation)
		storage := func(r reply) string { return r.Storage["data_sync"]["storage_id"] }
		require.NotEmpty(w, storage(first))
		require.Equal(w, storage(first), storage(again))
		require.NotEqual(w, storage(first), storage(other))
	})
}

func TestInitIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		token func(w *world) string
		code  int
	}{
		"garbage": {func(w *world) string { return "garbage" }, 20101},
		"wrong secret": {func(w *world) string {
			return w.token("a", func(s *auth.TokenSpec) { s.Secret = strings.Repeat("x", 32) })
		}, 20101},
		"unknown key": {func(w *world) string {
			return w.token("a", func(s *auth.TokenSpec) { s.KeySID = "SK" + strings.Repeat("0", 32) })
		}, 20101},
		"unknown service": {func(w *world) string {
			return w.token("a", func(s *auth.TokenSpec) { s.ServiceSID = "IS" + strings.Repeat("0", 32) })
		}, 20101},
		"expired": {func(w *world) string {
			text := w.token("a", lifetime(time.Second))
			time.Sleep(time.Minute)
			return text
		}, 20104},
		"from the future": {func(w *world) string {
			text, _ := auth.Mint(auth.TokenSpec{AccountSID: fsmtest.AccountSID, KeySID: fsmtest.KeySID.String(), Secret: fsmtest.KeySecret, Identity: "a", ServiceSID: "default"}, time.Now().Add(time.Hour))
			return text
		}, 20105},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				token := test.token(w)
				c := w.dial()
				m := c.init(token)
				require.Equal(w, status{Code: 401, Status: "UNAUTHORIZED", ErrorCode: test.code}, m.Status)
				_, code := c.closes()
				require.Equal(w, websocket.CloseNormalClosure, code)
			})
		})
	}
}

func TestNothingIsServedBeforeInit(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.dial()
		c.begin(request("POST", "/v3/Documents", nil, nil), `{}`)
		last, _ := c.closes()
		require.Equal(w, "close", last.Method)
		require.Equal(w, 401, last.Status.Code)

		begin := time.Now()
		last, _ = w.dial().closes()
		require.Equal(w, 401, last.Status.Code)
		require.Equal(w, 10*time.Second, time.Since(begin).Round(time.Second))
	})
}

func TestTokenIsAnnouncedAndExpires(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.dial()
		c.init(w.token("alice", lifetime(10*time.Minute)))
		stop := c.staysAlive()
		begin := time.Now()
		for m, _ := c.next(); m.Method != "client_update"; m, _ = c.next() {
			require.Equal(w, "ping", m.Method)
		}
		require.Equal(w, 7*time.Minute, time.Since(begin).Round(time.Second))
		last, _ := c.closes()
		stop()
		require.Equal(w, "close", last.Method)
		require.Equal(w, status{Code: 410, Status: "TOKEN_EXPIRED"}, last.Status)
		require.Equal(w, 10*time.Minute, time.Since(begin).Round(time.Second))
	})
}

// staysAlive answers as a client does that gets messages all the time.
func (c *client) staysAlive() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c.reading.Go(func() {
		for {
			select {
			case <-time.After(15 * time.Second):
				if c.write(encode(map[string]any{"method": "reply", "id": "x"}, "")) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return cancel
}

func TestTokenIsRenewed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.dial()
		c.init(w.token("alice", lifetime(time.Minute)))
		update := func(token string) status {
			return c.ask(map[string]any{"method": "update", "token": token}, "").Status
		}
		require.Equal(w, status{Code: 401, Status: "UNAUTHORIZED"}, update(w.token("mallory", nil)))
		require.Equal(w, status{Code: 401, Status: "UNAUTHORIZED", ErrorCode: 20101}, update("garbage"))
		require.Equal(w, 200, update(w.token("alice", nil)).Code)
		stop := c.staysAlive()
		time.Sleep(5 * time.Minute)
		c.http(201, "POST", "/v3/Documents", `{}`)
		stop()
	})
}

func TestSilenceIsPingedAndThenEnds(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		begin := time.Now()
		m, _ := c.next()
		require.Equal(w, "ping", m.Method)
		require.Equal(w, 20*time.Second, time.Since(begin).Round(time.Second))
		c.send(map[string]any{"method": "reply", "id": m.ID}, "")
		_, code := c.closes()
		require.Equal(w, -1, code)
		require.Equal(w, 80*time.Second, time.Since(begin).Round(time.Second))
	})
}

func TestRevokedKeyEndsItsSessions(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		other := objects.NewSID(objects.KindKey, commandid.New())
		w.node.Must(&fsm.CreateKey{SID: other, Secret: strings.Repeat("s", 32)})
		withOther := func(s *auth.TokenSpec) { s.KeySID, s.Secret = other.String(), strings.Repeat("s", 32) }
		stays, goes, renewed := w.connect("a"), w.dial(), w.dial()
		goes.init(w.token("b", withOther))
		renewed.init(w.token("c", withOther))
		require.Equal(w, 200, renewed.ask(map[string]any{"method": "update", "token": w.token("c", nil)}, "").Status.Code)
		w.node.Must(&fsm.RevokeKey{SID: other})
		last, _ := goes.closes()
		require.Equal(w, "close", last.Method)
		require.Equal(w, 401, last.Status.Code)
		stays.http(201, "POST", "/v3/Documents", `{}`)
		renewed.http(201, "POST", "/v3/Documents", `{}`)
	})
}

func TestRemovedServiceEndsItsSessions(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		sid := objects.NewSID(objects.KindService, commandid.New())
		w.node.Must(&fsm.CreateService{SID: sid})
		stays, goes := w.connect("a"), w.dial()
		goes.init(w.token("b", func(s *auth.TokenSpec) { s.ServiceSID = sid.String() }))
		_, err := w.node.Propose(context.Background(), &fsm.Command{ID: commandid.New(), Service: sid, Op: &fsm.RemoveService{}})
		require.NoError(w, err)
		last, _ := goes.closes()
		require.Equal(w, 401, last.Status.Code)
		stays.http(201, "POST", "/v3/Documents", `{}`)
	})
}

func TestWhatIsNoMessageEndsTheConnection(t *testing.T) {
	for name, b := range map[string]string{
		"garbage": "garbage", "empty": "", "header cut off": "TWILSOCK V3.0 5\r\n{\"a\"}\r\n", "too long a header": "TWILSOCK V3.0 99999999\r\n{}\r\n",
		"negative": "TWILSOCK V3.0 -1\r\n{}\r\n", "another version": "TWILSOCK V9.9 2\r\n{}\r\n", "no method": "TWILSOCK V3.0 2\r\n{}\r\n",
		"too long a payload": "TWILSOCK V3.0 60\r\n{\"method\":\"message\",\"id\":\"x\",\"payload_size\":900000000000000}\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				good, bad := w.connect("good"), w.connect("bad")
				bad.raw([]byte(b))
				last, code := bad.closes()
				require.Equal(w, "close", last.Method)
				require.Equal(w, 417, last.Status.Code)
				require.Equal(w, websocket.CloseNormalClosure, code)
				good.http(201, "POST", "/v3/Documents", `{}`)
			})
		})
	}
}

func TestTextFrameIsNoMessage(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		require.NoError(w, c.ws.WriteMessage(websocket.TextMessage, encode(map[string]any{"method": "x", "id": "1"}, "")))
		last, _ := c.closes()
		require.Equal(w, 417, last.Status.Code)
	})
}

func TestMessageBeyondDiscardLimitEndsConnection(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.DiscardBytes = 1 << 20 }, func(w *world) {
		c := w.connect("alice")
		big := request("POST", "/v3/Documents", nil, nil)
		big["id"] = "TMbig"
		c.ws.WriteMessage(websocket.BinaryMessage, encode(big, strings.Repeat("x", 1<<20))) // may fail half-way
		_, code := c.closes()
		require.Contains(w, []int{websocket.CloseMessageTooBig, -1}, code)
	})
}

func TestOtherMessages(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		require.Equal(w, 400, c.ask(map[string]any{"method": "frobnicate"}, "").Status.Code)
		require.Equal(w, 400, c.ask(map[string]any{"method": "message"}, "").Status.Code)
		require.Equal(w, 200, c.ask(map[string]any{"method": "put_notification_ctx"}, "").Status.Code)
		c.send(map[string]any{"method": "telemetry.v1", "id": "t"}, "")
		c.send(map[string]any{"method": "reply", "id": "whatever"}, "")
		require.NoError(w, c.ws.WriteControl(websocket.PingMessage, []byte("hello"), time.Now().Add(time.Second)))
		c.silent()
		c.send(map[string]any{"method": "close", "id": "c"}, "")
		_, code := c.closes()
		require.Equal(w, -1, code)
	})
}

func TestPingsOfTheWebsocketAreAnswered(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.dial()
		pong := make(chan string, 1)
		c.ws.SetPongHandler(func(data string) error { pong <- data; return nil })
		require.Equal(w, 200, c.init(w.token("alice", nil)).Status.Code)
		require.NoError(w, c.ws.WriteControl(websocket.PingMessage, []byte("hello"), time.Now().Add(time.Second)))
		require.Equal(w, "hello", <-pong)
		require.NoError(w, c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second)))
		_, code := c.closes()
		require.Equal(w, websocket.CloseNormalClosure, code)
	})
}

func TestSessionIsReported(t *testing.T) {
	var told []string
	sessions := map[string]int{}
	hook := func(what string) func(objects.SID, fsm.Actor, string) {
		return func(service objects.SID, a fsm.Actor, session string) {
			sessions[session]++
			told = append(told, what+" "+a.Identity+" "+a.Endpoint+" "+service.String())
		}
	}
	inWorld(t, func(c *realtime.Config) { c.Connected, c.Disconnected = hook("connected"), hook("disconnected") }, func(w *world) {
		w.dial().init("garbage")
		c := w.dial()
		c.init(w.token("alice", func(s *auth.TokenSpec) { s.EndpointID = "phone" }))
		c.ws.Close()
		synctest.Wait()
	})
	end := " alice phone " + fsmtest.Service.String()
	require.Equal(t, []string{"connected" + end, "disconnected" + end}, told)
	require.Len(t, sessions, 1)
}

// A client that comes back with its continuation token is the same endpoint.
func TestEndpointOutlivesItsConnection(t *testing.T) {
	var endpoints []string
	connected := func(_ objects.SID, a fsm.Actor, _ string) { endpoints = append(endpoints, a.Endpoint) }
	inWorld(t, func(c *realtime.Config) { c.Connected = connected }, func(w *world) {
		var first struct {
			Token string `json:"continuation_token"`
		}
		require.NoError(w, json.Unmarshal(w.dial().init(w.token("alice", nil)).header, &first))
		again := w.dial().ask(map[string]any{"method": "init", "token": w.token("alice", nil), "continuation_token": first.Token}, "")
		require.Contains(w, string(again.header), `"reissued":false`)
		w.dial().ask(map[string]any{"method": "init", "token": w.token("bob", nil), "continuation_token": first.Token}, "")
		w.dial().init(w.token("alice", nil))
		synctest.Wait()
	})
	require.Len(t, endpoints, 4)
	require.Equal(t, endpoints[0], endpoints[1])
	require.NotEqual(t, endpoints[0], endpoints[2], "of another identity")
	require.NotEqual(t, endpoints[0], endpoints[3], "another client")
}

func TestOversizedDataIsRefusedAndSessionGoesOn(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		for _, size := range []int{16 << 10, 70_000, 256_000, 2_000_000} {
			refused := c.http(413, "POST", "/v3/Documents", `{"data":"`+strings.Repeat("x", size)+`"}`)
			require.EqualValues(w, 54006, refused["code"])
		}
		c.http(201, "POST", "/v3/Documents", `{"data":"`+strings.Repeat("x", 16<<10-2)+`"}`)
	})
}

func TestDrainSendsClientsElsewhere(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		clients := make([]*client, 10)
		for i := range clients {
			clients[i] = w.connect("u")
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.endpoint.Drain(ctx)
		spread := time.Since(begin)
		require.Greater(w, spread, 500*time.Millisecond)
		require.Less(w, spread, time.Second)
		for _, c := range clients {
			last, code := c.closes()
			require.Zero(w, last, "no message: it would keep the client away")
			require.Equal(w, websocket.CloseServiceRestart, code)
		}
		answer := httptest.NewRecorder()
		w.endpoint.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v3/wsconnect", nil))
		require.Equal(w, http.StatusServiceUnavailable, answer.Code)
		require.NotEmpty(w, answer.Header().Get("Retry-After"))

		w.endpoint.Resume()
		w.connect("u")
		require.NoError(w, w.endpoint.Close())
		w.endpoint.Resume()
		answer = httptest.NewRecorder()
		w.endpoint.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v3/wsconnect", nil))
		require.Equal(w, http.StatusServiceUnavailable, answer.Code, "closed is closed")
	})
}

func TestNobodyIsLetInBeforeTheNodeIsReady(t *testing.T) {
	ready := make(chan struct{})
	inWorld(t, func(c *realtime.Config) { c.Ready = ready }, func(w *world) {
		answer := httptest.NewRecorder()
		w.endpoint.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v3/wsconnect", nil))
		require.Equal(w, http.StatusServiceUnavailable, answer.Code)
		close(ready)
		answer = httptest.NewRecorder()
		w.endpoint.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v3/wsconnect", nil))
		require.Equal(w, http.StatusBadRequest, answer.Code, "not a websocket")
	})
}
