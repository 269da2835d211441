package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
	"lockstep/server/limits"
)

// newTestNode is a node on its own that is ready, without its listener.
func newTestNode(t *testing.T) *node {
	s, err := New(Config{
		DataDir: t.TempDir(), NodeID: "one", Bootstrap: true, Account: testAccount, HTTPAddr: "127.0.0.1:0",
		RateLimits: limits.Default(), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	l := &listener{url: "http://127.0.0.1:1", failed: make(chan error, 1)}
	e := s.config.enroller(l, nil)
	r, err := e.Identify(l.url, "")
	require.NoError(t, err)
	require.NoError(t, e.Enter(t.Context(), r))
	n, err := s.newNode(t.Context(), l, e, r)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, n.realtime.Close())
		require.NoError(t, n.cluster.Close())
	})
	require.NoError(t, e.Settle(t.Context(), n.cluster, n.record))
	require.Eventually(t, func() bool { return n.ready() == nil }, 20*time.Second, 10*time.Millisecond)
	return n
}

func ask(h http.Handler, path string) (status int, body string) {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.SetBasicAuth(testAccount.SID, testAccount.AuthToken)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// A node whose memory was altered refuses clients in the API's own form, and says
// why to the operator.
func TestNodeWhoseStateIsWrongServesNobody(t *testing.T) {
	n := newTestNode(t)
	view := n.store.View()
	service, ok := view.Service(fsm.Ref{Name: "default"})
	require.True(t, ok)
	status, body := ask(n.router, "/v1/Services/default")
	require.Equal(t, http.StatusOK, status, body)
	_, body = ask(n.operator, "/metrics")
	require.Contains(t, body, "\nlockstep_state_differs 0\n")

	service.Created ^= 1 // as a bit that flips
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		n.watchFault(ctx)
	}()
	v, err := operator{cluster: n.cluster}.Verify(t.Context())
	require.NoError(t, err)
	require.False(t, v.Equal)
	require.Contains(t, v.Nodes[0].Problem, "altered in memory")

	for _, path := range []string{"/v1/Services/default", "/v3/wsconnect"} {
		status, body = ask(n.router, path)
		require.Equal(t, http.StatusServiceUnavailable, status, path)
		require.Contains(t, body, faultReason, path)
		require.Contains(t, body, "20503", path)
	}
	status, body = ask(n.operator, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "altered in memory")
	_, body = ask(n.operator, "/metrics")
	require.Contains(t, body, "\nlockstep_state_differs 1\n")
	_, err = n.store.Propose(t.Context(), &fsm.Command{ID: commandid.New(), Service: service.SID, Op: &fsm.CreateObject{SID: objects.NewSID(objects.KindMap, commandid.New())}})
	require.ErrorIs(t, err, cluster.ErrAltered)
	stop()
	<-watched
}

func TestWhatMendsAState(t *testing.T) {
	n := &node{config: Config{DataDir: "/data"}}
	require.ErrorContains(t, n.mending(cluster.ErrDiffers), "lockstep serve --data-dir /data --join URL_OF_ANOTHER_NODE --replace")
	require.ErrorContains(t, n.mending(cluster.ErrDisputed), "lockstep verify")
	require.ErrorContains(t, n.mending(cluster.ErrAltered), "start it again")
	require.ErrorContains(t, n.mending(cluster.ErrUnsure), "serves again by itself")
	require.ErrorContains(t, stateError("/data", cluster.ErrDiffers), "--replace")
}
