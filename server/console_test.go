package server

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
)

// console asks for something as a page of the console does, and returns the cookie
// that is set.
func (r *running) console(t *testing.T, method, path, body string, cookie *http.Cookie) (status int, answer string, set *http.Cookie) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("X-Lockstep-Console", "1")
	if cookie != nil {
		req.AddCookie(cookie)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	for _, c := range res.Cookies() {
		set = c
	}
	return res.StatusCode, string(b), set
}

func TestConsoleOfANode(t *testing.T) {
	n := start(t, Config{DataDir: dataDir(t), NodeID: "n1", Bootstrap: true, Account: testAccount})
	n.untilReady(t)
	status, page, _ := n.console(t, "GET", "/console/", "", nil)
	require.Equal(t, 200, status)
	require.Contains(t, page, "js/main.js")

	key, err := n.CreateKey(t.Context(), admin.NewKey{FriendlyName: "test"})
	require.NoError(t, err)
	status, answer, cookie := n.console(t, "POST", "/console/api/session", `{"Key":"`+key.SID+`","Secret":"`+key.Secret+`"}`, nil)
	require.Equal(t, 200, status, answer)
	status, answer, _ = n.console(t, "GET", "/console/api/v1/Services/default", "", cookie)
	require.Equal(t, 200, status, answer)
	status, answer, _ = n.console(t, "GET", "/console/api/overview", "", cookie)
	require.Equal(t, 200, status, answer)
	require.Contains(t, answer, `"role":"leader"`)
	status, answer, _ = n.console(t, "GET", "/console/api/cluster/status", "", cookie)
	require.Equal(t, 401, status, "a key for data is none for operators: %s", answer)
	status, _, _ = n.console(t, "GET", "/v1/Services/default", "", cookie)
	require.Equal(t, 401, status, "the cookie is for the console alone")

	require.NoError(t, n.RevokeKey(t.Context(), key.SID))
	status, _, _ = n.console(t, "GET", "/console/api/session", "", cookie)
	require.Equal(t, 401, status)
	require.NoError(t, n.end(t))
}

func TestConsoleIsWhereOperatorsAre(t *testing.T) {
	n := start(t, Config{DataDir: dataDir(t), NodeID: "n1", Bootstrap: true, Account: testAccount, AdminAddr: "127.0.0.1:0"})
	n.untilReady(t)
	status, _, _ := n.console(t, "GET", "/console/", "", nil)
	require.Equal(t, 404, status)
	n.url = n.operators
	status, _, _ = n.console(t, "GET", "/console/", "", nil)
	require.Equal(t, 200, status)
	status, answer, cookie := n.console(t, "POST", "/console/api/session", `{"Key":"`+testAccount.SID+`","Secret":"`+testAccount.AuthToken+`"}`, nil)
	require.Equal(t, 200, status, answer)
	status, answer, _ = n.console(t, "GET", "/console/api/v1/Services/default", "", cookie)
	require.Equal(t, 200, status, answer)
	require.NoError(t, n.end(t))
}

func TestConsoleIsLeftOut(t *testing.T) {
	n := start(t, Config{DataDir: dataDir(t), NodeID: "n1", Bootstrap: true, Account: testAccount, NoConsole: true})
	n.untilReady(t)
	status, _, _ := n.console(t, "GET", "/console/", "", nil)
	require.Equal(t, 401, status, "as for every path of operators that there is not")
	require.NoError(t, n.end(t))
}
