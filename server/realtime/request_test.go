package realtime_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/server/ratelimit"
	"lockstep/server/realtime"
)

func TestErrorsCarryStatusCodeAndMessage(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		m, l := c.create("Maps"), c.create("Lists")
		for _, test := range []struct {
			method, path, body string
			status, code       int
		}{
			{"GET", "/v3/Documents/nothing-here", "", 404, 54300},
			{"GET", "/v3/Documents/ET" + strings.Repeat("0", 32), "", 404, 54100},
			{"GET", "/v3/Nonsense", "", 404, 20404},
			{"GET", "/v9/Documents/x", "", 404, 20404},
			{"GET", "", "", 404, 20404},
			{"GET", "/", "", 404, 20404},
			{"GET", "/v3", "", 404, 20404},
			{"GET", "/v3/Services", "", 404, 20404},
			{"GET", "/v4/Other", "", 404, 20404},
			{"GET", "/v3/Maps/%zz", "", 400, 20001},
			{"GET", "/v3/Maps/%00", "", 400, 20001},
			{"GET", "/v3/Maps/%ff", "", 400, 20001},
			{"GET", "/v3/Maps/" + m + "/Items?Direction=up", "", 400, 54450},
			{"GET", "/v3/Maps/" + m + "/Items?Order=up", "", 400, 54451},
			{"GET", "/v3/Maps/" + m + "/Items?Bounds=none", "", 400, 54452},
			{"GET", "/v3/Maps/" + m + "/Items?PageToken=!", "", 400, 54453},
			{"GET", "/v3/Maps/" + m + "/Items?PageSize=0", "", 400, 54454},
			{"GET", "/v3/Lists/" + l + "/Items?From=x", "", 400, 54458},
			{"PATCH", "/v3/Documents", "", 405, 20004},
			{"POST", "/v3/Documents", "{bad", 400, 54008},
			{"POST", "/v3/Documents", "[]", 400, 20001},
			{"POST", "/v3/Documents", `{"unique_name":5}`, 400, 54302},
			{"POST", "/v3/Documents", `{"unique_name":"` + strings.Repeat("x", 321) + `"}`, 400, 54302},
			{"POST", "/v3/Documents", `{"ttl":-1}`, 400, 54011},
			{"POST", "/v3/Documents", `{"ttl":"soon"}`, 400, 54011},
			{"POST", "/v3/Documents", `{"data":"` + strings.Repeat("x", 16384) + `"}`, 413, 54006},
			{"POST", "/v3/Documents", `{"data":null}`, 400, 54101},
			{"POST", "/v3/Lists/" + l + "/Items", `{"data":null}`, 400, 54156},
			{"GET", "/v3/Lists/" + l + "/Items/x", "", 400, 54458},
			{"GET", "/v3/Lists/" + l + "/Items/0", "", 404, 54151},
			{"PUT", "/v3/Lists/" + l + "/Items/0", `{"data":1}`, 405, 20004},
			{"GET", "/v3/Maps/" + m + "/Items/k", "", 404, 54201},
			{"POST", "/v3/Maps/" + m + "/Items/k", `{"data":1}`, 404, 54201},
			{"POST", "/v3/Maps/" + m + "/Items", `{"data":1}`, 400, 54209},
			{"PUT", "/v3/Maps/" + m + "/Items/k", `{}`, 400, 54010},
			{"PUT", "/v3/Maps/" + m + "/Items/" + strings.Repeat("x", 321), `{"data":1}`, 400, 54209},
			{"DELETE", "/v3/Maps/" + m + "/Items/k", "data_sync", 404, 54201},
			{"GET", "/v3/Services/IS" + strings.Repeat("0", 32) + "/Maps/" + m, "", 404, 20404},
			{"POST", "/v3/Insights/none/Items", `{"query_string":""}`, 404, 54500},
			{"POST", "/v3/Insights//Items", `{"query_string":""}`, 400, 54502},
			{"POST", "/v3/Insights/" + l + "/Items", `{"query_string":""}`, 400, 54502},
			{"POST", "/v3/Insights/" + m + "/Items", `{"query_string":"a =="}`, 400, 54507},
			{"POST", "/v3/Insights/" + m + "/Items", `{"query_string":"` + strings.Repeat(`a == \"\" or `, 15) + `a == \"\""}`, 400, 54509},
			{"POST", "/v3/Insights/" + m + "/Items", `{"query_string":"a in [` + strings.Repeat(`\"\",`, 29) + `\"\"]"}`, 400, 54510},
			{"GET", "/v3/Insights/" + m + "/Items", "", 405, 20004},
		} {
			body := c.http(test.status, test.method, test.path, test.body)
			require.EqualValues(w, test.status, body["status"])
			require.EqualValues(w, test.code, body["code"], "%s %s %s", test.method, test.path, test.body)
			require.NotEmpty(w, body["message"])
		}
	})
}

