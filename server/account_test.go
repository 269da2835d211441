package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/bounds"
	"lockstep/server/nodedir"
)

// lines is a log that is written and read at a time.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rest does a request of the REST API and returns its status and body.
func (r *running) rest(t *testing.T, user, password, method, path string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.SetBasicAuth(user, password)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	require.NoError(t, err)
	return res.StatusCode, b.String()
}

// hello introduces a realtime client and returns the answer.
func (r *running) hello(t *testing.T, key admin.Key, service string) string {
	t.Helper()
	ws, answer := r.connect(t, key, service, nil)
	ws.Close()
	return answer
}

// connect introduces a realtime client and returns its connection and the answer.
func (r *running) connect(t *testing.T, key admin.Key, service string, header http.Header) (*websocket.Conn, string) {
	t.Helper()
	token, err := auth.Mint(auth.TokenSpec{AccountSID: testAccount.SID, KeySID: key.SID, Secret: key.Secret, Identity: "alice", ServiceSID: service}, time.Now())
	require.NoError(t, err)
	ws, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(r.url, "http")+"/v3/wsconnect", header)
	require.NoError(t, err)
	t.Cleanup(func() { ws.Close() })
	res.Body.Close()
	return ws, exchange(t, ws, `{"method":"init","id":"TM1","token":"`+token+`"}`)
}

// exchange sends a message without a payload and returns the next one.
func exchange(t *testing.T, ws *websocket.Conn, header string) string {
	t.Helper()
	require.NoError(t, ws.WriteMessage(websocket.BinaryMessage, []byte("TWILSOCK V3.0 "+itoa(len(header))+"\r\n"+header+"\r\n")))
	_, answer, err := ws.ReadMessage()
	require.NoError(t, err)
	return string(answer)
}

func TestURLsUseOriginForwardedByTrustedProxy(t *testing.T) {
	forwarded := http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"sync.example.com"}}
	for _, trusted := range []bool{true, false} {
		c := Config{DataDir: dataDir(t), Bootstrap: true, Account: testAccount}
		want := "https://sync.example.com"
		if trusted {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		s := start(t, c)
		if !trusted {
			want = s.url
		}
		s.untilReady(t)
		key, err := s.CreateKey(t.Context(), admin.NewKey{})
		require.NoError(t, err)

		req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/v1/Services/default", nil)
		require.NoError(t, err)
		req.Header = forwarded.Clone()
		req.SetBasicAuth(key.SID, key.Secret)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		var body bytes.Buffer
		_, err = body.ReadFrom(res.Body)
		res.Body.Close()
		require.NoError(t, err)
		require.Contains(t, body.String(), `"url":"`+want+"/v1/Services/IS", "REST")

		ws, _ := s.connect(t, key, "default", forwarded)
		answer := exchange(t, ws, `{"method":"message","id":"TM2","active_grant":"data_sync","http_request":{"host":"x","method":"GET","path":"/v3/Configuration"}}`)
		require.Contains(t, answer, `"subscriptions":"`+want+`/v4/Subscriptions"`, "realtime")
		ws.Close()
		s.end(t)
	}
}

func TestWhereOldClientsComeTo(t *testing.T) {
	s := start(t, Config{DataDir: dataDir(t), Bootstrap: true, Account: testAccount})
	s.untilReady(t)
	key, err := s.CreateKey(t.Context(), admin.NewKey{})
	require.NoError(t, err)
	token, err := auth.Mint(auth.TokenSpec{AccountSID: testAccount.SID, KeySID: key.SID, Secret: key.Secret, Identity: "alice", ServiceSID: "default"}, time.Now())
	require.NoError(t, err)

	// A page of another origin asks first whether it may.
	req, err := http.NewRequestWithContext(t.Context(), "OPTIONS", s.url+"/v1/token", nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, 204, res.StatusCode)
	require.Contains(t, res.Header.Get("Access-Control-Allow-Methods"), "POST")
	require.Contains(t, res.Header.Get("Access-Control-Allow-Headers"), "Content-Type")

	res, err = http.Post(s.url+"/v1/token", "application/json", strings.NewReader(`{"fpa_token":"`+token+`","continuation_token":null}`))
	require.NoError(t, err)
	defer res.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	require.NoError(t, err)
	require.Equal(t, 200, res.StatusCode, b.String())
	require.Equal(t, "*", res.Header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, b.String(), `"status":{"status":"NEW"},"identity":"alice"`)

	ws, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/v2/wsconnect?token="+token, nil)
	require.NoError(t, err)
	defer res.Body.Close()
	defer ws.Close()
	_, told, err := ws.ReadMessage()
	require.NoError(t, err)
	require.Contains(t, string(told), "TWILSOCK V3.0")
	_, _, err = ws.ReadMessage()
	require.True(t, websocket.IsCloseError(err, websocket.CloseNormalClosure), "%v", err)
}

