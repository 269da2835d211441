package rest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/rest"
)

// world is a service with one object of each kind, and an item in each collection.
func world(t *testing.T) *client {
	c := start(t)
	for _, kind := range []string{"Documents", "Lists", "Maps", "Streams"} {
		c.post(home+"/"+kind, "UniqueName", "it")
	}
	c.post(home+"/Lists/it/Items", "Data", `{"a":1}`)
	c.post(home+"/Maps/it/Items", "Key", "k", "Data", `{"a":1}`)
	c.post(home+"/Maps/it/Permissions/ann", "Read", "true", "Write", "false", "Manage", "TRUE")
	return c
}

func TestErrors(t *testing.T) {
	c := world(t)
	long := strings.Repeat("x", 400)
	large := `"` + strings.Repeat("x", 16384) + `"`
	for name, e := range map[string]struct {
		request string // method and path below the service
		form    string
		match   string // If-Match
		status  int
		code    int
	}{
		"path":                           {"GET /Nothing", "", "", 404, 20404},
		"path too long":                  {"GET /Maps/it/Items/k/more", "", "", 404, 20404},
		"path with an empty segment":     {"GET //Documents", "", "", 404, 20404},
		"path with a slash too many":     {"GET /Documents/", "", "", 404, 20404},
		"documents have no items":        {"GET /Documents/it/Items", "", "", 404, 20404},
		"streams have no permissions":    {"GET /Streams/it/Permissions", "", "", 404, 20404},
		"messages have no address":       {"GET /Streams/it/Messages/1", "", "", 404, 20404},
		"NUL in the path":                {"GET /Documents/a%00b", "", "", 400, 20001},
		"no UTF-8 in the path":           {"GET /Documents/%ff", "", "", 400, 20001},
		"method":                         {"PUT /Documents", "", "", 405, 20004},
		"messages cannot be read":        {"GET /Streams/it/Messages", "", "", 405, 20004},
		"permissions are not created":    {"POST /Maps/it/Permissions", "", "", 405, 20004},
		"escape in the query":            {"GET /Documents?a=%zz", "", "", 400, 20001},
		"escape in the form":             {"POST /Documents", "Data=%7", "", 400, 20001},
		"no document":                    {"GET /Documents/none", "", "", 404, 20404},
		"no document of this SID":        {"GET /Documents/ET" + strings.Repeat("0", 32), "", "", 404, 20404},
		"a SID of another kind":          {"GET /Documents/MP" + strings.Repeat("0", 32), "", "", 404, 20404},
		"a SID of no kind":               {"GET /Documents/XX" + strings.Repeat("0", 32), "", "", 404, 20404},
		"no document to change":          {"POST /Documents/none", "Data={}", "", 404, 20404},
		"no document to remove":          {"DELETE /Documents/" + long, "", "", 404, 20404},
		"no list item":                   {"GET /Lists/it/Items/7", "", "", 404, 20404},
		"no map item":                    {"POST /Maps/it/Items/none", "Data={}", "", 404, 20404},
		"no such key":                    {"POST /Maps/it/Items/" + long, "Data={}", "", 404, 20404},
		"no such key to remove":          {"DELETE /Maps/it/Items/" + long, "", "", 404, 20404},
		"no permission":                  {"GET /Maps/it/Permissions/bob", "", "", 404, 20404},
		"no permission to remove":        {"DELETE /Maps/it/Permissions/bob", "", "", 404, 20404},
		"no stream":                      {"POST /Streams/none/Messages", "Data={}", "", 404, 20404},
		"If-Match":                       {"POST /Documents/it", "Data={}", "no-revision", 400, 54003},
		"If-Match of an item":            {"DELETE /Maps/it/Items/k", "", "no-revision", 400, 54003},
		"data too large":                 {"POST /Documents/it", "Data=" + large, "", 413, 54006},
		"message too large":              {"POST /Streams/it/Messages", "Data=" + large[:4097] + `"`, "", 413, 54006},
		"body too large":                 {"POST /Documents/it", strings.Repeat("x", 256<<10+1), "", 413, 54006},
		"data is no JSON":                {"POST /Documents", "Data={", "", 400, 54008},
		"data is empty":                  {"POST /Documents", "Data=", "", 400, 54008},
		"data is no UTF-8":               {"POST /Documents", "Data=%22%ff%22", "", 400, 54008},
		"nothing to do":                  {"POST /Documents/it", "", "", 400, 54010},
		"nothing to do for a list":       {"POST /Lists/it", "Data={}", "", 400, 54010},
		"nothing to do for a map":        {"POST /Maps/it", "", "", 400, 54010},
		"nothing to do for a stream":     {"POST /Streams/it", "CollectionTtl=1", "", 400, 54010},
		"nothing to do for an item":      {"POST /Lists/it/Items/0", "CollectionTtl=60", "", 400, 54010},
		"TTL is no number":               {"POST /Documents", "Ttl=soon", "", 400, 54011},
		"TTL is negative":                {"POST /Streams/it", "Ttl=-1", "", 400, 54011},
		"TTL is too long":                {"POST /Lists", "CollectionTtl=31536001", "", 400, 54011},
		"TTL of an item":                 {"POST /Maps/it/Items/k", "ItemTtl=99999999999999999999", "", 400, 54011},
		"TTL of a collection":            {"POST /Maps/it/Items/k", "Data={}&CollectionTtl=1.5", "", 400, 54011},
		"document data null":             {"POST /Documents/it", "Data=null", "", 400, 54101},
		"document mismatch":              {"POST /Documents/it", "Data={}", "ffff", 412, 54103},
		"list item mismatch":             {"POST /Lists/it/Items/0", "Data={}", `"ffff"`, 412, 54155},
		"list item mismatch on removal":  {"DELETE /Lists/it/Items/0", "", "ffff", 412, 54155},
		"list item data missing":         {"POST /Lists/it/Items", "", "", 400, 54156},
		"list item data null":            {"POST /Lists/it/Items/0", "Data=null", "", 400, 54156},
		"map item mismatch":              {"POST /Maps/it/Items/k", "Data={}", "ffff", 412, 54205},
		"map item data missing":          {"POST /Maps/it/Items", "Key=n", "", 400, 54206},
		"map item exists":                {"POST /Maps/it/Items", "Key=k&Data={}", "", 409, 54208},
		"map item key missing":           {"POST /Maps/it/Items", "Data={}", "", 400, 54209},
		"map item key empty":             {"POST /Maps/it/Items", "Key=&Data={}", "", 400, 54209},
		"map item key too long":          {"POST /Maps/it/Items", "Data={}&Key=" + long, "", 400, 54209},
		"map item key with NUL":          {"POST /Maps/it/Items", "Data={}&Key=%00", "", 400, 54209},
		"message missing":                {"POST /Streams/it/Messages", "", "", 400, 54251},
		"message null":                   {"POST /Streams/it/Messages", "Data=null", "", 400, 54251},
		"name exists":                    {"POST /Streams", "UniqueName=it", "", 409, 54301},
		"name empty":                     {"POST /Documents", "UniqueName=", "", 400, 54302},
		"name too long":                  {"POST /Documents", "UniqueName=" + long, "", 400, 54302},
		"name like a SID":                {"POST /Documents", "UniqueName=MP" + strings.Repeat("0", 32), "", 400, 54302},
		"identity too long":              {"POST /Maps/it/Permissions/" + long, "Read=true&Write=true&Manage=true", "", 400, 54351},
		"identity too long to fetch":     {"GET /Maps/it/Permissions/" + long, "", "", 400, 54351},
		"identity too long to remove":    {"DELETE /Maps/it/Permissions/" + long, "", "", 400, 54351},
		"flag missing":                   {"POST /Maps/it/Permissions/bob", "Read=true&Write=true", "", 400, 20001},
		"flag is none":                   {"POST /Maps/it/Permissions/bob", "Read=true&Write=true&Manage=yes", "", 400, 20001},
		"order":                          {"GET /Lists/it/Items?Order=up", "", "", 400, 54451},
		"bounds":                         {"GET /Lists/it/Items?Bounds=both", "", "", 400, 54452},
		"page token":                     {"GET /Documents?PageToken=no-such-token", "", "", 400, 54453},
		"page token of no kind":          {"GET /Lists/it/Items?PageToken=%00%ff", "", "", 400, 54453},
		"page size zero":                 {"GET /Documents?PageSize=0", "", "", 400, 54454},
		"page size negative":             {"GET /Maps/it/Items?PageSize=-1", "", "", 400, 54454},
		"page size no number":            {"GET /Maps/it/Permissions?PageSize=ten", "", "", 400, 54454},
		"index":                          {"GET /Lists/it/Items/-1", "", "", 400, 54458},
		"index beyond every list":        {"GET /Lists/it/Items/99999999999999999999", "", "", 404, 20404},
		"webhook without a host":         {"POST ", "WebhookUrl=http://:80/", "", 400, 54051},
		"index with a sign":              {"DELETE /Lists/it/Items/+1", "", "", 400, 54458},
		"from":                           {"GET /Lists/it/Items?From=a", "", "", 400, 54458},
		"friendly name empty":            {"POST ", "FriendlyName=", "", 400, 54053},
		"friendly name too long":         {"POST ", "FriendlyName=" + long, "", 400, 54053},
		"webhook URL":                    {"POST ", "WebhookUrl=ftp://example.com", "", 400, 54051},
		"window too short":               {"POST ", "ReachabilityDebouncingWindow=999", "", 400, 20001},
		"window is no number":            {"POST ", "ReachabilityDebouncingWindow=1e4", "", 400, 20001},
		"window too long":                {"POST ", "ReachabilityDebouncingWindow=99999999999999999999", "", 400, 20001},
		"setting is no boolean":          {"POST ", "AclEnabled=perhaps", "", 400, 20001},
		"default service is not removed": {"DELETE ", "", "", 400, 20001},
	} {
		t.Run(name, func(t *testing.T) {
			method, p, _ := strings.Cut(e.request, " ")
			answer := c.send(method, home+p, e.form, func(r *http.Request) {
				if e.match != "" {
					r.Header.Set("If-Match", e.match)
				}
			})
			answer.refused(t, e.status, e.code)
		})
	}
}