func TestObjectsInBothForms(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		links := c.http(200, "GET", "/v3/Configuration", "")["links"].(map[string]any)
		path := func(link string, replace ...string) string {
			u, err := url.Parse(strings.NewReplacer(replace...).Replace(links[link].(string)))
			require.NoError(w, err)
			return u.EscapedPath()
		}
		m := c.http(201, "POST", path("maps"), `{"unique_name":"a name/with %"}`)
		require.Equal(w, "http://node.example/v3/Maps/"+m["sid"].(string), m["url"])
		require.Equal(w, fsmtest.Service.String(), m["service_sid"])
		for _, id := range []string{m["sid"].(string), m["unique_name"].(string)} {
			items := path("map_items", "{mapId}", url.PathEscape(id))
			item := c.http(201, "POST", items, `{"key":"k/`+id+`","data":{"v":1}}`)
			require.Equal(w, m["sid"], item["map_sid"])
			require.NotContains(w, item, "data")
			exists := c.answered(409, c.ask(request("POST", items, nil, nil), `{"key":"k/`+id+`","data":1}`))
			require.EqualValues(w, 54208, exists["code"])
			there, err := url.Parse(exists["links"].(map[string]any)["item"].(string))
			require.NoError(w, err)
			require.Equal(w, "http://node.example", there.Scheme+"://"+there.Host)
			require.Equal(w, item["revision"], c.http(200, "GET", there.EscapedPath(), "")["revision"], "so the oldest clients go on")
			one := path("map_item", "{mapId}", url.PathEscape(id), "{itemId}", url.PathEscape("k/"+id))
			require.NotContains(w, c.http(200, "POST", one, `{"data":{"v":2}}`), "data")
			require.Equal(w, map[string]any{"v": 2.0}, c.http(200, "GET", one, "")["data"])
		}
		require.Len(w, c.http(200, "GET", "/v3/Maps/"+m["sid"].(string)+"?Include=items", "")["items"], 2)
	})
}

func TestConditionalWrites(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		m := c.create("Maps")
		put := func(match string) got {
			headers := map[string]string{}
			if match != "" {
				headers["if-match"] = match
			}
			return c.ask(request("PUT", "/v3/Maps/"+m+"/Items/k", headers, nil), `{"data":{}}`)
		}
		c.answered(201, put("-1"))
		c.answered(412, put("-1"))
		revision := c.answered(200, put(""))["revision"].(string)
		c.answered(400, put("no-such-revision"))
		c.answered(200, put(revision))
		c.answered(412, put(revision))
	})
}

func TestOneRequestIDIsOneWrite(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b, other := w.connect("alice"), w.connect("alice"), w.connect("bob")
		l := a.create("Lists")
		push := func(c *client, data string) got {
			return c.ask(request("POST", "/v3/Lists/"+l+"/Items", map[string]string{"Twilio-Request-Id": "RQ1"}, nil), `{"data":`+data+`}`)
		}
		first := a.answered(201, push(a, "1"))
		require.Equal(w, first["index"], b.answered(201, push(b, "1"))["index"])
		b.answered(400, push(b, "2"))
		require.NotEqual(w, first["index"], other.answered(201, push(other, "1"))["index"], "of another identity")
	})
}

func TestRequestsForOneObjectTakeEffectInTheOrderSent(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c, reader := w.connect("alice"), w.connect("reader")
		m := c.http(201, "POST", "/v3/Maps", `{"unique_name":"m"}`)["sid"].(string)
		reader.subscribe(1, wish(m, "map", 0))
		reader.heard(1)
		var ids []string
		for i := range 60 {
			ids = append(ids, c.begin(request("PUT", "/v3/Maps/"+[]string{m, "m"}[i%2]+"/Items/k", nil, nil), fmt.Sprintf(`{"data":%d}`, i)))
		}
		for i, id := range ids {
			require.EqualValues(w, i+1, c.answered([]int{201, 200}[min(i, 1)], c.await(id))["last_event_id"])
		}
		heard := reader.heard(60)
		require.Equal(w, "map_item_updated 60 k 59", heard[59])
	})
}

