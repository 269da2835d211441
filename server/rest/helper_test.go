package rest_test

import (
	"context"
	"encoding/json"
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
	"lockstep/server/rest"
)

const (
	origin = "http://sync.test:8080"
	form   = "application/x-www-form-urlencoded"
)

var home = "/v1/Services/" + fsmtest.Service.String()

// node is a cluster of one whose answers a test can replace.
type node struct {
	*fsmtest.Node
	propose func(context.Context, *fsm.Command) (*fsm.Result, error)
	read    func(context.Context, objects.Bucket) (*fsm.View, error)
}

func (n *node) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	if n.propose != nil {
		return n.propose(ctx, c)
	}
	return n.Node.Propose(ctx, c)
}

func (n *node) Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	if n.read != nil {
		return n.read(ctx, bucket)
	}
	return n.Node.Read(ctx, bucket)
}

// keyring is what a store knows of credentials.
type keyring struct{ node api.Node }

func (k keyring) Account() (sid string, tokens []string) {
	sid, _ = k.node.View().Account()
	return sid, k.node.View().AuthTokens()
}

func (k keyring) Key(keySID string) (auth.Key, bool) {
	sid, ok := objects.ParseSID(keySID)
	if !ok {
		return auth.Key{}, false
	}
	key, ok := k.node.View().Key(sid)
	if !ok {
		return auth.Key{}, false
	}
	return auth.Key{Secret: key.Secret, Scope: key.KeyScope}, true
}

// client talks to a handler of its own.
type client struct {
	t       testing.TB
	node    *node
	clock   time.Time
	handler http.Handler
}

// start makes a handler on a new store. change may alter its configuration.
func start(t testing.TB, change ...func(*rest.Config)) *client {
	c := &client{t: t, clock: time.Date(2026, 3, 4, 5, 6, 7, 890e6, time.UTC)}
	c.node = &node{Node: fsmtest.New(func() time.Time { return c.clock })}
	config := rest.Config{API: api.New(c.node), Keyring: keyring{c.node}, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&config)
	}
	c.handler = rest.New(config)
	return c
}

// reply is an answer, with its body decoded.
type reply struct {
	*httptest.ResponseRecorder
	json map[string]any
}

// send sends a request with the account's credentials unless the change says otherwise.
func (c *client) send(method, path, body string, change ...func(*http.Request)) reply {
	r := httptest.NewRequest(method, origin+path, strings.NewReader(body))
	r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", form)
	}
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	answer := reply{ResponseRecorder: w}
	if w.Body.Len() > 0 {
		require.Equal(c.t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
		require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &answer.json), w.Body.String())
	}
	return answer
}

// get, post and remove send a request that must succeed.
func (c *client) get(path string) reply {
	answer := c.send(http.MethodGet, path, "")
	require.Equal(c.t, http.StatusOK, answer.Code, answer.Body.String())
	return answer
}

func (c *client) post(path string, params ...string) reply {
	answer := c.send(http.MethodPost, path, encode(params...))
	require.Contains(c.t, []int{http.StatusOK, http.StatusCreated}, answer.Code, answer.Body.String())
	return answer
}

func (c *client) remove(path string) {
	answer := c.send(http.MethodDelete, path, "")
	require.Equal(c.t, http.StatusNoContent, answer.Code, answer.Body.String())
	require.Empty(c.t, answer.Body.Bytes())
}

// refused asserts that an answer is an error in the form of the API.
func (a reply) refused(t testing.TB, status, code int) {
	t.Helper()
	require.Equal(t, status, a.Code, a.Body.String())
	require.EqualValues(t, code, a.json["code"], a.Body.String())
	require.EqualValues(t, status, a.json["status"])
	require.NotEmpty(t, a.json["message"])
	require.Contains(t, a.json["more_info"], "https://www.twilio.com/docs/errors/")
	require.Len(t, a.json, 4)
}

// encode makes a form of names and values in turn.
func encode(params ...string) string {
	var pairs []string
	for i := 0; i < len(params); i += 2 {
		pairs = append(pairs, url.QueryEscape(params[i])+"="+url.QueryEscape(params[i+1]))
	}
	return strings.Join(pairs, "&")
}

// path takes the origin off a URL of an answer.
func path(t testing.TB, absolute any) string {
	t.Helper()
	p, ok := strings.CutPrefix(absolute.(string), origin)
	require.True(t, ok, absolute)
	return p
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}
