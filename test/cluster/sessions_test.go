package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// refusedSession connects and introduces itself as Connect does, is refused with
// 429 and the time to stay away for, and then closed.
func refusedSession(t *testing.T, n *harness.Node, token string) {
	t.Helper()
	ws, response, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(n.URL, "http")+"/v3/wsconnect", nil)
	require.NoError(t, err)
	response.Body.Close()
	defer ws.Close()
	header, err := json.Marshal(map[string]any{"method": "init", "id": "TM1", "token": token, "payload_size": 0})
	require.NoError(t, err)
	require.NoError(t, ws.WriteMessage(websocket.BinaryMessage, fmt.Appendf(nil, "TWILSOCK V3.0 %d\r\n%s\r\n", len(header), header)))
	require.NoError(t, ws.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, answer, err := ws.ReadMessage()
	require.NoError(t, err)
	require.Contains(t, string(answer), `"method":"reply"`)
	require.Contains(t, string(answer), `"code":429`)
	require.Contains(t, string(answer), `"backoff_policy":{"reconnect_min_ms":`)
	_, more, err := ws.ReadMessage()
	var closed *websocket.CloseError
	require.ErrorAs(t, err, &closed, "it ends: %s", more)
}

// One identity has so many sessions, on each node; others have theirs.
func TestSessionsPerIdentityAreBounded(t *testing.T) {
	const sessions = 3
	c := harness.Start(t, harness.Config{Nodes: 1, Env: []string{fmt.Sprintf("LOCKSTEP_MAX_SESSIONS_PER_IDENTITY=%d", sessions)}})
	n := c.Nodes[0]
	mallory := c.Token("mallory")
	var held []*harness.Realtime
	for range sessions {
		r, err := harness.Connect(t.Context(), n.URL, mallory)
		require.NoError(t, err)
		defer r.Close()
		held = append(held, r)
	}
	refusedSession(t, n, mallory)
	alice, err := harness.Connect(t.Context(), n.URL, c.Token("alice"))
	require.NoError(t, err)
	defer alice.Close()
	for _, r := range append(held, alice) {
		require.NoError(t, r.Ping(10*time.Second), "those that there are go on")
	}
	held[0].Close()
	c.Until("the place is free again", func() error {
		r, err := harness.Connect(t.Context(), n.URL, mallory)
		if err == nil {
			r.Close()
		}
		return err
	})
}

// One identity connects so often a second; others are not affected.
func TestConnectsPerIdentityAreRateLimited(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1, Env: []string{"LOCKSTEP_CONNECTS_PER_IDENTITY=0.5"}}) // five to begin with
	n := c.Nodes[0]
	mallory := c.Token("mallory")
	refused := false
	for range 20 {
		r, err := harness.Connect(t.Context(), n.URL, mallory)
		if refused = err != nil; refused {
			break
		}
		r.Close()
	}
	require.True(t, refused)
	refusedSession(t, n, mallory)
	alice, err := harness.Connect(t.Context(), n.URL, c.Token("alice"))
	require.NoError(t, err)
	alice.Close()
}

// A client that floods a node with pings is told to stay away; nobody else
// notices.
func TestPingFloodEndsSession(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1, Env: []string{"LOCKSTEP_RATE_LIMITS=requests=10,burst=10s", "LOCKSTEP_FLOOD_REFUSALS=50"}})
	n := c.Nodes[0]
	alice, err := harness.Connect(t.Context(), n.URL, c.Token("alice"))
	require.NoError(t, err)
	defer alice.Close()
	mallory, err := harness.Connect(t.Context(), n.URL, c.Token("mallory"))
	require.NoError(t, err)
	defer mallory.Close()
	flooding := make(chan struct{})
	go func() {
		defer close(flooding)
		for range 100_000 {
			if mallory.Conn().WriteControl(websocket.PingMessage, nil, time.Now().Add(10*time.Second)) != nil {
				return
			}
		}
	}()
	defer func() { <-flooding }()
	ws := mallory.Conn()
	require.NoError(t, ws.SetReadDeadline(time.Now().Add(30*time.Second)))
	var last string
	for err == nil {
		var message []byte
		if _, message, err = ws.ReadMessage(); err == nil {
			last = string(message)
		}
	}
	mallory.Close()
	require.True(t, websocket.IsCloseError(err, websocket.CloseNormalClosure), "%v", err)
	require.Contains(t, last, `"method":"close"`)
	require.Contains(t, last, `"code":308`)
	require.Contains(t, last, `"backoff_policy":{"reconnect_min_ms":10000}`)
	require.NoError(t, alice.Ping(10*time.Second))
}
