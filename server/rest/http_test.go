package rest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/server/budget"
	"lockstep/server/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCredentialsComeFirst(t *testing.T) {
	c := start(t)
	for _, p := range []string{home, "/v1/Nothing", home + "/Documents/%ff"} {
		for _, method := range []string{"GET", "PUT", "HEAD"} {
			answer := c.send(method, p, "", header("Authorization", "Basic nonsense"))
			require.Equal(t, 401, answer.Code)
			require.Equal(t, `Basic realm="Twilio API"`, answer.Header().Get("WWW-Authenticate"))
			if method != "HEAD" {
				answer.refused(t, 401, 20003)
				require.Equal(t, "Authenticate", answer.json["message"])
			}
		}
	}
	byKey := func(r *http.Request) { r.SetBasicAuth(fsmtest.KeySID.String(), fsmtest.KeySecret) }
	require.Equal(t, 200, c.send("GET", home, "", byKey).Code)
	none := func(r *http.Request) { r.Header.Del("Authorization") }
	c.send("GET", home, "", none).refused(t, 401, 20003)
}

func TestPageOfAnotherSiteChangesNothing(t *testing.T) {
	c := start(t)
	form := func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Sec-Fetch-Mode", "navigate")
	}
	c.send("POST", home+"/Documents", "UniqueName=planted", form).refused(t, 403, 20003)
	require.Equal(t, 404, c.send("GET", home+"/Documents/planted", "").Code)
	script := func(r *http.Request) {
		form(r)
		r.Header.Set("Sec-Fetch-Mode", "cors")
	}
	require.Equal(t, 201, c.send("POST", home+"/Documents", "", script).Code)
	answer := c.send("GET", home, "", form, func(r *http.Request) { r.Header.Del("Authorization") })
	answer.refused(t, 401, 20003)
	require.Empty(t, answer.Header().Get("WWW-Authenticate"), "a browser would remember what its user types")
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	c := start(t)
	seen := map[string]bool{}
	none := func(r *http.Request) { r.Header.Del("Authorization") }
	for _, answer := range []reply{
		c.send("GET", home, ""), c.send("GET", home, "", none), c.send("GET", "/v1/Nothing", ""), c.send("POST", home+"/Documents", "Data={"),
		c.send("OPTIONS", home, "", none), c.send("HEAD", home, ""), c.send("OPTIONS", "/v1/Nothing", "", none),
	} {
		h := answer.Header()
		require.Equal(t, "*", h.Get("Access-Control-Allow-Origin"))
		require.Equal(t, "GET, POST, DELETE, OPTIONS", h.Get("Access-Control-Allow-Methods"))
		require.Contains(t, h.Get("Access-Control-Allow-Headers"), "Idempotency-Key")
		require.Equal(t, "true", h.Get("Access-Control-Allow-Credentials"))
		require.Equal(t, "ETag", h.Get("Access-Control-Expose-Headers"))
		id := h.Get("Twilio-Request-Id")
		require.Regexp(t, `^RQ[0-9a-f]{32}$`, id)
		require.False(t, seen[id])
		seen[id] = true
	}
	answer := c.send("OPTIONS", home, "", none)
	require.Equal(t, 204, answer.Code)
}

func TestMethodsThatAPathDoesNotHave(t *testing.T) {
	c := start(t)
	for request, allow := range map[string]string{
		"PUT /Documents":                     "GET, POST, OPTIONS",
		"HEAD /Documents":                    "GET, POST, OPTIONS",
		"PATCH /Documents/it":                "GET, POST, DELETE, OPTIONS",
		"DELETE /Lists/it/Items":             "GET, POST, OPTIONS",
		"GET /Streams/it/Messages":           "POST, OPTIONS",
		"POST /Lists/it/Permissions":         "GET, OPTIONS",
		"BREW /Documents/it/Permissions/ann": "GET, POST, DELETE, OPTIONS",
	} {
		method, p, _ := strings.Cut(request, " ")
		answer := c.send(method, home+p, "")
		require.Equal(t, 405, answer.Code, request)
		require.Equal(t, allow, answer.Header().Get("Allow"), request)
		require.Equal(t, method == "HEAD", answer.Body.Len() == 0, request)
	}
}

func TestOnlyFormsAreRead(t *testing.T) {
	c := start(t)
	for _, contentType := range []string{"application/json", "text/plain; charset=utf-8", "multipart/mixed; boundary=x", "nonsense", ""} {
		c.send("POST", home+"/Documents", `{"Data":{}}`, header("Content-Type", contentType)).refused(t, 415, 20001)
		require.Equal(t, 201, c.send("POST", home+"/Documents", "", header("Content-Type", contentType)).Code)
	}
	for _, contentType := range []string{form, "Application/X-WWW-Form-Urlencoded; charset=UTF-8"} {
		answer := c.send("POST", home+"/Documents", "Data=17", header("Content-Type", contentType))
		require.EqualValues(t, 17, answer.json["data"])
	}
	require.Equal(t, 200, c.send("GET", home, "ignored", header("Content-Type", "application/json")).Code)
}

