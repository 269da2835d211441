package realtime_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/server/auth"
	"lockstep/server/budget"
	"lockstep/server/ratelimit"
	"lockstep/server/realtime"
)

// What is too large is answered under its id, and whatever else is under way on
// the connection goes on.
func TestOversizedMessageLeavesSessionUsable(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		d := c.create("Documents")
		before := c.begin(request("GET", "/v3/Documents/"+d, nil, nil), "")
		large := []string{
			c.begin(request("POST", "/v3/Documents/"+d, nil, nil), `{"data":"`+strings.Repeat("x", 5_000_000)+`"}`),
			"TMpath",
		}
		head := `{"method":"message","id":"TMpath","http_request":{"method":"GET","path":"/v3/Documents/` + strings.Repeat("x", 100_000) + `"}}`
		c.raw(fmt.Appendf(nil, "TWILSOCK V3.0 %d\r\n%s\r\n", len(head), head))
		after := c.begin(request("POST", "/v3/Documents/"+d, nil, nil), `{"data":{"after":1}}`)
		answers := map[string]got{}
		for len(answers) < 4 {
			m, ok := c.next()
			require.True(w, ok, "the connection ended")
			answers[m.ID] = m
		}
		c.answered(200, answers[before])
		for _, id := range large {
			require.EqualValues(w, 54006, c.answered(413, answers[id])["code"])
		}
		c.answered(200, answers[after])
		require.EqualValues(w, 54100, c.http(404, "POST", "/v3/Documents/ET"+strings.Repeat("0", 32), strings.Repeat("x", 70_000))["code"])
	})
}

func TestFirstMessageIsSmall(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.dial()
		c.write(encode(map[string]any{"method": "init", "id": "i", "token": strings.Repeat("x", 17<<10)}, "")) // may fail half-way
		last, _ := c.closes()
		require.Equal(w, 401, last.Status.Code)
	})
}

func TestConnectionBeforeInitIsNoSession(t *testing.T) {
	metrics := prometheus.NewRegistry()
	inWorld(t, func(c *realtime.Config) {
		c.Metrics, c.Arrivals, c.Sessions, c.ConnectsPerSource = metrics, 3, 2, -1
	}, func(w *world) {
		var silent []*client
		for range 10 {
			silent = append(silent, w.dial())
			synctest.Wait()
		}
		require.Zero(w, metric(w, metrics, "lockstep_sessions"))
		begin := time.Now()
		for _, c := range silent[:7] { // the oldest made room
			last, code := c.closes()
			require.Zero(w, last)
			require.Equal(w, -1, code)
		}
		require.Zero(w, time.Since(begin))
		w.connect("alice").create("Documents")
		require.EqualValues(w, 1, metric(w, metrics, "lockstep_sessions"))
		for _, c := range silent[8:] {
			last, _ := c.closes()
			require.Equal(w, 401, last.Status.Code)
		}
		require.Equal(w, 10*time.Second, time.Since(begin))
	})
}

// refusedInit connects and returns the answer to init, which is no.
func (w *world) refusedInit(identity string) (s status, backoff float64) {
	c := w.dial()
	m := c.init(w.token(identity, nil))
	c.closes()
	var body struct {
		Policy struct {
			Min float64 `json:"reconnect_min_ms"`
		} `json:"backoff_policy"`
	}
	if len(m.body) > 0 {
		require.NoError(w, json.Unmarshal(m.body, &body))
	}
	return m.Status, body.Policy.Min
}

func TestSessionsPerIdentityAreBounded(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.SessionsPerIdentity = 2 }, func(w *world) {
		first := w.connect("alice")
		w.connect("alice")
		refused, backoff := w.refusedInit("alice")
		require.Equal(w, 429, refused.Code)
		require.GreaterOrEqual(w, backoff, 1000.0)
		w.connect("bob")
		first.ws.Close()
		synctest.Wait()
		w.connect("alice")
	})
}

func TestConnectsPerIdentityAreRateLimited(t *testing.T) {
	inWorld(t, func(c *realtime.Config) {
		c.ConnectsPerIdentity, c.Limits = 1, ratelimit.New[string](3*time.Second)
	}, func(w *world) {
		for range 3 {
			w.connect("alice").ws.Close()
		}
		refused, backoff := w.refusedInit("alice")
		require.Equal(w, 429, refused.Code)
		require.EqualValues(w, 1000, backoff)
		w.connect("bob")
		time.Sleep(time.Second)
		w.connect("alice")
	})
}

// flooded reads until the connection ends: there have been refusals, and then
// the order to stay away.
func (c *client) flooded(refusal int) {
	refusals := 0
	var last got
	for m, ok := c.next(); ok; m, ok = c.next() {
		if m.Status.Code == refusal || m.HTTPStatus != nil && m.HTTPStatus.Code == refusal {
			require.Contains(c, string(m.body), `"backoff_policy":{"reconnect_min_ms":`)
			refusals++
		}
		last = m
	}
	require.Positive(c, refusals)
	require.Equal(c, "close", last.Method)
	require.Equal(c, status{Code: 308, Status: "TOO_MANY_REQUESTS"}, last.Status)
	require.JSONEq(c, `{"backoff_policy":{"reconnect_min_ms":10000}}`, string(last.body))
	require.Equal(c, websocket.CloseNormalClosure, c.ended)
}