func TestMissingObjectPrecedesInvalidParameters(t *testing.T) {
	c := world(t)
	services := []string{"/v1/Services/IS" + strings.Repeat("0", 32), "/v1/Services/none", "/v1/Services/XX" + strings.Repeat("0", 32)}
	for _, request := range []string{
		"POST /Documents Data={", "POST /Documents Data=%zz", "POST /Lists Ttl=x", "GET /Maps?PageSize=0", "POST  AclEnabled=x", "POST  FriendlyName=",
	} {
		for _, service := range services {
			send(c, service, request).refused(t, 404, 20404)
		}
	}
	for _, request := range []string{
		"POST /Documents/none Data={", "POST /Documents/none ", "POST /Lists/none/Items Data={", "GET /Lists/none/Items/x", "DELETE /Lists/none/Items/x",
		"GET /Maps/none/Items?Order=up", "POST /Maps/none/Items Key=&Data={}", "POST /Streams/none/Messages Data=null", "GET /Maps/none/Items?From=%zz",
		"POST /Maps/none/Permissions/ann Read=x", "GET /Documents/none/Permissions?PageSize=0", "GET /Documents/none/Permissions/" + strings.Repeat("x", 300),
	} {
		send(c, home, request).refused(t, 404, 20404)
	}
	c.send("GET", "/v1/Services?PageSize=0", "").refused(t, 400, 54454)
	c.send("POST", "/v1/Services", "AclEnabled=x").refused(t, 400, 20001)
}

