package auth_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/auth"
)

func request(method string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "http://sync.test:8080/v1/Services", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestBrowsersAreNotAskedForCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		request    *http.Request
		challenged bool
	}{
		"curl":                {request("GET", "User-Agent", "curl/8.5.0"), true},
		"a helper library":    {request("GET", "User-Agent", "twilio-node/5.3.0 (linux x64) node/22"), true},
		"no name":             {request("GET"), true},
		"fetch of Node":       {request("GET", "User-Agent", "node", "Sec-Fetch-Mode", "cors"), true},
		"a page":              {request("GET", "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"), false},
		"a page, unencrypted": {request("GET", "User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"), false},
	} {
		answer := http.Header{}
		auth.Challenge(answer, test.request)
		require.Equal(t, test.challenged, answer.Get("WWW-Authenticate") == `Basic realm="Twilio API"`, name)
		require.Equal(t, test.challenged, len(answer) == 1, name)
	}
}

func TestForeignPages(t *testing.T) {
	for name, test := range map[string]struct {
		request *http.Request
		foreign bool
	}{
		"a form of another site":           {request("POST", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"), true},
		"a form of a neighbour":            {request("POST", "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate"), true},
		"a script that asks for no leave":  {request("POST", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"), true},
		"a script with credentials":        {request("POST", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"), false},
		"a link":                           {request("GET", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"), false},
		"a form of its own":                {request("POST", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate"), false},
		"a helper library":                 {request("POST"), false},
		"fetch of Node":                    {request("POST", "Sec-Fetch-Mode", "cors"), false},
		"a form, unencrypted":              {request("POST", "Origin", "http://evil.test", "Upgrade-Insecure-Requests", "1"), true},
		"a form of a file, unencrypted":    {request("POST", "Origin", "null", "Upgrade-Insecure-Requests", "1"), true},
		"a form of its own, unencrypted":   {request("POST", "Origin", "http://sync.test:8080", "Upgrade-Insecure-Requests", "1"), false},
		"a script, unencrypted":            {request("POST", "Origin", "http://app.test"), false},
		"removal by a script of elsewhere": {request("DELETE", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"), false},
	} {
		require.Equal(t, test.foreign, auth.IsForeignPage(test.request), name)
	}
}
