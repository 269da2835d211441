package live_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lockstep/cmd/lockstep/internal/live"
)

// session is the server's side of one connection.
type session struct {
	t  *testing.T
	ws *websocket.Conn

	told, acknowledged int // messages that are no replies
}

type request struct {
	Method string `json:"method"`
	ID     string `json:"id"`
	Token  string `json:"token"`
	HTTP   struct {
		Method, Path string
	} `json:"http_request"`

	body []byte
}

// next returns the client's next message that acknowledges nothing.
func (s *session) next() request {
	for {
		_, b, err := s.ws.ReadMessage()
		require.NoError(s.t, err)
		line, rest, _ := bytes.Cut(b, []byte("\r\n"))
		size, err := strconv.Atoi(string(bytes.TrimPrefix(line, []byte("TWILSOCK V3.0 "))))
		require.NoError(s.t, err)
		var r request
		require.NoError(s.t, json.Unmarshal(rest[:size], &r))
		r.body = rest[size+2:]
		if r.Method != "reply" {
			return r
		}
		s.acknowledged++
	}
}

// settle waits until the client has all that it was told: what is on its way when a
// connection breaks may be lost.
func (s *session) settle() {
	for s.acknowledged < s.told {
		if _, _, err := s.ws.ReadMessage(); err != nil {
			return // it has gone by itself
		}
		s.acknowledged++
	}
}

func (s *session) send(header, payload string) {
	require.NoError(s.t, s.ws.WriteMessage(websocket.BinaryMessage, fmt.Appendf(nil, "TWILSOCK V3.0 %d\r\n%s\r\n%s", len(header), header, payload)))
}

// welcome takes the init.
func (s *session) welcome() {
	r := s.next()
	require.Equal(s.t, "init token", r.Method+" "+r.Token)
	s.send(fmt.Sprintf(`{"method":"reply","id":%q,"status":{"code":200,"status":"OK"}}`, r.ID), "")
}

// answer takes a request in the tunnel and answers it.
func (s *session) answer(path string, status int, body string) request {
	r := s.next()
	require.Equal(s.t, path, r.HTTP.Method+" "+r.HTTP.Path)
	s.send(fmt.Sprintf(`{"method":"reply","id":%q,"status":{"code":200},"http_status":{"code":%d}}`, r.ID, status), body)
	return r
}

func (s *session) tell(kind, event string) {
	s.told++
	s.send(`{"method":"notification","id":"N"}`, fmt.Sprintf(`{"event_type":%q,"events":[%s]}`, kind, event))
}

// subscribed takes a subscription and returns the event that it goes on behind.
func (s *session) subscribed() uint64 {
	r := s.answer("POST /v4/Subscriptions", 200, `{}`)
	var body struct {
		Requests []struct {
			Last uint64 `json:"last_event_id"`
		}
	}
	require.NoError(s.t, json.Unmarshal(r.body, &body))
	s.tell("subscription_established", `{"object_sid":"MP1"}`)
	return body.Requests[0].Last
}

// serve has each connection handled by the next of the scripts.
func serve(t *testing.T, scripts ...func(*session)) string {
	t.Helper()
	upgrader := websocket.Upgrader{}
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !assert.Less(t, n, len(scripts)) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		script := scripts[n]
		n++
		ws, err := upgrader.Upgrade(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		defer ws.Close()
		one := &session{t: t, ws: ws}
		script(one)
		one.settle()
	}))
	t.Cleanup(func() {
		s.Close()
		require.Equal(t, len(scripts), n)
	})
	return s.URL
}

// watch follows the map m and returns what it was told.
func watch(t *testing.T, url string, n live.Notices) (told []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = live.Watch(ctx, live.Config{
		URLs: []string{url}, Token: func() (string, error) { return "token", nil },
		Collection: "Maps", Type: "map", Name: "m/1", Notices: n,
	}, func(o live.Object) error {
		told = append(told, fmt.Sprintf("opened %s %d", o.SID, o.LastEventID))
		return nil
	}, func(e live.Event) error {
		told = append(told, fmt.Sprintf("%s %d", e.Type, e.ID))
		return nil
	})
	require.NoError(t, ctx.Err())
	return told, err
}