func TestPages(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		m, l := c.create("Maps"), c.create("Lists")
		for _, k := range []string{"a", "b", "c", "d", "e"} {
			c.put(m, k, "1")
			c.http(201, "POST", "/v3/Lists/"+l+"/Items", `{"data":1}`)
		}
		type page struct {
			items      string
			prev, next any
		}
		get := func(params map[string]any) page {
			p := c.answered(200, c.ask(request("GET", "/v3/Maps/"+m+"/Items", nil, params), ""))
			out := page{}
			for _, i := range p["items"].([]any) {
				out.items += i.(map[string]any)["key"].(string)
			}
			meta := p["meta"].(map[string]any)
			out.prev, out.next = meta["previous_token"], meta["next_token"]
			return out
		}
		first := get(map[string]any{"PageSize": "2"})
		require.Equal(w, "ab", first.items)
		require.Nil(w, first.prev)
		second := get(map[string]any{"PageToken": first.next})
		require.Equal(w, "cd", second.items)
		back := get(map[string]any{"PageToken": second.prev})
		require.Equal(w, first, back, "just where it began")
		last := get(map[string]any{"PageToken": second.next})
		require.Equal(w, "cde", get(map[string]any{"PageToken": first.next, "PageSize": "3"}).items, "unless another is asked for")
		require.Equal(w, "e", last.items)
		require.Nil(w, last.next)
		turned := get(map[string]any{"Order": "desc", "PageSize": "2"})
		require.Equal(w, "ed", turned.items)
		turned = get(map[string]any{"PageToken": turned.next})
		require.Equal(w, "cb", turned.items)
		require.Equal(w, "ed", get(map[string]any{"PageToken": turned.prev}).items)
		require.Equal(w, "edcba", get(map[string]any{"Direction": "backward"}).items)
		require.Equal(w, "dc", get(map[string]any{"From": "e", "Bounds": "exclusive", "Order": "desc", "PageSize": []string{"2"}}).items)
		require.Equal(w, "c", get(map[string]any{"Key": "c"}).items)
		require.Empty(w, get(map[string]any{"Key": "bb"}).items)
		require.NotNil(w, get(map[string]any{"From": "z"}).prev)
		for _, bad := range []map[string]any{{"PageSize": "0"}, {"Order": "up"}, {"Bounds": "x"}, {"PageToken": "!"}} {
			c.answered(400, c.ask(request("GET", "/v3/Maps/"+m+"/Items", nil, bad), ""))
		}
		zero := c.answered(200, c.ask(request("GET", "/v3/Lists/"+l+"/Items", nil, map[string]any{"PageSize": "NaN"}), ""))
		require.Len(w, zero["items"], 1)
	})
}

func TestAnswersToWritesCarryNoData(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		d, l := c.http(201, "POST", "/v3/Documents", `{"data":{"secret":1}}`), c.create("Lists")
		url := "/v3/Documents/" + d["sid"].(string)
		for _, body := range []map[string]any{
			d, c.http(200, "POST", url, `{"data":{"secret":2}}`), c.http(200, "POST", url, `{"ttl":100}`),
			c.http(201, "POST", "/v3/Lists/"+l+"/Items", `{"data":{"secret":1}}`), c.http(200, "DELETE", "/v3/Lists/"+l+"/Items/0", "data_sync"),
		} {
			require.NotContains(w, body, "data")
			require.IsType(w, "", body["revision"])
			require.IsType(w, 0.0, body["last_event_id"])
		}
		require.NotNil(w, c.http(200, "GET", url, "")["date_expires"])
		require.Equal(w, map[string]any{"data": map[string]any{}, "last_event_id": 0.0}, c.http(200, "GET", "/v3/Lists/"+l+"/Context", ""))
	})
}

func TestConnectionHasARateOfItsOwn(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.SessionRequests, c.Limits = 2, ratelimit.New[string](5*time.Second) }, func(w *world) {
		c := w.connect("alice")
		for range 10 {
			c.http(404, "GET", "/v3/Nothing", "")
		}
		refused := c.http(429, "POST", "/v3/Documents", `{}`)
		require.EqualValues(w, 20429, refused["code"])
		require.Equal(w, map[string]any{"reconnect_min_ms": 1000.0}, refused["backoff_policy"])
		w.connect("alice").http(201, "POST", "/v3/Documents", `{}`)
		time.Sleep(time.Second)
		c.http(201, "POST", "/v3/Documents", `{}`)
	})
}

