package rest_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm/fsmtest"
)

func TestServices(t *testing.T) {
	c := start(t)
	s := c.post("/v1/Services").json
	sid := s["sid"].(string)
	require.Regexp(t, "^IS[0-9a-f]{32}$", sid)
	base := origin + "/v1/Services/" + sid
	require.Equal(t, map[string]any{
		"sid": sid, "unique_name": nil, "account_sid": fsmtest.AccountSID, "friendly_name": nil,
		"date_created": "2026-03-04T05:06:07Z", "date_updated": "2026-03-04T05:06:07Z", "url": base,
		"webhook_url": nil, "webhooks_from_rest_enabled": false, "reachability_webhooks_enabled": false,
		"acl_enabled": false, "reachability_debouncing_enabled": false, "reachability_debouncing_window": 5000.0,
		"links": map[string]any{
			"documents": base + "/Documents", "lists": base + "/Lists", "maps": base + "/Maps", "streams": base + "/Streams",
		},
	}, s)

	c.clock = c.clock.Add(time.Minute)
	at := path(t, base)
	s = c.post(at, "FriendlyName", "Größe", "WebhookUrl", "http://127.0.0.1:1/a?b=c%20d", "AclEnabled", "TRUE",
		"WebhooksFromRestEnabled", "true", "ReachabilityWebhooksEnabled", "true", "ReachabilityDebouncingEnabled", "true",
		"ReachabilityDebouncingWindow", "30000").json
	require.Equal(t, "Größe", s["friendly_name"])
	require.Equal(t, "http://127.0.0.1:1/a?b=c%20d", s["webhook_url"])
	require.Equal(t, []any{true, true, true, true, 30000.0}, []any{
		s["acl_enabled"], s["webhooks_from_rest_enabled"], s["reachability_webhooks_enabled"],
		s["reachability_debouncing_enabled"], s["reachability_debouncing_window"],
	})
	require.Equal(t, "2026-03-04T05:07:07Z", s["date_updated"])
	require.Equal(t, s, c.get(at).json)

	s = c.post(at, "WebhookUrl", "", "AclEnabled", "").json
	require.Nil(t, s["webhook_url"])
	require.Equal(t, true, s["acl_enabled"], "an empty flag is none")
	require.Equal(t, c.get("/v1/Services/default").json, c.get(home).json)
	c.remove(at)
	c.send("GET", at, "").refused(t, 404, 20404)
	c.send("DELETE", at, "").refused(t, 404, 20404)
}

func TestObjects(t *testing.T) {
	for plural, x := range map[string]struct {
		prefix    string
		links     []string
		revisions bool
		ttl       string
	}{
		"Documents": {"ET", []string{"permissions"}, true, "Ttl"},
		"Lists":     {"ES", []string{"items", "permissions"}, true, "CollectionTtl"},
		"Maps":      {"MP", []string{"items", "permissions"}, true, "CollectionTtl"},
		"Streams":   {"TO", []string{"messages"}, false, "Ttl"},
	} {
		t.Run(plural, func(t *testing.T) {
			c := start(t)
			created := c.send("POST", home+"/"+plural, encode("UniqueName", "nä/me", x.ttl, "60"))
			require.Equal(t, 201, created.Code)
			sid := created.json["sid"].(string)
			require.Regexp(t, "^"+x.prefix+"[0-9a-f]{32}$", sid)
			at := origin + home + "/" + plural + "/" + sid
			links := map[string]any{}
			for _, l := range x.links {
				links[l] = at + "/" + strings.ToUpper(l[:1]) + l[1:]
			}
			want := map[string]any{
				"sid": sid, "unique_name": "nä/me", "account_sid": fsmtest.AccountSID, "service_sid": fsmtest.Service.String(),
				"url": at, "links": links, "date_expires": "2026-03-04T05:07:07Z", "created_by": "system",
				"date_created": "2026-03-04T05:06:07Z", "date_updated": "2026-03-04T05:06:07Z",
			}
			if x.revisions {
				want["revision"] = "0"
			}
			etag := ""
			if plural == "Documents" {
				want["data"] = map[string]any{}
				etag = `"0"`
			}
			require.Equal(t, want, created.json)
			require.Equal(t, etag, created.Header().Get("ETag"))

			byName := c.get(home + "/" + plural + "/" + url.PathEscape("nä/me"))
			require.Equal(t, want, byName.json)
			require.Equal(t, etag, byName.Header().Get("ETag"))
			require.Equal(t, want, c.get(path(t, at)).json)
			require.Equal(t, []any{want}, c.get(home + "/" + plural).json[strings.ToLower(plural)])
			for _, l := range x.links {
				if l != "messages" {
					require.Empty(t, c.get(path(t, links[l])).json[l])
				}
			}

			c.clock = c.clock.Add(time.Second)
			updated := c.post(path(t, at), "Ttl", "0", "ignored", "x")
			want["date_expires"], want["date_updated"] = nil, "2026-03-04T05:06:08Z"
			require.Equal(t, want, updated.json)
			require.Equal(t, etag, updated.Header().Get("ETag"))
			c.remove(path(t, at))
			c.send("DELETE", path(t, at), "").refused(t, 404, 20404)
			c.post(home+"/"+plural, "UniqueName", "nä/me")
		})
	}
}

