package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/console"
)

func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	c := newCluster(t)
	visited := map[string]bool{}
	p := c.browse(t, "n1")
	p.headers = nil
	var visit func(path string)
	visit = func(path string) {
		if visited[path] {
			return
		}
		visited[path] = true
		w := p.do("GET", path, nil)
		require.Equal(t, 200, w.Code, path)
		h := w.Header()
		policy := h.Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'none'; script-src 'self'; style-src 'self'")
		require.Contains(t, policy, "frame-ancestors 'none'")
		require.NotContains(t, policy, "unsafe")
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		r := p.request("GET", path, nil)
		r.Header.Set("If-None-Match", h.Get("ETag"))
		again := httptest.NewRecorder()
		c.consoles["n1"].ServeHTTP(again, r)
		require.Equal(t, http.StatusNotModified, again.Code)
		if strings.Contains(path, "/vendor/") {
			return
		}
		body := w.Body.String()
		require.NotRegexp(t, `(src|href)=["'](https?:)?//`, body, path)
		if strings.HasSuffix(path, "/") {
			require.NotRegexp(t, `<script>|<style|\son[a-z]+=|style=`, body, "scripts and styles are files")
			for _, m := range references.FindAllStringSubmatch(body, -1) {
				visit("/console/" + m[1])
			}
		}
		for _, m := range imports.FindAllStringSubmatch(body, -1) {
			visit(resolve(path, m[1]))
		}
	}
	visit("/console/")
	require.Greater(t, len(visited), 20)
	require.Equal(t, 302, p.do("GET", "/console", nil).Code)
	require.Equal(t, 404, p.do("GET", "/console/other", nil).Code)
	require.Equal(t, 404, p.do("GET", "/console/../console.go", nil).Code)
	require.Equal(t, 405, p.do("POST", "/console/", nil).Code)
}

func TestLogin(t *testing.T) {
	c := newCluster(t)
	_, login := c.key(t, objects.KeyScope{})
	p := c.browse(t, "n1")
	p.get("/console/api/session", 401, nil)
	require.Equal(t, 401, p.login(map[string]string{"Key": login["Key"], "Secret": "wrong"}).Code)
	require.Equal(t, 401, p.login(map[string]string{"Key": "SK0", "Secret": ""}).Code)
	require.Equal(t, 400, p.do("POST", "/console/api/session", "no object").Code)
	require.Nil(t, p.cookie)

	require.Equal(t, 200, p.login(login).Code)
	require.True(t, p.cookie.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, p.cookie.SameSite)
	require.Equal(t, "/console/", p.cookie.Path)
	require.False(t, p.cookie.Secure, "it came without TLS")
	require.NotContains(t, p.cookie.Value, login["Secret"])
	var who struct{ Name string }
	p.get("/console/api/session", 200, &who)
	require.Equal(t, login["Key"], who.Name)

	secure := c.browse(t, "n1")
	r := secure.request("POST", "https://sync.example.com/console/api/session", login)
	w := httptest.NewRecorder()
	c.consoles["n1"].ServeHTTP(w, r)
	require.True(t, w.Result().Cookies()[0].Secure)

	p.node = "n3"
	p.get("/console/api/session", 200, nil) // every node takes the session
}

func TestSessionEnds(t *testing.T) {
	c := newCluster(t)
	t.Run("when the key is revoked", func(t *testing.T) {
		sid, login := c.key(t, objects.KeyScope{})
		p := c.loggedIn(t, login)
		c.Must(&fsm.RevokeKey{SID: sid})
		for _, node := range []string{"n1", "n2"} {
			p.node = node
			p.get("/console/api/session", 401, nil)
			p.get("/console/api/v1/Services", 401, nil)
		}
	})
	t.Run("after its lifetime", func(t *testing.T) {
		p := c.loggedIn(t, asAccount)
		c.pass(console.Lifetime - time.Second)
		p.get("/console/api/session", 200, nil)
		c.pass(time.Second)
		p.get("/console/api/session", 401, nil)
	})
	t.Run("on all nodes when somebody logs out", func(t *testing.T) {
		p := c.loggedIn(t, asAccount)
		stolen := p.cookie
		w := p.do("DELETE", "/console/api/session", nil)
		require.Equal(t, 204, w.Code)
		require.Negative(t, w.Result().Cookies()[0].MaxAge, "the browser forgets it")
		for _, node := range []string{"n1", "n2", "n3"} {
			p.node, p.cookie = node, stolen
			p.get("/console/api/session", 401, nil)
		}
	})
	t.Run("altered cookies are nobody's", func(t *testing.T) {
		p := c.loggedIn(t, asAccount)
		p.cookie.Value = "x" + p.cookie.Value
		p.get("/console/api/session", 401, nil)
		p.cookie.Value = "%%"
		p.get("/console/api/session", 401, nil)
	})
}