func itoa(n int) string {
	return strings.TrimLeft(string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)}), "0")
}

// The key of an operator is good for what its role says of /cluster/, and for no data;
// keys for data are good for nothing there.
func TestKeysOfOperators(t *testing.T) {
	s := start(t, Config{DataDir: dataDir(t), Bootstrap: true, Account: testAccount, Bounds: bounds.Bounds{FailureDelay: -1}})
	s.untilReady(t)
	keys := map[string]admin.Key{}
	for _, role := range []string{"data", "viewer", "admin"} {
		k, err := s.CreateKey(t.Context(), admin.NewKey{KeyScope: admin.KeyScope{Role: role}})
		require.NoError(t, err)
		keys[role] = k
	}
	for _, bad := range []admin.KeyScope{{Role: "root"}, {Role: "viewer", ReadOnly: true}, {Role: "admin", Service: "default"}} {
		_, err := s.CreateKey(t.Context(), admin.NewKey{KeyScope: bad})
		require.ErrorIs(t, err, objects.ErrParameter, "%+v", bad)
	}
	for _, c := range []struct {
		method, path        string
		data, viewer, admin int
	}{
		{"GET", "/cluster/status", 401, 200, 200},
		{"GET", "/cluster/key", 401, 200, 200},
		{"GET", "/cluster/verify", 401, 403, 200},
		{"POST", "/cluster/snapshot", 401, 403, 204},
		{"GET", "/cluster/keys", 401, 403, 200},
		{"DELETE", "/cluster/members/nobody", 401, 403, 404},
		{"POST", "/cluster/keys", 401, 403, 403},
		{"DELETE", "/cluster/keys/" + keys["data"].SID, 401, 403, 403},
		{"POST", "/cluster/enrol", 401, 403, 403},
		{"POST", "/cluster/members", 401, 403, 403},
		{"POST", "/cluster/backup", 401, 403, 403},
		{"POST", "/cluster/account/token", 401, 403, 403},
		{"POST", "/cluster/account/promote", 401, 403, 403},
		{"DELETE", "/cluster/account/token", 401, 403, 403},
		{"GET", "/v1/Services", 200, 401, 401},
		{"POST", "/v1/Services/default/Documents", 201, 401, 401},
	} {
		for role, want := range map[string]int{"data": c.data, "viewer": c.viewer, "admin": c.admin} {
			code, body := s.rest(t, keys[role].SID, keys[role].Secret, c.method, c.path, nil)
			require.Equal(t, want, code, "%s: %s %s: %s", role, c.method, c.path, body)
		}
	}
	require.Contains(t, s.hello(t, keys["data"], "default"), `"code":200`)
	for _, role := range []string{"viewer", "admin"} {
		require.Contains(t, s.hello(t, keys[role], "default"), `"code":401`, "%s signs no tokens", role)
	}
	require.Equal(t, []string{"everything", "see status", "operate"}, []string{keys["data"].May(), keys["viewer"].May(), keys["admin"].May()})
}