func TestFloodEndsSession(t *testing.T) {
	for name, flood := range map[string]func(*world) map[string]any{
		"requests": func(*world) map[string]any { return request("GET", "/v3/Nothing", nil, nil) },
		"updates":  func(*world) map[string]any { return map[string]any{"method": "update", "token": "garbage"} },
		"unknown":  func(*world) map[string]any { return map[string]any{"method": "frobnicate"} },
		"pings":    func(*world) map[string]any { return map[string]any{"method": "ping"} },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(c *realtime.Config) {
				c.SessionRequests, c.FloodRefusals = 10, 50
			}, func(w *world) {
				good, bad := w.connect("good"), w.connect("bad")
				message := flood(w)
				message["id"] = "TMflood"
				b := encode(message, "")
				go func() {
					for range 1000 {
						if bad.write(b) != nil {
							return
						}
					}
				}()
				bad.flooded(429)
				good.create("Documents")
			})
		})
	}
}

// Messages that get no answer cost as much as those that do.
func TestFloodWithoutAnswersEndsSession(t *testing.T) {
	for _, method := range []string{"telemetry.v1", "reply"} {
		t.Run(method, func(t *testing.T) {
			inWorld(t, func(c *realtime.Config) {
				c.SessionRequests, c.FloodRefusals = 10, 50
			}, func(w *world) {
				c := w.connect("alice")
				go func() {
					for range 1000 {
						if c.write(encode(map[string]any{"method": method, "id": "x"}, "")) != nil {
							return
						}
					}
				}()
				last, _ := c.closes()
				require.Equal(w, 308, last.Status.Code)
			})
		})
	}
}

// A client that replies to all that it hears owes nothing for it.
func TestRepliesToNotificationsAreFree(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.SessionRequests, c.FloodRefusals = 1, 5 }, func(w *world) {
		c := w.connect("alice")
		stream := c.create("Streams")
		c.subscribe(1, map[string]any{"object_sid": stream, "object_type": "stream"})
		c.nextNote()
		writer := w.connect("bob")
		for n := range 500 {
			writer.http(201, "POST", "/v3/Streams/"+stream+"/Messages", `{"data":{}}`)
			c.nextNote()
			c.send(map[string]any{"method": "reply", "id": fmt.Sprint(n)}, "")
			time.Sleep(time.Second)
		}
		require.Equal(w, 200, c.ask(map[string]any{"method": "ping"}, "").Status.Code)
	})
}

// Coming back at once gets a client that does not stop nothing: it is read no
// faster than others of its identity may be refused.
func TestFloodIsReadSlowlyAcrossSessionsOfIdentity(t *testing.T) {
	inWorld(t, func(c *realtime.Config) {
		c.SessionRequests, c.FloodRefusals, c.ConnectsPerIdentity = 1, 50, -1
		c.Limits = ratelimit.New[string](10 * time.Second)
	}, func(w *world) {
		begin, answered := time.Now(), 0
		for range 6 {
			c := w.connect("mallory")
			c.reading.Go(func() {
				for c.write(encode(map[string]any{"method": "ping", "id": "x"}, "")) == nil {
				}
			})
			for _, more := c.next(); more; _, more = c.next() {
				answered++
			}
		}
		const atOnce, perSecond = 6*10 + 50, 1 + 5 // requests, of each session, and refusals, of all
		require.LessOrEqual(w, float64(answered), atOnce+perSecond*time.Since(begin).Seconds()+6)
		require.Greater(w, time.Since(begin), 30*time.Second)
	})
}

// The sessions of an identity are read at its pace together, and refused nothing for
// that; others are read meanwhile.
func TestIdentityIsReadAtItsPace(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.IdentityRequests = 100 }, func(w *world) {
		const each, atOnce = 300, 25
		sessions := []*client{w.connect("alice"), w.connect("alice")}
		begin := time.Now()
		for _, c := range sessions {
			c.reading.Go(func() {
				for range each {
					if c.write(encode(map[string]any{"method": "ping", "id": "x"}, "")) != nil {
						return
					}
				}
			})
		}
		w.connect("bob").create("Documents")
		require.Less(w, time.Since(begin), time.Second)
		for _, c := range sessions {
			for range each {
				m, more := c.next()
				require.True(w, more)
				require.Equal(w, 200, m.Status.Code)
			}
		}
		require.InDelta(w, float64(2*each-atOnce)/100, time.Since(begin).Seconds(), 0.1)
	})
}