func TestSessionsAreBounded(t *testing.T) {
	c := newCluster(t)
	_, login := c.key(t, objects.KeyScope{})
	p := c.browse(t, "n1")
	last := 0
	for range 65 {
		last = p.login(login).Code
	}
	require.Equal(t, 429, last)
	require.Equal(t, 200, p.login(asAccount).Code, "the sessions of others are not affected")
	c.pass(16 * time.Minute)
	require.Equal(t, 200, p.login(login).Code, "idle ones give way")
}

func TestRequestsOfOtherSitesAreRefused(t *testing.T) {
	c := newCluster(t)
	p := c.loggedIn(t, asAccount)
	for _, path := range []string{"/console/api/session", "/console/api/v1/Services", "/console/api/cluster/status", "/console/api/overview", "/console/api/events"} {
		for _, headers := range []map[string]string{
			{},
			{"Sec-Fetch-Site": "same-origin"},
			{"X-Lockstep-Console": "1", "Sec-Fetch-Site": "cross-site"},
			{"X-Lockstep-Console": "1", "Sec-Fetch-Site": "same-site"},
			{"X-Lockstep-Console": "1", "Sec-Fetch-Site": "none"},
		} {
			p.headers = headers
			for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
				w := p.do(method, path, nil)
				require.Equal(t, 403, w.Code, "%s %s %v", method, path, headers)
				require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
			}
		}
	}
	require.Empty(t, c.relayed)
	p.headers = map[string]string{"X-Lockstep-Console": "1"} // a browser that came without TLS says no more
	p.get("/console/api/session", 200, nil)
}

func TestRelay(t *testing.T) {
	c := newCluster(t)
	sid, login := c.key(t, objects.KeyScope{})
	p := c.loggedIn(t, login)
	w := p.do("POST", "/console/api/v1/Services/default/Maps/m/Items/a%2Fb//c?PageSize=2", nil)
	require.Equal(t, "clients", w.Body.String())
	require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), "no other site reads it")
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, "7", w.Header().Get("ETag"))
	r := c.relayed[0]
	require.Equal(t, "/v1/Services/default/Maps/m/Items/a%2Fb//c", r.URL.EscapedPath(), "spelled as it came")
	require.Equal(t, "PageSize=2", r.URL.RawQuery)
	user, password, ok := r.BasicAuth()
	require.True(t, ok)
	require.Equal(t, sid.String(), user)
	require.Equal(t, login["Secret"], password)
	require.Empty(t, r.Cookies(), "the session stays with the console")

	require.Equal(t, "operator", p.do("GET", "/console/api/cluster/status", nil).Body.String())
	for _, other := range []string{"POST /cluster/enrol", "POST /cluster/leave", "POST /cluster/keys", "DELETE /cluster/members/n1", "POST /cluster/account/token", "GET /cluster/enrol"} {
		method, path, _ := strings.Cut(other, " ")
		require.Equal(t, 404, p.do(method, "/console/api"+path, nil).Code, other)
	}
	p.cookie = nil
	require.Equal(t, 401, p.do("GET", "/console/api/v1/Services", nil).Code)

	p.headers = nil
	require.Equal(t, "clients", p.do("GET", "/console/api/realtime", nil).Body.String())
	last := c.relayed[len(c.relayed)-1]
	require.Equal(t, "/v3/wsconnect", last.URL.Path)
	require.Empty(t, last.Header.Get("Authorization"))
}