// send sends "METHOD path form", the form being optional.
func send(c *client, prefix, request string) reply {
	parts := strings.SplitN(request, " ", 3)
	body := ""
	if len(parts) == 3 {
		body = parts[2]
	}
	return c.send(parts[0], prefix+parts[1], body)
}

func TestNotFoundNamesThePath(t *testing.T) {
	c := start(t)
	for p, want := range map[string]string{
		home + "/Documents/a%20b": strings.TrimPrefix(home, "/v1") + "/Documents/a%20b",
		"/v1/Nothing":             "/Nothing",
		"/v2/Services":            "/v2/Services",
	} {
		answer := c.send("GET", p, "")
		answer.refused(t, 404, 20404)
		require.Equal(t, "The requested resource "+want+" was not found", answer.json["message"])
	}
}

func TestWhatTheClusterCannotServeIs503(t *testing.T) {
	c := world(t)
	broken := errors.New("no leader")
	c.node.propose = func(context.Context, *fsm.Command) (*fsm.Result, error) { return nil, broken }
	answer := c.send("POST", home+"/Documents", "")
	answer.refused(t, 503, 20503)
	require.Equal(t, "1", answer.Header().Get("Retry-After"))

	c.node.read = func(context.Context, objects.Bucket) (*fsm.View, error) { return nil, broken }
	for _, request := range []string{"GET ", "GET /Documents", "GET /Documents/it", "GET /Lists/it/Items", "GET /Maps/it/Permissions"} {
		send(c, home, request).refused(t, 503, 20503)
	}
	c.send("GET", "/v1/Services", "").refused(t, 503, 20503)
}

