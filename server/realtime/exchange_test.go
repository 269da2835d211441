package realtime_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm/fsmtest"
	"lockstep/server/realtime"
)

func (w *world) exchange(method, body string) (*httptest.ResponseRecorder, map[string]any) {
	w.Helper()
	a := httptest.NewRecorder()
	w.endpoint.ServeExchange(a, httptest.NewRequest(method, realtime.ExchangePath, strings.NewReader(body)))
	var out map[string]any
	require.NoError(w, json.Unmarshal(a.Body.Bytes(), &out), "%s", a.Body)
	require.Equal(w, "*", a.Header().Get("Access-Control-Allow-Origin"))
	return a, out
}

func order(t *testing.T, token string, continuation any) string {
	b, err := json.Marshal(map[string]any{"fpa_token": token, "continuation_token": continuation})
	require.NoError(t, err)
	return string(b)
}

func TestOldestClientsExchangeTheirToken(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		token := w.token("alice", lifetime(time.Hour))
		a, first := w.exchange("POST", order(w.T, token, nil))
		require.Equal(w, 200, a.Code)
		continuation := first["continuation_token"]
		require.NotEmpty(w, continuation)
		want := map[string]any{
			"twilio_rtd_token": token, "ttl": 3600.0, "continuation_token": continuation, "status": map[string]any{"status": "NEW"},
			"identity": "alice", "account_sid": fsmtest.AccountSID, "instance_sids": map[string]any{"data_sync": fsmtest.Service.String()},
		}
		require.Equal(w, want, first)
		want["status"] = map[string]any{"status": "UPDATED"}
		_, again := w.exchange("POST", order(w.T, token, continuation))
		require.Equal(w, want, again)
		c := w.connect("alice")
		require.Equal(w, want, c.http(200, "POST", "/v1/token", order(w.T, token, continuation)), "and in the tunnel")
	})
}

func TestExchangeIsRefused(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.InitBytes = 4000 }, func(w *world) {
		expired := w.token("alice", lifetime(time.Second))
		time.Sleep(2 * time.Second)
		c := w.connect("bob")
		for body, status := range map[string]int{
			"": 400, "[]": 400, "{}": 400, `{"fpa_token":1}`: 400,
			order(w.T, "garbage", nil): 401, order(w.T, expired, nil): 401,
		} {
			a, refused := w.exchange("POST", body)
			require.Equal(w, status, a.Code, body)
			require.NotEmpty(w, refused["message"])
			c.http(status, "POST", "/v1/token", body)
		}
		a, _ := w.exchange("POST", order(w.T, strings.Repeat("x", 5000), nil))
		require.Equal(w, 400, a.Code)
		a, _ = w.exchange("GET", "")
		require.Equal(w, http.StatusMethodNotAllowed, a.Code)
	})
}

// Clients of 2017 give up on a frame of another protocol than theirs. Without
// one they would try again for ever.
func TestUnservedProtocolIsRefusedInWords(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.dialPath(realtime.OldPath + "?token=x")
		m, code := c.closes()
		require.Equal(w, "close", m.Method)
		require.Equal(w, status{Code: 406, Status: "UNSUPPORTED"}, m.Status)
		require.Equal(w, 1000, code)
	})
}

func TestOldestRegistrationsAreAnswered(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.dial()
		require.Equal(w, 200, c.ask(map[string]any{"method": "init", "token": w.token("alice", nil)}, "").Status.Code, "an init of nothing but a token")
		for _, method := range []string{"put_notification_ctx", "delete_notification_ctx"} {
			m := c.ask(map[string]any{"method": method, "notification_ctx_id": "x"}, `{"product_id":"data_sync","notification_protocol_version":4,"message_types":["twilio.sync.event"]}`)
			require.Equal(w, 200, m.Status.Code)
		}
		require.NotEmpty(w, c.create("Documents"))
	})
}