func TestBodiesOfAnUnknownLength(t *testing.T) {
	c := start(t)
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	require.Equal(t, 201, c.send("POST", home+"/Documents", "Data=1", chunked).Code)
	c.send("POST", home+"/Documents", strings.Repeat("x", 256<<10+1), chunked).refused(t, 413, 54006)
	c.send("POST", home+"/Documents", "Data={}", func(r *http.Request) { r.ContentLength = 100 }).refused(t, 408, 20001)
}

func TestBodyThatDoesNotArriveIsGivenUp(t *testing.T) {
	c := start(t, func(config *rest.Config) { config.BodyTimeout = 50 * time.Millisecond })
	server := httptest.NewServer(c.handler)
	defer server.Close()
	for _, credentials := range []string{"", "Authorization: Basic nonsense\r\n"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
		if credentials == "" {
			credentials = "Authorization: " + r.Header.Get("Authorization") + "\r\n"
		}
		_, err = fmt.Fprintf(conn, "POST %s/Documents HTTP/1.1\r\nHost: x\r\n%sContent-Type: %s\r\nContent-Length: 1000\r\n\r\nUniqueName=", home, credentials, form)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		if answer.StatusCode != 401 {
			require.Equal(t, 408, answer.StatusCode)
			require.Contains(t, string(body), `"code":20001`)
		}
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "the connection is closed")
	}
	require.Empty(t, c.get(home + "/Documents").json["documents"])
}

func TestConnectionServesOnAfterABody(t *testing.T) {
	c := start(t, func(config *rest.Config) { config.BodyTimeout = 30 * time.Millisecond })
	server := httptest.NewServer(c.handler)
	defer server.Close()
	applied := c.node.Node.Propose
	c.node.propose = func(ctx context.Context, command *fsm.Command) (*fsm.Result, error) {
		// Longer than the body was allowed to take: its deadline must be gone.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(60 * time.Millisecond):
		}
		return applied(ctx, command)
	}
	for range 2 {
		r, err := http.NewRequest("POST", server.URL+home+"/Documents", strings.NewReader("Data=1"))
		require.NoError(t, err)
		r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
		r.Header.Set("Content-Type", form)
		answer, err := server.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, 201, answer.StatusCode)
	}
}

// Helper libraries before 3.41, and curl -F, send nothing else.
func TestMultipartFormsAreForms(t *testing.T) {
	c := start(t)
	multipart := func(boundary string) func(*http.Request) {
		return header("Content-Type", "Multipart/Form-Data; boundary="+boundary)
	}
	part := func(boundary, disposition, value string) string {
		return "--" + boundary + "\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n"
	}
	at := home + "/Documents"
	body := func(boundary string) string {
		return part(boundary, `name="Data"; filename="a.json"`, `{"a":"file"}`) + part(boundary, `name="UniqueName"`, "é & = + %20") +
			part(boundary, `name="Data"`, `{"a":"é & = + %20"}`) + part(boundary, `name="Data"`, `{"a":"second"}`) + "--" + boundary + "--\r\n"
	}
	key := header("Idempotency-Key", "k")
	created := c.send("POST", at, body("--1"), multipart("--1"), key)
	require.Equal(t, 201, created.Code, created.Body.String())
	require.Equal(t, "é & = + %20", created.json["unique_name"])
	require.Equal(t, map[string]any{"a": "é & = + %20"}, created.json["data"], "the first that is no file")
	again := c.send("POST", at, body("--2"), multipart("--2"), key)
	require.Equal(t, created.Body.String(), again.Body.String(), "the boundary is not what was asked")

	for name, bad := range map[string]string{
		"not multipart":   `{"Data":{}}`,
		"cut off":         part("x", `name="Data"`, "{}"),
		"cut in a header": "--x\r\nContent-Disposition: form-",
		"no end of head":  "--x\r\nContent-Disposition: form-data; name=Data",
		"too many parts":  strings.Repeat(part("x", `name="a"`, ""), 129) + "--x--\r\n",
	} {
		answer := c.send("POST", at, bad, multipart("x"))
		require.Equal(t, 400, answer.Code, name)
		answer.refused(t, 400, 20001)
	}
	c.send("POST", at, "--x--\r\n", header("Content-Type", "multipart/form-data")).refused(t, 400, 20001)
	c.send("POST", at, part("x", `name="Data"`, strings.Repeat(" ", 300<<10)), multipart("x")).refused(t, 413, 54006)
	require.Equal(t, 201, c.send("POST", at, "--x--\r\n", multipart("x")).Code, "an empty one")
	require.Len(t, c.get(at).json["documents"], 2)
}