func TestWatchGoesOnBehindTheLastEvent(t *testing.T) {
	lost := 0
	told, err := watch(t, serve(t, func(s *session) {
		s.welcome()
		s.answer("GET /v3/Maps/m%2F1", 200, `{"sid":"MP1","last_event_id":4}`)
		require.EqualValues(t, 4, s.subscribed())
		s.tell("map_item_added", `{"id":5,"item_key":"a"},{"id":6,"item_key":"b"}`)
	}, func(s *session) {
		s.welcome()
		require.EqualValues(t, 6, s.subscribed(), "the object is not opened anew")
		s.tell("map_item_added", `{"id":6,"item_key":"b"},{"id":7,"item_key":"c"}`)
		s.tell("map_removed", `{"id":8}`)
	}), live.Notices{Lost: func(error) { lost++ }})
	require.NoError(t, err)
	require.Equal(t, []string{"opened MP1 4", "map_item_added 5", "map_item_added 6", "map_item_added 7", "map_removed 8"}, told)
	require.Equal(t, 1, lost)
}

func TestHistoryThatIsGoneIsTold(t *testing.T) {
	var gap uint64
	told, err := watch(t, serve(t, func(s *session) {
		s.welcome()
		s.answer("GET /v3/Maps/m%2F1", 200, `{"sid":"MP1","last_event_id":4}`)
		s.answer("POST /v4/Subscriptions", 200, `{}`)
		s.tell("subscription_failed", `{"object_sid":"MP1","error":{"status":410,"code":54008,"message":"history"}}`)
		s.answer("GET /v3/Maps/MP1", 200, `{"sid":"MP1","last_event_id":90}`)
		require.EqualValues(t, 90, s.subscribed())
		s.tell("map_item_added", `{"id":91,"item_key":"a"}`)
		s.tell("subscription_failed", `{"object_sid":"MP1","error":{"status":404,"code":54200,"message":"gone"}}`)
	}), live.Notices{Gap: func(_ string, o live.Object) { gap = o.LastEventID }})
	require.NoError(t, err)
	require.Equal(t, []string{"opened MP1 4", "map_item_added 91", "map_removed 0"}, told)
	require.EqualValues(t, 90, gap)
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	_, err := watch(t, serve(t, func(s *session) {
		s.welcome()
		s.answer("GET /v3/Maps/m%2F1", 200, `{"sid":"MP1","last_event_id":4}`)
		s.subscribed()
		s.told += 2
		s.send(`{"method":"ping","id":"PI"}`, "")
		s.send(`{"method":"client_update","id":"CU","client_update_type":"token_about_to_expire"}`, "")
		r := s.next()
		require.Equal(t, "update token", r.Method+" "+r.Token)
		s.send(fmt.Sprintf(`{"method":"reply","id":%q,"status":{"code":200}}`, r.ID), "")
		s.tell("map_removed", `{"id":8}`)
	}), live.Notices{})
	require.NoError(t, err)
}

func TestWhatCannotGoOnEnds(t *testing.T) {
	for name, script := range map[string]func(*session){
		"token": func(s *session) {
			r := s.next()
			s.send(fmt.Sprintf(`{"method":"reply","id":%q,"status":{"code":401,"status":"UNAUTHORIZED","description":"Invalid access token","errorCode":20101}}`, r.ID), "")
		},
		"object": func(s *session) {
			s.welcome()
			s.answer("GET /v3/Maps/m%2F1", 404, `{"code":54300,"message":"Unique name not found"}`)
		},
		"permission": func(s *session) {
			s.welcome()
			s.answer("GET /v3/Maps/m%2F1", 200, `{"sid":"MP1","last_event_id":4}`)
			s.subscribed()
			s.tell("subscription_failed", `{"object_sid":"MP1","error":{"status":403,"code":54007,"message":"lacks"}}`)
		},
	} {
		_, err := watch(t, serve(t, script), live.Notices{})
		want := map[string]live.Refusal{
			"token":      {Status: 401, Code: 20101, Message: "Invalid access token"},
			"object":     {Status: 404, Code: 54300, Message: "Unique name not found"},
			"permission": {Status: 403, Code: 54007, Message: "lacks"},
		}[name]
		var refusal *live.Refusal
		require.ErrorAs(t, err, &refusal, name)
		require.Equal(t, want, *refusal, name)
	}
}

func TestNobodyAnswers(t *testing.T) {
	err := live.Watch(t.Context(), live.Config{
		URLs: []string{"http://127.0.0.1:1"}, Token: func() (string, error) { return "", nil }, Patience: time.Millisecond,
	}, nil, nil)
	require.ErrorIs(t, err, live.ErrUnreachable)
	failing := errors.New("no key")
	require.ErrorIs(t, live.Watch(t.Context(), live.Config{URLs: []string{"http://127.0.0.1:1"}, Token: func() (string, error) { return "", failing }}, nil, nil), failing)
}