func TestDocumentData(t *testing.T) {
	c := start(t)
	d := c.post(home+"/Documents", "UniqueName", "d", "Data", ` {"n": 12345678901234567890, "u": "\u003c"} `)
	require.Contains(t, d.Body.String(), `"data":{"n":12345678901234567890,"u":"<"}`)
	updated := c.send("POST", home+"/Documents/d", encode("Data", "[1, 2]"), header("If-Match", `"0"`))
	require.Equal(t, `"1"`, updated.Header().Get("ETag"))
	require.Equal(t, []any{1.0, 2.0}, updated.json["data"])
	require.Equal(t, []any{1.0, 2.0}, c.get(home + "/Documents/d").json["data"])
	c.send("POST", home+"/Documents/d", "Data=3", header("If-Match", "0")).refused(t, 412, 54103)
	require.Equal(t, 200, c.send("POST", home+"/Documents/d", "Data=3", header("If-Match", "*")).Code)
	require.Equal(t, 201, c.send("POST", home+"/Documents", "", header("If-Match", "no revision")).Code, "a create has no precondition")
}

func TestListItems(t *testing.T) {
	c := start(t)
	list := c.post(home+"/Lists", "UniqueName", "it").json
	at := home + "/Lists/it/Items"
	first := c.send("POST", at, encode("Data", `{"a":1}`, "ItemTtl", "60", "Ttl", "5"))
	require.Equal(t, 201, first.Code)
	self := list["url"].(string) + "/Items/0"
	require.Equal(t, map[string]any{
		"index": 0.0, "account_sid": fsmtest.AccountSID, "service_sid": fsmtest.Service.String(), "list_sid": list["sid"],
		"url": self, "revision": "1", "data": map[string]any{"a": 1.0}, "created_by": "system",
		"date_expires": "2026-03-04T05:07:07Z", "date_created": "2026-03-04T05:06:07Z", "date_updated": "2026-03-04T05:06:07Z",
	}, first.json)
	require.Equal(t, `"1"`, first.Header().Get("ETag"))
	require.Equal(t, first.json, c.get(path(t, self)).json)

	second := c.post(at, "Data", "2", "CollectionTtl", "100").json
	require.Equal(t, 1.0, second["index"])
	require.Nil(t, second["date_expires"])
	require.Equal(t, "2026-03-04T05:07:47Z", c.get(home + "/Lists/it").json["date_expires"])

	changed := c.send("POST", at+"/0", encode("Ttl", "0"), header("If-Match", "1"))
	require.Equal(t, []any{"1", nil, map[string]any{"a": 1.0}}, []any{changed.json["revision"], changed.json["date_expires"], changed.json["data"]})
	changed = c.send("POST", at+"/0", encode("Data", "17"), header("If-Match", `"1"`))
	require.Equal(t, []any{"2", 17.0, `"2"`}, []any{changed.json["revision"], changed.json["data"], changed.Header().Get("ETag")})
	require.Equal(t, 204, c.send("DELETE", at+"/0", "", header("If-Match", "2")).Code)
	c.send("GET", at+"/0", "").refused(t, 404, 20404)
	require.Equal(t, "4", c.get(home + "/Lists/it").json["revision"])
}