func TestRoles(t *testing.T) {
	c := newCluster(t)
	require.Nil(t, c.Must(&fsm.CreateService{SID: service}).Err)
	one := objects.KeyScope{Service: service}
	of := func(s objects.KeyScope) map[string]string {
		_, login := c.key(t, s)
		return login
	}
	// What each key is answered: 200, or 403.
	for _, row := range []struct {
		name                                             string
		login                                            map[string]string
		overview, backups, refusals, webhooks, sign, own int
	}{
		{"account", asAccount, 200, 200, 200, 200, 200, 200},
		{"viewer", of(objects.KeyScope{Role: objects.RoleViewer}), 200, 200, 200, 403, 403, 403},
		{"admin", of(objects.KeyScope{Role: objects.RoleAdmin}), 200, 200, 200, 403, 403, 403},
		{"data", of(objects.KeyScope{}), 200, 403, 200, 200, 200, 200},
		{"read only", of(objects.KeyScope{ReadOnly: true}), 200, 403, 200, 200, 403, 403},
		{"sign only", of(objects.KeyScope{SignOnly: true}), 403, 403, 403, 403, 200, 200},
		{"one service", of(one), 403, 403, 200, 200, 403, 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := c.loggedIn(t, row.login)
			p.get("/console/api/overview", row.overview, nil)
			p.get("/console/api/backups", row.backups, nil)
			p.get("/console/api/refusals", row.refusals, nil)
			p.get("/console/api/webhooks", row.webhooks, nil)
			mint := func(service string) int {
				return p.do("POST", "/console/api/token", map[string]any{"Service": service, "Identity": "alice"}).Code
			}
			require.Equal(t, row.sign, mint("default"), "the default service")
			require.Equal(t, row.own, mint(service.String()), "its own service")
		})
	}
}

func TestOverviewHidesAddressesFromDataKeys(t *testing.T) {
	c := newCluster(t)
	_, login := c.key(t, objects.KeyScope{})
	w := c.loggedIn(t, asAccount).do("GET", "/console/api/overview", nil)
	require.Contains(t, w.Body.String(), "10.0.0.1")
	w = c.loggedIn(t, login).do("GET", "/console/api/overview", nil)
	require.NotContains(t, w.Body.String(), "10.0.0.1")
	require.Contains(t, w.Body.String(), `"role":"leader"`)
}

// Each node measures what comes to it, and any of them tells of all.
func TestOverviewHasWhatEachNodeMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, x := range c.consoles {
			running.Go(func() { x.Run(ctx) })
		}
		synctest.Wait()
		for range 10 {
			c.consoles["n2"].Writes.Observe(4 * time.Millisecond)
		}
		c.consoles["n2"].Reads.Observe(time.Second)
		time.Sleep(5 * time.Second) // two intervals of two seconds, the second of them without requests
		cancel()
		running.Wait()

		type node struct {
			ID      string
			Samples []console.Sample
		}
		var now struct{ Nodes []node }
		c.loggedIn(t, asAccount).get("/console/api/overview", 200, &now)
		require.Len(t, now.Nodes, 3)
		for _, n := range now.Nodes {
			require.Len(t, n.Samples, 2, n.ID)
			first, second := n.Samples[0], n.Samples[1]
			require.Equal(t, 3, first.Sessions)
			require.Zero(t, second.Writes+second.Reads+second.WriteP99, n.ID)
			if n.ID != "n2" {
				require.Zero(t, first.Writes+first.Reads, n.ID)
				continue
			}
			require.Equal(t, 5.0, first.Writes)
			require.Equal(t, .5, first.Reads)
			require.InEpsilon(t, 4, first.WriteP50, .125)
			require.InEpsilon(t, 1000, first.ReadP99, .125)
		}
	})
}

func TestRefusalsAreTheServicesOwn(t *testing.T) {
	c := newCluster(t)
	require.Nil(t, c.Must(&fsm.CreateService{SID: service}).Err)
	for _, sid := range []objects.SID{service, objects.NewSID(objects.KindService, [16]byte{9})} {
		c.refusals = append(c.refusals, refusalOf(sid))
	}
	count := func(p *page) int {
		var got struct{ Refusals []map[string]any }
		p.get("/console/api/refusals", 200, &got)
		return len(got.Refusals)
	}
	p := c.loggedIn(t, asAccount)
	p.node = "n2" // which does not lead
	require.Equal(t, 2, count(p))
	_, login := c.key(t, objects.KeyScope{Service: service})
	require.Equal(t, 1, count(c.loggedIn(t, login)))
	_, login = c.key(t, objects.KeyScope{Role: objects.RoleViewer})
	w := c.loggedIn(t, login).do("GET", "/console/api/refusals", nil)
	require.NotContains(t, w.Body.String(), "alice", "operators see no data")
	require.Contains(t, w.Body.String(), "create-map")
}

func TestBackupsOfAllNodes(t *testing.T) {
	c := newCluster(t)
	c.backups = console.Backups{Dir: "/backups", Keep: 7}
	w := c.loggedIn(t, asAccount).do("GET", "/console/api/backups", nil)
	require.Contains(t, w.Body.String(), `{"node":"n2","dir":"/backups"`)
	require.Contains(t, w.Body.String(), `{"node":"n3","dir":""`)
}