func TestRestrictedKeys(t *testing.T) {
	s := start(t, Config{DataDir: dataDir(t), Bootstrap: true, Account: testAccount, Bounds: bounds.Bounds{FailureDelay: -1}})
	s.untilReady(t)
	make := func(scope admin.KeyScope) admin.Key {
		k, err := s.CreateKey(t.Context(), admin.NewKey{KeyScope: scope})
		require.NoError(t, err)
		return k
	}
	whole := make(admin.KeyScope{})
	signs, reads := make(admin.KeyScope{SignOnly: true}), make(admin.KeyScope{ReadOnly: true})
	code, body := s.rest(t, whole.SID, whole.Secret, "POST", "/v1/Services", nil)
	require.Equal(t, 201, code, body)
	i := strings.Index(body, `"IS`) + 1
	other := body[i : i+34]
	bound := make(admin.KeyScope{Service: other})
	both := make(admin.KeyScope{Service: other, ReadOnly: true})
	_, err := s.CreateKey(t.Context(), admin.NewKey{KeyScope: admin.KeyScope{SignOnly: true, ReadOnly: true}})
	require.ErrorIs(t, err, objects.ErrParameter)

	const read, write = "GET", "POST"
	for _, c := range []struct {
		key          admin.Key
		method, path string
		want         int
	}{
		{signs, read, "/v1/Services", 401},
		{signs, write, "/v1/Services/default/Documents", 401},
		{reads, read, "/v1/Services", 200},
		{reads, read, "/v1/Services/default/Documents", 200},
		{reads, write, "/v1/Services/default/Documents", 403},
		{reads, write, "/v1/Services", 403},
		{reads, "DELETE", "/v1/Services/" + other, 403},
		{bound, read, "/v1/Services", 403},
		{bound, write, "/v1/Services", 403},
		{bound, read, "/v1/Services/default", 403},
		{bound, read, "/v1/Services/nowhere", 403},
		{bound, read, "/v1/Services/default/Documents", 403},
		{bound, read, "/v1/Services/" + other, 200},
		{bound, write, "/v1/Services/" + other + "/Documents", 201},
		{bound, "DELETE", "/v1/Services/" + other, 403},
		{both, read, "/v1/Services/" + other + "/Documents", 200},
		{both, write, "/v1/Services/" + other + "/Documents", 403},
		{both, read, "/v1/Services/default", 403},
		{whole, "DELETE", "/v1/Services/" + other + "/Documents/x", 404},
	} {
		code, body := s.rest(t, c.key.SID, c.key.Secret, c.method, c.path, nil)
		require.Equal(t, c.want, code, "%s: %s %s: %s", c.key.May(), c.method, c.path, body)
		if code == 401 || code == 403 {
			require.Contains(t, body, `"code":20003`)
		}
	}
	for _, c := range []struct {
		key     admin.Key
		service string
		want    string
	}{
		{whole, "default", `"code":200`},
		{signs, "default", `"code":200`},
		{reads, "default", `"code":401`},
		{bound, other, `"code":200`},
		{bound, "default", `"code":401`},
		{both, other, `"code":401`},
	} {
		require.Contains(t, s.hello(t, c.key, c.service), c.want, "%s: token for %s", c.key.May(), c.service)
	}
	require.NoError(t, s.end(t))
}

func TestAccountChangesItsToken(t *testing.T) {
	dir := dataDir(t)
	s := start(t, Config{DataDir: dir, Bootstrap: true, Account: testAccount, Bounds: bounds.Bounds{FailureDelay: -1}})
	s.untilReady(t)
	opens := func(token string) int {
		code, _ := s.rest(t, testAccount.SID, token, "GET", "/v1/Services/default", nil)
		return code
	}
	second, err := s.AddAuthToken(t.Context())
	require.NoError(t, err)
	require.Equal(t, 200, opens(testAccount.AuthToken))
	require.Equal(t, 200, opens(second))
	require.NoError(t, s.PromoteAuthToken(t.Context()))
	require.Equal(t, 401, opens(testAccount.AuthToken))
	require.Equal(t, 200, opens(second))
	_, err = s.Keys(t.Context())
	require.ErrorIs(t, err, objects.ErrUnauthorized, "nor the operator's API")
	require.Eventually(t, func() bool {
		r, err := nodedir.Load(dir)
		return err == nil && r.AuthToken == second
	}, 20*time.Second, 20*time.Millisecond, "the directory follows")
	require.NoError(t, s.end(t))
}

