package webhook

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm/fsmtest"
	"lockstep/objects"
)

func TestForbiddenAddresses(t *testing.T) {
	off := offLimits{
		local:   []netip.Addr{netip.MustParseAddr("10.1.1.1")},
		members: []netip.AddrPort{netip.MustParseAddrPort("10.1.1.1:8080"), netip.MustParseAddrPort("10.1.1.2:7000"), netip.MustParseAddrPort("127.0.0.1:8081")},
	}
	for _, bad := range []string{
		"127.0.0.1:80", "127.255.0.9:80", "[::1]:80", "0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80", "[::7f00:1]:80", "[64:ff9b::7f00:1]:80",
		"[2002:7f00:1::]:80", "169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1%eth0]:80", "[fd00:ec2::254]:80", "100.100.100.200:80",
		"168.63.129.16:80", "224.0.0.1:80", "255.255.255.255:80", "[ff02::1]:80", "10.1.1.1:80", "10.1.1.2:80", "10.1.1.2:7000", "[::ffff:10.1.1.1]:1",
	} {
		require.Error(t, off.check(netip.MustParseAddrPort(bad), nil), bad)
	}
	for _, good := range []string{"93.184.215.14:443", "10.2.0.1:80", "192.168.1.1:80", "100.64.1.1:80", "[2606:2800::1]:443", "[fd12::1]:80"} {
		require.NoError(t, off.check(netip.MustParseAddrPort(good), nil), good)
	}
	allow := prefixes("127.0.0.0/8", "10.0.0.0/8")
	for _, open := range []string{"127.0.0.1:80", "[::ffff:127.0.0.1]:80", "10.1.1.1:80", "10.1.1.2:80"} {
		require.NoError(t, off.check(netip.MustParseAddrPort(open), allow), open)
	}
	for _, never := range []string{"127.0.0.1:8080", "127.9.9.9:7000", "10.1.1.1:8080", "10.1.1.1:7000", "10.1.1.2:7000", "127.0.0.1:8081", "[::ffff:127.0.0.1]:8080"} {
		require.ErrorContains(t, off.check(netip.MustParseAddrPort(never), allow), "a node of this cluster", never)
	}
}

// All spellings of a place lead to one address, which is what is looked at.
func TestAddressSpellingsAreRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	g := guard{allow: func() []netip.Prefix { return nil }, cluster: func() []string { return nil }, own: net.InterfaceAddrs}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "127.1", "2130706433", "0x7f000001", "[::ffff:7f00:1]"} {
		conn, err := g.dial(t.Context(), "tcp", host+":"+port)
		require.Error(t, err, host)
		require.Nil(t, conn)
	}
	own, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range own {
		ip := netip.MustParsePrefix(a.String()).Addr()
		_, err := g.dial(t.Context(), "tcp", net.JoinHostPort(ip.String(), port))
		require.ErrorAs(t, err, new(refused), ip)
	}
	g.allow = loopback
	conn, err := g.dial(t.Context(), "tcp", "127.0.0.1:"+port)
	require.NoError(t, err)
	conn.Close()
	g.cluster = func() []string { return []string{"localhost:" + port} }
	_, err = g.dial(t.Context(), "tcp", "127.0.0.1:"+port)
	require.ErrorContains(t, err, "a node of this cluster")
}

func TestRefusedReceiverIsNotContacted(t *testing.T) {
	r := newReceiver(t, ok)
	n := wanting(strings.Replace(r.URL, "127.0.0.1", "127.1", 1))
	other := wanting(r.URL)
	for _, node := range []*fsmtest.Node{n, other} {
		run(t, New(Config{Node: node}))
		createDocument(node, 1)
		eventually(t, "a failure", func() bool {
			d, found := firstDelivery(node)
			return found && d.Attempts == 1
		})
	}
	require.Empty(t, r.received())
}

// No part of a URL that may be secret is in a log, whatever goes wrong.
func TestLogsContainNoURLSecrets(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed.Close()
	hostile := newReceiver(t, func(int, url.Values) int { return 500 })
	at := strings.TrimPrefix(hostile.URL, "http://")
	for _, host := range []string{closed.Addr().String(), at, "no-such-host.invalid:1", "169.254.1.1", "%7fx", at + "/%SECRET"} {
		log := &bytes.Buffer{}
		n := wanting("http://SECRETuser:SECRETpassword@" + host + "/SECRETpath?token=SECRETquery#SECRETfragment")
		sid := createDocument(n, 1)
		d, found := firstDelivery(n)
		require.True(t, found)
		s := New(Config{Node: n, Allow: loopback, Logger: slog.New(slog.NewTextHandler(log, nil))})
		o := s.attempt(t.Context(), attempt{delivery: d})
		require.NotNil(t, o.retry, host)
		require.NotContains(t, log.String(), "SECRET")
		require.Contains(t, log.String(), "webhook failed")
		old := *d
		old.Created = 0
		s.attempt(t.Context(), attempt{delivery: &old})
		require.Contains(t, log.String(), "webhook given up")
		require.NotContains(t, log.String(), "SECRET")
		require.Contains(t, log.String(), fsmtest.Service.String(), sid)
		s.direct.CloseIdleConnections()
	}
}

func TestPathIsSentAsConfigured(t *testing.T) {
	var asked string
	r := newReceiver(t, ok)
	r.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { asked = req.RequestURI })
	for configured, wire := range map[string]string{
		`/a|b/c%2fd^?q={"j":1}&x=[]|#frag`: `/a|b/c%2fd^?q={"j":1}&x=[]|`,
		`/O'Brien/%20;v=1,2`:               `/O'Brien/%20;v=1,2`,
		`?a=b`:                             `/?a=b`,
		``:                                 `/`,
	} {
		require.NoError(t, objects.ValidateWebhookURL(r.URL+configured))
		n := wanting(r.URL + configured)
		createDocument(n, 1)
		d, _ := firstDelivery(n)
		service, _ := n.View().ServiceByNumber(d.Service)
		s := New(Config{Node: n, Allow: loopback})
		require.NoError(t, s.post(t.Context(), n.View(), service, d))
		require.Equal(t, wire, asked)
		s.direct.CloseIdleConnections()
	}
}