// What a client that was turned away sends next is no request, and not read.
func TestRefusedConnectionIsClosed(t *testing.T) {
	inWorld(t, func(c *realtime.Config) {
		c.ConnectsPerSource, c.Limits = 1, ratelimit.New[string](time.Second)
	}, func(w *world) {
		w.dial()
		conn, err := w.pipes.dial(w.Context(), "", "")
		require.NoError(w, err)
		r := httptest.NewRequest(http.MethodGet, "http://node.example"+realtime.Path, nil)
		go func() { _ = r.Write(conn) }()
		answer, err := http.ReadResponse(bufio.NewReader(conn), r)
		require.NoError(w, err)
		require.Equal(w, http.StatusTooManyRequests, answer.StatusCode)
		require.True(w, answer.Close)
	})
}

func TestWebsocketPingsAreChargedAsRequests(t *testing.T) {
	inWorld(t, func(c *realtime.Config) {
		c.SessionRequests, c.FloodRefusals = 10, 50
	}, func(w *world) {
		c := w.connect("alice")
		go func() {
			for range 1000 {
				if c.ws.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(time.Second)) != nil {
					return
				}
			}
		}()
		last, _ := c.closes()
		require.Equal(w, 308, last.Status.Code)
	})
}

// A token that is wrong by what is known here costs nothing of the cluster's; one
// with an unknown key costs little.
func TestWrongTokensAskTheLeaderForLittle(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		update := func(token string) status { return c.ask(map[string]any{"method": "update", "token": token}, "").Status }
		for range 200 {
			require.Equal(w, 401, update(w.token("alice", func(s *auth.TokenSpec) { s.Secret = strings.Repeat("x", 32) })).Code)
		}
		unknown := map[int]int{}
		for range 200 {
			unknown[update(w.token("alice", func(s *auth.TokenSpec) { s.KeySID = "SK" + strings.Repeat("0", 32) })).Code]++
		}
		require.Equal(w, map[int]int{401: 100, 429: 100}, unknown)
		c.create("Documents")
	})
}

func TestRequestBytesUnderWayAreBounded(t *testing.T) {
	node := budget.New(-1)
	inWorld(t, func(c *realtime.Config) { c.RequestBytes = node.Share(40_000) }, func(w *world) {
		c, other := w.connect("alice"), w.connect("bob")
		refused := c.http(429, "POST", "/v3/Documents", `{"data":"`+strings.Repeat("x", 45_000)+`"}`)
		require.Equal(w, map[string]any{"reconnect_min_ms": 1000.0}, refused["backoff_policy"])
		c.http(413, "POST", "/v3/Documents", `{"data":"`+strings.Repeat("x", 30_000)+`"}`)
		for i := range 100 {
			c.http(201, "POST", "/v3/Documents", fmt.Sprintf(`{"unique_name":"n%d","data":"%s"}`, i, strings.Repeat("x", 10_000)))
		}
		other.create("Documents")
		c.ws.Close()
		synctest.Wait()
		require.Zero(w, node.Used(), "all was given back")
	})
}

// A session's requests wait on its side when many bytes are under way, and are
// all carried out.
func TestSessionIsNotReadBeyondRequestsUnderWay(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.SessionRequestBytes = 30_000 }, func(w *world) {
		c := w.connect("alice")
		d := c.create("Documents")
		var ids []string
		for range 50 {
			ids = append(ids, c.begin(request("POST", "/v3/Documents/"+d, nil, nil), `{"data":"`+strings.Repeat("x", 12_000)+`"}`))
		}
		for _, id := range ids {
			c.answered(200, c.await(id))
		}
	})
}

// A client that takes a little now and then, so that no write times out, does
// not keep much waiting for ever.
func TestSlowReaderIsThrownOut(t *testing.T) {
	metrics, waiting := prometheus.NewRegistry(), budget.New(-1)
	inWorld(t, func(c *realtime.Config) {
		c.Metrics, c.AnswerBytes = metrics, waiting.Share(-1)
		c.SlowBytes, c.SlowRate, c.SlowWindow = 200_000, 32<<10, 20*time.Second
	}, func(w *world) {
		writer, c := w.connect("writer"), w.dialBy(w.pipes.slowly(16<<10))
		c.init(w.token("slow", nil))
		m := writer.create("Maps")
		for i := range 20 {
			writer.put(m, fmt.Sprint("k", i), `"`+strings.Repeat("x", 16_000)+`"`)
		}
		for range 10 {
			get := request("GET", "/v3/Maps/"+m+"/Items", nil, nil)
			get["id"] = "TM"
			c.write(encode(get, "")) // fails where the connection has ended meanwhile
		}
		begin := time.Now()
		c.closes()
		require.Less(w, time.Since(begin), 30*time.Second)
		synctest.Wait()
		require.EqualValues(w, 1, metric(w, metrics, "lockstep_sessions_slow_closed_total"))
		require.Zero(w, waiting.Used(), "all was given back")

		patient := w.dialBy(w.pipes.slowly(64 << 10))
		patient.init(w.token("patient", nil))
		for range 10 {
			patient.http(200, "GET", "/v3/Maps/"+m+"/Items", "")
		}
	})
}
