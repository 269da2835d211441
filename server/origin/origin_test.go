package origin_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/origin"
)

func TestOriginOfARequest(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	forwarded := func(proto, host string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("X-Forwarded-Proto", proto)
			r.Header.Set("X-Forwarded-Host", host)
		}
	}
	from := func(peer string) func(*http.Request) {
		return func(r *http.Request) {
			forwarded("https", "b.test, c.test")(r)
			r.RemoteAddr = peer
		}
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for name, x := range map[string]struct {
		public  string
		trusted []netip.Prefix
		change  func(*http.Request)
		want    string
	}{
		"as the client came":  {change: func(*http.Request) {}, want: "http://a.test:1"},
		"by TLS":              {change: func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, want: "https://a.test:1"},
		"IPv6":                {change: host("[::1]:80"), want: "http://[::1]:80"},
		"a stranger's word":   {change: forwarded("https", "b.test"), want: "http://a.test:1"},
		"a proxy's word":      {trusted: proxies, change: forwarded("https", "b.test, c.test"), want: "https://b.test"},
		"of a websocket":      {trusted: proxies, change: forwarded("wss", "b.test"), want: "https://b.test"},
		"of one without TLS":  {trusted: proxies, change: forwarded("WS", "b.test"), want: "http://b.test"},
		"a mapped address":    {trusted: proxies, change: from("[::ffff:10.1.2.3]:4567"), want: "https://b.test"},
		"another peer":        {trusted: proxies, change: from("11.1.2.3:4567"), want: "http://a.test:1"},
		"a peer of no kind":   {trusted: proxies, change: from("@"), want: "http://a.test:1"},
		"no valid word":       {trusted: proxies, change: forwarded("gopher", `b"`), want: "http://a.test:1"},
		"configured":          {public: "https://public.test", trusted: proxies, change: forwarded("http", "b.test"), want: "https://public.test"},
		"no host":             {change: host(""), want: "http://localhost"},
		"a host that escapes": {change: host(`a"b`), want: "http://localhost"},
		"no host, but an address": {change: func(r *http.Request) {
			at := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80}
			*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, at))
			r.Host = ""
		}, want: "http://10.0.0.1:80"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host, r.RemoteAddr = "a.test:1", "10.1.2.3:4567"
		x.change(r)
		require.Equal(t, x.want, origin.Of(r, x.public, x.trusted), name)
	}
}

func TestComplete(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "n1:8080": "http://n1:8080", "http://n1/": "http://n1", "https://n1": "https://n1",
	} {
		require.Equal(t, want, origin.Complete(text))
	}
}

func TestOriginsAreValidated(t *testing.T) {
	require.NoError(t, origin.Validate("https://sync.example.com"))
	require.NoError(t, origin.Validate("http://10.0.0.1:8080"))
	for name, text := range map[string]string{
		"none":           "",
		"no URL":         "http://a b",
		"no scheme":      "sync.example.com",
		"no host":        "https://",
		"a path":         "https://sync.example.com/x",
		"another scheme": "ftp://sync.example.com",
	} {
		require.Error(t, origin.Validate(text), name)
	}
	require.NotContains(t, origin.Validate("http://user:secret@n1").Error(), "secret")
}