func TestRetriedWebhookIsTheLeaders(t *testing.T) {
	c := newCluster(t)
	c.Must(&fsm.UpdateService{WebhookURL: new("https://example.com/hook?secret=1"), WebhooksFromREST: new(true)})
	c.Must(&fsm.CreateObject{SID: objects.NewSID(objects.KindDocument, [16]byte{1}), Data: []byte(`{}`)})
	p := c.loggedIn(t, asAccount)
	p.node = "n3"
	w := p.do("GET", "/console/api/webhooks", nil)
	require.Contains(t, w.Body.String(), `"event":"document_created"`)
	require.Contains(t, w.Body.String(), `"receiver":"https://example.com"`)
	require.NotContains(t, w.Body.String(), "secret", "the path of a receiver may be one")
	seq := c.View().NewestDelivery()
	require.Equal(t, 204, p.do("POST", fmt.Sprintf("/console/api/webhooks/%d/attempts", seq), nil).Code)
	require.Equal(t, []uint64{seq}, c.hurried)
	require.Equal(t, 404, p.do("POST", "/console/api/webhooks/999/attempts", nil).Code)
	_, login := c.key(t, objects.KeyScope{ReadOnly: true})
	require.Equal(t, 403, c.loggedIn(t, login).do("POST", fmt.Sprintf("/console/api/webhooks/%d/attempts", seq), nil).Code)
}

func TestEvents(t *testing.T) {
	c := newCluster(t)
	require.Nil(t, c.Must(&fsm.CreateService{SID: service}).Err)
	sid, login := c.key(t, objects.KeyScope{ReadOnly: true})
	p := c.loggedIn(t, login)
	server := httptest.NewServer(c.consoles["n1"])
	defer func() {
		c.consoles["n1"].Close()
		server.CloseClientConnections()
		server.Close()
	}()
	follow := func(p *page, query string) (next func() map[string]any, status int) {
		r := p.request("GET", server.URL+"/console/api/events"+query, nil)
		r.RequestURI = ""
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { answer.Body.Close() })
		lines := json.NewDecoder(answer.Body)
		return func() map[string]any {
			for {
				var l map[string]any
				require.NoError(t, lines.Decode(&l))
				if l["type"] != "beat" {
					return l
				}
			}
		}, answer.StatusCode
	}
	next, status := follow(p, "")
	require.Equal(t, 200, status)
	require.Equal(t, "ready", next()["type"])
	elsewhere, _ := follow(p, "?service="+service.String())
	require.Equal(t, "ready", elsewhere()["type"])

	object := objects.NewSID(objects.KindMap, [16]byte{1})
	c.Must(&fsm.CreateObject{SID: object, UniqueName: "vans"})
	c.Must(&fsm.WriteItem{Object: fsm.Ref{SID: object}, Kind: objects.KindMap, Item: fsm.ItemKey{Key: "a"}, Mode: fsm.AddItem, Data: []byte(`{"v":1}`)})
	require.Equal(t, "map_created", next()["type"])
	added := next()
	require.Equal(t, "map_item_added", added["type"])
	require.Equal(t, "a", added["item"])
	require.Equal(t, map[string]any{"v": 1.0}, added["data"])

	_, viewer := c.key(t, objects.KeyScope{Role: objects.RoleViewer})
	_, status = follow(c.loggedIn(t, viewer), "")
	require.Equal(t, 403, status, "operators see no data")
	c.Must(&fsm.RevokeKey{SID: sid})
	last := next()
	if last["type"] == "key_revoked" {
		last = next()
	}
	require.Equal(t, "logged_out", last["type"])
	require.Equal(t, "logged_out", elsewhere()["type"], "nothing of another service was told")

	_, login = c.key(t, objects.KeyScope{})
	p = c.loggedIn(t, login)
	for range 6 {
		_, status = follow(p, "")
		require.Equal(t, 200, status)
	}
	_, status = follow(p, "")
	require.Equal(t, 429, status)
}

func TestEventsEndWithTheNode(t *testing.T) {
	c := newCluster(t)
	p := c.loggedIn(t, asAccount)
	server := httptest.NewServer(c.consoles["n1"])
	defer server.Close()
	r := p.request("GET", server.URL+"/console/api/events", nil)
	r.RequestURI = ""
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	time.AfterFunc(10*time.Second, func() { answer.Body.Close() })
	c.consoles["n1"].Close()
	_, err = io.ReadAll(answer.Body)
	require.NoError(t, err, "the stream goes on")
}