func TestWhatAnOperatorShouldKnowIsLogged(t *testing.T) {
	log := new(lines)
	s := start(t, Config{
		DataDir: dataDir(t), NodeID: "one", Bootstrap: true, Account: testAccount,
		Audit: slog.New(slog.NewTextHandler(log, nil)), Bounds: bounds.Bounds{FailureDelay: time.Millisecond},
	})
	s.untilReady(t)
	key, err := s.CreateKey(t.Context(), admin.NewKey{FriendlyName: "k"})
	require.NoError(t, err)
	code, body := s.rest(t, key.SID, key.Secret, "POST", "/v1/Services", nil)
	require.Equal(t, 201, code, body)
	i := strings.Index(body, `"IS`) + 1
	service := "/v1/Services/" + body[i:i+34]
	for _, r := range []struct {
		method, path string
		form         url.Values
	}{
		{"POST", service, url.Values{"AclEnabled": {"true"}}},
		{"POST", service + "/Maps", url.Values{"UniqueName": {"m"}}},
		{"POST", service + "/Maps/m/Permissions/alice", url.Values{"Read": {"true"}, "Write": {"false"}, "Manage": {"false"}}},
		{"DELETE", service + "/Maps/m/Permissions/alice", nil},
		{"DELETE", service, nil},
	} {
		code, body := s.rest(t, key.SID, key.Secret, r.method, r.path, r.form)
		require.Less(t, code, 300, "%s %s: %s", r.method, r.path, body)
	}
	require.NoError(t, s.RevokeKey(t.Context(), key.SID))
	_, err = s.AddAuthToken(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.DropAuthToken(t.Context()))
	_, err = s.AddAuthToken(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.PromoteAuthToken(t.Context()))
	for range 20 {
		_, err = s.Keys(t.Context())
		require.ErrorIs(t, err, objects.ErrUnauthorized)
		code, _ = s.rest(t, key.SID, key.Secret, "GET", "/v1/Services", nil)
		require.Equal(t, 401, code)
	}
	require.Contains(t, s.hello(t, admin.Key{SID: key.SID, Secret: "wrong"}, "default"), `"code":401`)
	require.NoError(t, s.end(t))

	byAccount, byKey := "actor="+testAccount.SID+" source=127.0.0.1", "actor="+key.SID+" source=127.0.0.1"
	for _, want := range []string{
		`msg="key created" audit=true ` + byAccount + " key=" + key.SID,
		`msg="service created" audit=true ` + byKey, `msg="service changed" audit=true ` + byKey, `msg="service removed" audit=true ` + byKey,
		`msg="permission changed" audit=true ` + byKey, `msg="permission removed" audit=true ` + byKey, "identity=alice",
		`msg="key revoked" audit=true ` + byAccount + " key=" + key.SID,
		`msg="second auth token added" audit=true ` + byAccount, `msg="second auth token dropped" audit=true ` + byAccount, `msg="second auth token promoted" audit=true ` + byAccount,
		`level=WARN msg="wrong credentials" audit=true count=`, "operator 127.0.0.1 ×", "rest 127.0.0.1 ×", "realtime 127.0.0.1 ×",
	} {
		require.Contains(t, log.String(), want)
	}
	require.LessOrEqual(t, strings.Count(log.String(), "wrong credentials"), 5, "at most a line a second")
	for _, secret := range []string{key.Secret, testAccount.AuthToken} {
		require.NotContains(t, log.String(), secret)
	}
}

func TestWeakTokenMakesNoCluster(t *testing.T) {
	for _, token := range []string{"a", "token1234567890", "abcabcabcabcabcabcabcabcabcabcabc"} {
		s, err := New(Config{
			DataDir: dataDir(t), HTTPAddr: "127.0.0.1:0", Bootstrap: true,
			Account: auth.Account{SID: testAccount.SID, AuthToken: token}, Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		require.ErrorContains(t, s.Run(t.Context()), "too easy to guess")
	}
	require.NoError(t, testAccount.ValidateStrength())
	require.NoError(t, auth.NewAccount().ValidateStrength())
}