func TestMapItemsWithOddKeys(t *testing.T) {
	c := start(t)
	m := c.post(home+"/Maps", "UniqueName", "it").json
	for _, key := range []string{"k", "with blank", "a/b/c", "q?x=1&y", "hash#", "percent%41", "100%", "plus+", "ключ", "é", "👩‍🚀", `"quoted'`, `back\slash`, "tab\t", "...", "~", "%2F", "a.1", "{}", "@:;,"} {
		made := c.post(home+"/Maps/it/Items", "Key", key, "Data", "1").json
		require.Equal(t, key, made["key"])
		require.Equal(t, m["sid"], made["map_sid"])
		at := path(t, made["url"])
		require.Equal(t, made, c.get(at).json)
		require.Equal(t, made, c.get(home+"/Maps/it/Items/"+url.PathEscape(key)).json)
		require.Equal(t, 2.0, c.post(at, "Data", "2").json["data"])
		c.remove(at)
	}
}

func TestMessages(t *testing.T) {
	c := start(t)
	stream := c.post(home+"/Streams", "UniqueName", "it").json
	answer := c.send("POST", path(t, stream["links"].(map[string]any)["messages"]), encode("Data", ` { "x" : "ü" } `))
	require.Equal(t, 201, answer.Code)
	require.Regexp(t, `^\{"sid":"TZ[0-9a-f]{32}","data":\{"x":"ü"\}\}$`, answer.Body.String())
}

func TestPermissions(t *testing.T) {
	c := start(t)
	for plural, member := range map[string]string{"Documents": "document_sid", "Lists": "list_sid", "Maps": "map_sid"} {
		o := c.post(home+"/"+plural, "UniqueName", "it").json
		at := home + "/" + plural + "/it/Permissions/" + url.PathEscape("ann/ü@example.com")
		p := c.post(at, "Read", "true", "Write", "false", "Manage", "true").json
		require.Equal(t, map[string]any{
			"account_sid": fsmtest.AccountSID, "service_sid": fsmtest.Service.String(), member: o["sid"], "identity": "ann/ü@example.com",
			"read": true, "write": false, "manage": true, "url": p["url"],
		}, p)
		require.Equal(t, p, c.get(path(t, p["url"])).json)
		require.Equal(t, []any{p}, c.get(home + "/" + plural + "/it/Permissions").json["permissions"])
		p = c.post(at, "Read", "false", "Write", "True", "Manage", "false").json
		require.Equal(t, []any{false, true, false}, []any{p["read"], p["write"], p["manage"]})
		c.remove(at)
		c.send("GET", at, "").refused(t, 404, 20404)
	}
}

func TestParameters(t *testing.T) {
	c := start(t)
	for body, want := range map[string]any{
		"Data=1&Data=2":                  1.0,
		"Data=%22a+b%2Bc%26%3D%22":       "a b+c&=",
		"%44ata=3":                       3.0,
		"data=1&Data=4&DATA=2":           4.0,
		"&&=&x&Data=5":                   5.0,
		"Nonsense=1":                     map[string]any{},
		"Data=%7B%22%3D%22%3A%22=%22%7D": map[string]any{"=": "="},
		"Ttl=&Data=6":                    6.0,
	} {
		answer := c.send("POST", home+"/Documents", body)
		require.Equal(t, 201, answer.Code, answer.Body.String())
		require.Equal(t, want, answer.json["data"], body)
	}
}
