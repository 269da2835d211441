package source_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/source"
)

func TestOf(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"a stranger is itself, whatever it says", "192.0.2.1:5", []string{"203.0.113.9"}, "192.0.2.1"},
		{"behind a proxy", "10.0.0.1:5", []string{"203.0.113.9"}, "203.0.113.9"},
		{"what the client wrote in front does not count", "10.0.0.1:5", []string{"1.1.1.1, 203.0.113.9, 10.2.2.2"}, "203.0.113.9"},
		{"headers on several lines", "10.0.0.1:5", []string{"1.1.1.1", "203.0.113.9"}, "203.0.113.9"},
		{"nothing in front of garbage", "10.0.0.1:5", []string{"1.1.1.1, garbage"}, "10.0.0.1"},
		{"a proxy that says nothing", "10.0.0.1:5", nil, "10.0.0.1"},
		{"only proxies", "10.0.0.1:5", []string{"10.9.9.9"}, "10.9.9.9"},
		{"with a port", "10.0.0.1:5", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"mapped", "[::ffff:192.0.2.1]:5", nil, "192.0.2.1"},
		{"a network of IPv6 is one source", "[2001:db8:1:2:3:4:5:6]:5", nil, "2001:db8:1:2::"},
		{"IPv6 behind a proxy", "[fd00::1]:5", []string{"[2001:db8::7]:80"}, "2001:db8::"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		require.Equal(t, netip.MustParseAddr(c.want), source.Of(r, trusted), c.name)
	}
	require.False(t, source.Of(&http.Request{RemoteAddr: "pipe"}, trusted).IsValid())
}
