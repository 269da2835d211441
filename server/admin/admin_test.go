package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/audit"
	"lockstep/server/rest"
)

// fake is a node made of the functions that a test cares about.
type fake struct {
	admin.Node
	ready  func() error
	notes  []string
	add    func(admin.Member) error
	remove func(id string) error
	leave  func() error
	revoke func(objects.SID) error
	backup func() (admin.Backup, error)
}

func (f fake) Ready() error    { return f.ready() }
func (f fake) Notes() []string { return f.notes }
func (f fake) Status(context.Context) (admin.Status, error) {
	return admin.Status{ClusterID: "c", Nodes: []admin.NodeStatus{{ID: "a", HTTP: "http://a", Raft: "a:1", Role: admin.RoleLeader, AppliedIndex: 7, Version: "v"}}}, nil
}
func (f fake) Enrolment(context.Context, admin.Enrol) (admin.Enrolment, error) {
	return admin.Enrolment{ClusterID: "c", ClusterKey: "key", Seeds: []string{"a:2"}}, nil
}
func (f fake) AddMember(_ context.Context, m admin.Member) error  { return f.add(m) }
func (f fake) RemoveMember(_ context.Context, id string) error    { return f.remove(id) }
func (f fake) Leave(context.Context) error                        { return f.leave() }
func (f fake) RevokeKey(_ context.Context, sid objects.SID) error { return f.revoke(sid) }
func (f fake) Keys(context.Context) ([]admin.Key, error)          { return []admin.Key{}, nil }
func (f fake) Snapshot(context.Context) error                     { return errors.New("the disk is full") }
func (f fake) Backup(context.Context) (admin.Backup, error)       { return f.backup() }
func (f fake) CreateKey(_ context.Context, k admin.NewKey) (admin.Key, error) {
	return admin.Key{SID: "SK1", FriendlyName: k.FriendlyName, KeyScope: k.KeyScope, Secret: "s"}, nil
}
func (f fake) AddAuthToken(context.Context) (string, error) { return "second", nil }
func (f fake) RotateKey(context.Context) error              { return nil }
func (f fake) KeyRotation(context.Context) (admin.KeyRotation, error) {
	return admin.KeyRotation{Stage: admin.KeyStageNone}, nil
}
func (f fake) PromoteAuthToken(context.Context) error { return nil }
func (f fake) DropAuthToken(context.Context) error    { return objects.ErrNoSecondToken }

// allow knows one pair of credentials.
func allow(r *http.Request, _ admin.Needs) (audit.Actor, error) {
	if user, password, ok := r.BasicAuth(); ok && user == "account" && password == "token" {
		return audit.Actor{Name: "account", Source: "1.2.3.4"}, nil
	}
	return audit.Actor{}, objects.ErrUnauthorized
}

func serve(t *testing.T, node fake) (*admin.Client, string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "lockstep_something"}))
	return serveHandler(t, admin.New(admin.Config{Node: node, Allow: allow, Metrics: registry}))
}

func serveHandler(t *testing.T, h http.Handler) (*admin.Client, string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &admin.Client{URLs: []string{s.URL}, AccountSID: "account", AuthToken: "token"}, s.URL
}

func ask(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(b)
}

func TestHealth(t *testing.T) {
	var why error
	client, url := serve(t, fake{ready: func() error { return why }})
	res, body := ask(t, "GET", url+"/healthz", "")
	require.Equal(t, 200, res.StatusCode, body)
	require.NoError(t, client.Ready(t.Context()))
	why = errors.New("no leader is known")
	require.EqualError(t, client.Ready(t.Context()), "no leader is known")
	res, body = ask(t, "GET", url+"/readyz", "")
	require.Equal(t, 503, res.StatusCode)
	require.JSONEq(t, `{"status":"not ready","reason":"no leader is known"}`, body)
	res, body = ask(t, "GET", url+"/metrics", "")
	require.Equal(t, 200, res.StatusCode)
	require.Contains(t, body, "lockstep_something 0")
}

func TestNodeThatServesMayHaveNotes(t *testing.T) {
	_, url := serve(t, fake{ready: func() error { return nil }, notes: []string{"the state is full"}})
	res, body := ask(t, "GET", url+"/readyz", "")
	require.Equal(t, 200, res.StatusCode)
	require.JSONEq(t, `{"status":"ready","notes":["the state is full"]}`, body)
}