func TestIdempotencyKeys(t *testing.T) {
	c := start(t)
	c.post(home+"/Lists", "UniqueName", "it")
	key := func(k string) func(*http.Request) { return header("Idempotency-Key", k) }
	at := home + "/Lists/it/Items"

	first := c.send("POST", at, "Data=1", key("k"))
	again := c.send("POST", at, "Data=1", key("k"))
	require.Equal(t, 201, again.Code)
	require.Equal(t, first.Body.String(), again.Body.String())
	require.Equal(t, first.Header().Get("ETag"), again.Header().Get("ETag"))
	require.Len(t, c.get(at).json["items"], 1)

	c.send("POST", at, "Data=2", key("k")).refused(t, 400, 20001)
	c.send("DELETE", at+"/0", "", key("k")).refused(t, 400, 20001)
	c.send("POST", home+"/Documents", "Data=1", key("k")).refused(t, 400, 20001)
	c.send("POST", at, "Data=2", key("")).refused(t, 400, 20001)
	c.send("POST", at, "Data=2", key(strings.Repeat("x", 129))).refused(t, 400, 20001)
	require.Equal(t, 201, c.send("POST", at, "Data=2", key(strings.Repeat("x", 128))).Code)

	byKey := func(r *http.Request) { r.SetBasicAuth(fsmtest.KeySID.String(), fsmtest.KeySecret) }
	other := c.send("POST", at, "Data=3", key("k"), byKey)
	require.Equal(t, 201, other.Code)
	require.EqualValues(t, 3, other.json["data"], "another credential has keys of its own")

	require.Equal(t, 204, c.send("DELETE", at+"/0", "", key("d")).Code)
	require.Equal(t, 204, c.send("DELETE", at+"/0", "", key("d")).Code, "the first answer, not 404")
	c.send("DELETE", at+"/0", "", key("e")).refused(t, 404, 20404)

	c.send("POST", at, "Data={", key("mended")).refused(t, 400, 54008)
	require.Equal(t, 201, c.send("POST", at, "Data={}", key("mended")).Code, "refusals before the log are not remembered")

	c.post(home+"/Documents", "UniqueName", "d", "Data", `{"v":1}`)
	before := c.send("POST", home+"/Documents/d", "Ttl=60", key("ttl"))
	c.post(home+"/Documents/d", "Data", `{"v":2}`)
	require.Equal(t, before.Body.String(), c.send("POST", home+"/Documents/d", "Ttl=60", key("ttl")).Body.String())
	c.remove(home + "/Documents/d")
	require.Equal(t, before.Body.String(), c.send("POST", home+"/Documents/d", "Ttl=60", key("ttl")).Body.String())

	before = c.send("POST", at+"/1", "ItemTtl=60", key("item ttl"))
	c.post(at+"/1", "Data", "5")
	require.Equal(t, before.Body.String(), c.send("POST", at+"/1", "ItemTtl=60", key("item ttl")).Body.String())
}

// What should have been encoded and was not is taken as it is; an encoded slash
// stays a part of its segment all the same.
func TestPathsAreSplitBeforeTheyAreDecoded(t *testing.T) {
	c := start(t)
	c.post(home+"/Documents", "UniqueName", "a/|é")
	for _, segment := range []string{"a%2F|é", "a%2F|%C3%A9", "a%2f%7C%c3%a9"} {
		// Not through url.Parse, as a request line comes in.
		d := c.send("GET", "/", "", func(r *http.Request) {
			u, err := url.ParseRequestURI(home + "/Documents/" + segment)
			require.NoError(t, err)
			r.URL = u
		})
		require.Equal(t, 200, d.Code, segment)
	}
	missing := c.send("GET", "/", "", func(r *http.Request) {
		r.URL, _ = url.ParseRequestURI(home + "/Documents/none%2F|\"")
	})
	require.Contains(t, missing.json["message"], "/Documents/none%2F%7C%22 was not found")
}

func TestNothingIsServedWhileUnavailable(t *testing.T) {
	for _, path := range []string{"/v1/Services", "/v1//Services", "/v1/Services/../x", "/other"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", path, nil)
		r.Header.Set("Origin", "https://elsewhere.example")
		rest.Unavailable("it starts").ServeHTTP(w, r)
		require.Equal(t, 503, w.Code)
		require.Contains(t, w.Body.String(), `"code":20503`)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
		require.NotEmpty(t, w.Header().Get("Twilio-Request-Id"))
	}
	w := httptest.NewRecorder()
	rest.Unavailable("it starts").ServeHTTP(w, httptest.NewRequest("OPTIONS", "/v1/Services", nil))
	require.Equal(t, 204, w.Code)
}

// Bytes of bodies are taken before a body is read, and given back with the answer.
func TestBodiesUnderWayAreBounded(t *testing.T) {
	bodies := budget.New(-1)
	c := start(t, func(c *rest.Config) { c.Bodies = bodies.Share(1000) })
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	refused := c.send("POST", home+"/Documents", "Data="+strings.Repeat("1", 1000))
	refused.refused(t, 429, 20429)
	require.Equal(t, "1", refused.Header().Get("Retry-After"))
	c.send("POST", home+"/Documents", "Data=1", chunked).refused(t, 429, 20429)
	require.Equal(t, 201, c.send("POST", home+"/Documents", "Data=1").Code)
	require.Zero(t, bodies.Used())
}