// Nobody needs to be asked what is wrong with a request, if what it is for is
// known here.
func TestMalformedRequestsCostNoRead(t *testing.T) {
	c := world(t)
	c.node.read = func(context.Context, objects.Bucket) (*fsm.View, error) { return nil, errors.New("asked") }
	for _, request := range []string{"POST /Documents Data={", "POST /Maps/it/Items Key=k&Data={", "GET /Maps/it/Items?PageSize=x", "POST /Maps/it Ttl=x", "GET /Documents?PageSize=x"} {
		answer := send(c, home, request)
		require.Equal(t, 400, answer.Code, request)
	}
	send(c, home, "POST /Maps/none/Items Key=k&Data={").refused(t, 503, 20503)
}

func TestRequestThatTakesTooLongIs503(t *testing.T) {
	c := start(t, func(config *rest.Config) { config.Timeout = time.Millisecond })
	c.node.propose = func(ctx context.Context, _ *fsm.Command) (*fsm.Result, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c.send("POST", home+"/Documents", "").refused(t, 503, 20503)
}

type limited struct{ time.Duration }

func (limited) Error() string                          { return "limited" }
func (l limited) RetryAfter() time.Duration            { return l.Duration }
func limitedIn(d time.Duration) (_ *fsm.View, _ error) { return nil, limited{d} }

func TestRateLimitNamesBucketAndWait(t *testing.T) {
	c := world(t)
	sid := c.get(home + "/Maps/it").json["sid"].(string)
	var asked string
	c.node.read = func(_ context.Context, bucket objects.Bucket) (*fsm.View, error) {
		asked = bucket.String()
		return limitedIn(2100 * time.Millisecond)
	}
	for p, bucket := range map[string]string{
		"/Maps/it":             "read-map-" + sid,
		"/Maps/" + sid:         "read-map-" + sid,
		"/Maps/it/Items":       "read-map-" + sid,
		"/Maps/it/Items/k":     "read-map-" + sid,
		"/Maps/it/Permissions": "read-permission-" + sid,
	} {
		answer := c.send("GET", home+p, "")
		answer.refused(t, 429, 54009)
		require.Equal(t, bucket, asked)
		require.Equal(t, "Rate limit exceeded for "+bucket, answer.json["message"])
		require.Equal(t, "3", answer.Header().Get("Retry-After"))
	}
	c.node.propose = func(context.Context, *fsm.Command) (*fsm.Result, error) {
		return &fsm.Result{Err: objects.ErrRate.With("Rate limit exceeded for write-map-%s", sid).After(7)}, nil
	}
	answer := c.send("POST", home+"/Maps/it/Items", "Key=n&Data={}")
	answer.refused(t, 429, 54009)
	require.Equal(t, "7", answer.Header().Get("Retry-After"))
}

func TestPanicIs500InTheFormOfTheAPI(t *testing.T) {
	c := start(t)
	c.node.propose = func(context.Context, *fsm.Command) (*fsm.Result, error) { panic("broken") }
	c.send("POST", home+"/Documents", "").refused(t, 500, 20500)
	c.node.propose = nil
	c.post(home + "/Documents")
	c.node.propose = func(context.Context, *fsm.Command) (*fsm.Result, error) { panic(http.ErrAbortHandler) }
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { c.send("POST", home+"/Documents", "") })
}