func TestAnswersHaveAnIDByWhichTheLogHasThem(t *testing.T) {
	var log bytes.Buffer
	_, url := serveHandler(t, admin.New(admin.Config{Node: fake{}, Allow: allow, Metrics: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	ids := map[string]bool{}
	for _, r := range []struct{ method, path, credentials string }{
		{"GET", "/cluster/status", "Basic YWNjb3VudDp0b2tlbg=="}, {"GET", "/cluster/status", ""}, {"GET", "/cluster/unknown", ""}, {"GET", "/healthz", ""},
		{"POST", "/cluster/snapshot", "Basic YWNjb3VudDp0b2tlbg=="},
	} {
		res, _ := ask(t, r.method, url+r.path, "", "Authorization", r.credentials)
		id := res.Header.Get("Twilio-Request-Id")
		require.Regexp(t, "^RQ[0-9a-f]{32}$", id, r)
		require.NotContains(t, ids, id, r)
		ids[id] = true
		require.Equal(t, r.path == "/cluster/snapshot", strings.Contains(log.String(), "request="+id), "%v: %s", r, log.String())
	}
}

func TestClusterEndpointsRequireAccount(t *testing.T) {
	client, url := serve(t, fake{})
	for _, r := range [][2]string{
		{"GET", "/cluster/status"}, {"POST", "/cluster/enrol"}, {"POST", "/cluster/members"}, {"DELETE", "/cluster/members/a"},
		{"POST", "/cluster/leave"}, {"POST", "/cluster/snapshot"}, {"POST", "/cluster/keys"}, {"GET", "/cluster/keys"},
		{"DELETE", "/cluster/keys/SK1"}, {"GET", "/cluster/pprof/heap"}, {"GET", "/cluster/unknown"}, {"PATCH", "/cluster/status"},
	} {
		res, body := ask(t, r[0], url+r[1], "")
		require.Equal(t, 401, res.StatusCode, r)
		require.Equal(t, `Basic realm="Twilio API"`, res.Header.Get("WWW-Authenticate"))
		require.JSONEq(t, `{"code":20003,"message":"Authenticate","more_info":"https://www.twilio.com/docs/errors/20003","status":401}`, body)
	}
	client.AuthToken = "wrong"
	_, err := client.Enrol(t.Context(), admin.Enrol{ID: "b"})
	require.ErrorIs(t, err, objects.ErrUnauthorized)
}

func TestEveryRequestOfTheClient(t *testing.T) {
	var added admin.Member
	var removed string
	var revoked objects.SID
	left := false
	client, _ := serve(t, fake{
		add:    func(m admin.Member) error { added = m; return nil },
		remove: func(id string) error { removed = id; return nil },
		leave:  func() error { left = true; return nil },
		revoke: func(sid objects.SID) error { revoked = sid; return nil },
	})
	ctx := t.Context()
	status, err := client.Status(ctx)
	require.NoError(t, err)
	a, ok := status.Find("a")
	require.True(t, ok)
	require.Equal(t, admin.NodeStatus{ID: "a", HTTP: "http://a", Raft: "a:1", Role: "leader", AppliedIndex: 7, Version: "v"}, a)
	require.True(t, a.Votes())
	_, ok = status.Find("b")
	require.False(t, ok)

	enrolment, err := client.Enrol(ctx, admin.Enrol{ID: "b"})
	require.NoError(t, err)
	require.Equal(t, admin.Enrolment{ClusterID: "c", ClusterKey: "key", Seeds: []string{"a:2"}}, enrolment)

	member := admin.Member{ID: "b", Raft: "b:1", Gossip: "b:2", HTTP: "http://b", Version: "v"}
	require.NoError(t, client.AddMember(ctx, member))
	require.Equal(t, member, added)
	require.ErrorIs(t, client.AddMember(ctx, admin.Member{ID: "b"}), objects.ErrParameter)
	require.NoError(t, client.RemoveMember(ctx, "odd/id ä"))
	require.Equal(t, "odd/id ä", removed)
	require.NoError(t, client.Leave(ctx))
	require.True(t, left)

	key, err := client.CreateKey(ctx, admin.NewKey{FriendlyName: "name"})
	require.NoError(t, err)
	require.Equal(t, admin.Key{SID: "SK1", FriendlyName: "name", Secret: "s"}, key)
	_, err = client.CreateKey(ctx, admin.NewKey{FriendlyName: strings.Repeat("x", 256)})
	require.ErrorIs(t, err, objects.ErrFriendlyName)
	keys, err := client.Keys(ctx)
	require.NoError(t, err)
	require.Empty(t, keys)
	sid := objects.NewSID(objects.KindKey, [16]byte{1})
	require.NoError(t, client.RevokeKey(ctx, sid.String()))
	require.Equal(t, sid, revoked)
	require.ErrorIs(t, client.RevokeKey(ctx, objects.NewSID(objects.KindMap, [16]byte{1}).String()), objects.ErrNotFound)

	require.ErrorContains(t, client.Snapshot(ctx), "the disk is full", "the operator may know why")
}

func TestBadRequests(t *testing.T) {
	_, url := serve(t, fake{})
	as := []string{"Authorization", "Basic YWNjb3VudDp0b2tlbg=="}
	res, body := ask(t, "GET", url+"/cluster/unknown", "", as...)
	require.Equal(t, 404, res.StatusCode, body)
	res, body = ask(t, "POST", url+"/cluster/members", "{", as...)
	require.Equal(t, 400, res.StatusCode, body)
	var f struct{ Code int }
	require.NoError(t, json.Unmarshal([]byte(body), &f))
	require.Equal(t, 20001, f.Code)
	res, body = ask(t, "POST", url+"/cluster/members", `{"id":"`+strings.Repeat("x", 70_000)+`"}`, as...)
	require.Equal(t, 413, res.StatusCode, body)
	res, body = ask(t, "POST", url+"/cluster/leave", "", append(as, "Sec-Fetch-Site", "cross-site")...)
	require.Equal(t, 403, res.StatusCode, "another site must not use the operator's browser")
	require.NoError(t, json.Unmarshal([]byte(body), &f))
	require.Equal(t, 20003, f.Code)
	res, _ = ask(t, "GET", url+"/cluster/status", "", "Sec-Fetch-Site", "none")
	require.Equal(t, 401, res.StatusCode)
	require.Empty(t, res.Header.Get("WWW-Authenticate"), "a browser would remember what its user types")
}

func TestClientSkipsNodesThatDoNotAnswer(t *testing.T) {
	client, url := serve(t, fake{})
	client.URLs = []string{"http://127.0.0.1:1", url}
	_, err := client.Status(t.Context())
	require.NoError(t, err)
	client.URLs = client.URLs[:1]
	_, err = client.Status(t.Context())
	require.ErrorIs(t, err, admin.ErrUnreachable)
}

func TestClientMeetsSomethingElse(t *testing.T) {
	client, _ := serveHandler(t, http.NotFoundHandler())
	_, err := client.Status(t.Context())
	require.EqualError(t, err, "the node answered with status 404")
	require.EqualError(t, client.Ready(t.Context()), "status 404")
}

func TestPreJoinHandler(t *testing.T) {
	var told admin.Join
	client, url := serveHandler(t, admin.PreJoinHandler("it waits", rest.Unavailable("it waits"), allow, func(_ context.Context, j admin.Join) (string, error) {
		told = j
		return "n", nil
	}))
	res, _ := ask(t, "GET", url+"/healthz", "")
	require.Equal(t, 200, res.StatusCode)
	require.EqualError(t, client.Ready(t.Context()), "it waits")
	res, body := ask(t, "GET", url+"/v1/Services", "")
	require.Equal(t, 503, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Contains(t, body, `"code":20503`)
	res, _ = ask(t, "GET", url+"/v1//Services", "")
	require.Equal(t, 503, res.StatusCode, "nothing is redirected")
	require.Equal(t, "*", res.Header.Get("Access-Control-Allow-Origin"))
	require.NotEmpty(t, res.Header.Get("Twilio-Request-Id"))
	res, _ = ask(t, "OPTIONS", url+"/v1/Services", "")
	require.Equal(t, 204, res.StatusCode)

	join := admin.Join{Member: "http://m", AccountSID: "AC", AuthToken: "t"}
	id, err := client.Join(t.Context(), join)
	require.NoError(t, err)
	require.Equal(t, "n", id)
	require.Equal(t, join, told)
	client.AuthToken = "wrong"
	_, err = client.Join(t.Context(), join)
	require.ErrorIs(t, err, objects.ErrUnauthorized)

	starting, _ := serveHandler(t, admin.PreJoinHandler("it starts", rest.Unavailable("it starts"), nil, nil))
	_, err = starting.Join(t.Context(), join)
	require.ErrorIs(t, err, objects.ErrUnavailable)
}
