package audit_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/audit"
)

func TestRecord(t *testing.T) {
	var b bytes.Buffer
	audit.New(slog.New(slog.NewTextHandler(&b, nil))).Record("key revoked", audit.Actor{Name: "AC1", Source: "10.0.0.9"}, "key", "SK1")
	require.Regexp(t, `msg="key revoked" audit=true actor=AC1 source=10.0.0.9 key=SK1`, b.String())
	audit.Log{}.Record("nothing", audit.Actor{})
}

func TestSource(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct{ remote, forwarded, want string }{
		{"1.2.3.4:5", "", "1.2.3.4"},
		{"1.2.3.4:5", "9.9.9.9", "1.2.3.4"},
		{"10.1.1.1:5", "9.9.9.9", "9.9.9.9"},
		{"10.1.1.1:5", "6.6.6.6, 9.9.9.9, 10.2.2.2", "9.9.9.9"},
		{"10.1.1.1:5", "", "10.1.1.1"},
		{"10.1.1.1:5", "x", "10.1.1.1"},
		{"[::ffff:10.1.1.1]:5", "fe80::1%eth0", "fe80::1"},
		{"pipe", "9.9.9.9", "pipe"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		require.Equal(t, c.want, audit.Source(r, proxies), c)
	}
}