// A name is only a name, also where it is that of a part of another object.
func TestObjectNamedContextHasNone(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		for _, plural := range []string{"Maps", "Streams", "Lists"} {
			c.http(201, "POST", "/v3/"+plural, `{"unique_name":"Context"}`)
			refused := c.http(400, "POST", "/v3/"+plural+"/Context", `{"data":{"bogus":1}}`)
			require.EqualValues(w, 54010, refused["code"])
		}
		c.http(200, "POST", "/v3/Lists/Context/Context", `{"data":{"real":1}}`)
		require.Equal(w, map[string]any{"real": 1.0}, c.http(200, "GET", "/v3/Lists/Context/Context", "")["data"])
	})
}

// What is forbidden or missing comes before what is wrong with the parameters.
func TestErrorsComeInTheirOrder(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		yes := true
		w.node.Must(&fsm.UpdateService{ACLEnabled: &yes})
		owner, stranger := w.connect("owner"), w.connect("stranger")
		d, l, m := owner.create("Documents"), owner.create("Lists"), owner.http(201, "POST", "/v3/Maps", `{"unique_name":"m"}`)["sid"].(string)
		gone := strings.Repeat("0", 32)
		for _, bad := range []struct{ method, path, body string }{
			{"POST", "/v3/Documents/" + d, `{"data":null}`},
			{"POST", "/v3/Documents/" + d, `{"ttl":"x"}`},
			{"POST", "/v3/Documents/" + d, `{"data":"` + strings.Repeat("x", 20_000) + `"}`},
			{"GET", "/v3/Lists/" + l + "/Items/x", ""},
			{"POST", "/v3/Maps/" + m + "/Items", `{"data":1}`},
			{"GET", "/v3/Maps/" + m + "/Items?Order=x", ""},
			{"POST", "/v3/Insights/m/Items", `{"query_string":"x =="}`},
		} {
			refused := stranger.http(403, bad.method, bad.path, bad.body)
			require.EqualValues(w, 54007, refused["code"])
			for _, sid := range []string{d, l, m} {
				bad.path = strings.Replace(bad.path, sid, sid[:2]+gone, 1)
			}
			bad.path = strings.Replace(bad.path, "/m/", "/none/", 1)
			stranger.http(404, bad.method, bad.path, bad.body)
		}
	})
}

// However deep a header or parameter nests, it is read once.
func TestNestedHeadersCostNoMoreThanFlatOnes(t *testing.T) {
	const depth = 9990
	deep := strings.Repeat("[", depth) + `""` + strings.Repeat("]", depth)
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		var headers []string
		for i := range 3 {
			headers = append(headers, fmt.Sprintf(`"h%d":%s`, i, deep))
		}
		h := `{"method":"message","id":"TMn","payload_size":0,"http_request":{"path":"/v3/Maps/x","method":"GET","headers":{` + strings.Join(headers, ",") + `}}}`
		c.raw(fmt.Appendf(nil, "TWILSOCK V3.0 %d\r\n%s\r\n", len(h), h))
		c.answered(404, c.await("TMn"))
	})
}

func TestDocumentOfNothingIsEmpty(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		for _, body := range []string{`{}`, ``, `{"unique_name":"d","data":null}`, `{"unique_name":null,"data":null,"purpose":null,"context":null}`} {
			d := c.http(201, "POST", "/v3/Documents", body)["sid"].(string)
			require.Equal(w, map[string]any{}, c.http(200, "GET", "/v3/Documents/"+d, "")["data"])
		}
		for _, kind := range []string{"Lists", "Maps"} {
			c.http(201, "POST", "/v3/"+kind, `{"unique_name":null,"data":null,"purpose":null,"context":null}`)
		}
	})
}

func TestRequestIsFoundInTheLogByTheIDThatTheClientChose(t *testing.T) {
	var log bytes.Buffer
	inWorld(t, func(c *realtime.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}, func(w *world) {
		c := w.connect("alice")
		long := strings.Repeat("x", 1000)
		for _, id := range []string{"RQ0123", long} {
			c.begin(request("GET", "/v3/Maps/nonesuch", map[string]string{"Twilio-Request-Id": id}, nil), "")
		}
		synctest.Wait()
		require.Contains(w, log.String(), "request=RQ0123 method=GET path=/v3/Maps/nonesuch status=404")
		require.NotContains(w, log.String(), long, "no more than is needed")
	})
}
