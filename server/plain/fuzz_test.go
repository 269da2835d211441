package plain_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/plain"
)

// echo answers with all that it sees of a request. The query may ask for another
// status, for headers, and for an answer in parts.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %q %#v %s %d %d\n", r.Method, r.RequestURI, *r.URL, r.Proto, r.ProtoMajor, r.ProtoMinor)
	fmt.Fprintf(&b, "%q %d %v %v %v %v\n", r.Host, r.ContentLength, r.TransferEncoding, r.Close, r.Trailer, r.TLS)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&b, "%q: %q\n", name, r.Header[name])
	}
	fmt.Fprintf(&b, "%q %v\n", body, err)
	query := r.URL.Query()
	for i, name := range query["h"] {
		w.Header().Add(name, fmt.Sprintf(" value %d\n", i))
	}
	if query.Has("close") {
		w.Header().Set("Connection", "close")
	}
	if query.Has("typed") {
		w.Header().Set("Content-Type", "text/x")
	}
	if query.Has("length") {
		w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	}
	if status, err := strconv.Atoi(query.Get("status")); err == nil && status >= 200 && status <= 999 {
		w.WriteHeader(status)
		w.Header().Set("Too-Late", "true")
	}
	answer := b.Bytes()
	if !query.Has("length") && len(answer) > 2000 { // net/http would send chunks
		answer = answer[:2000]
	}
	if !query.Has("nothing") {
		w.Write(answer[:len(answer)/2])
		w.Write(answer[len(answer)/2:])
	}
}

// script is a connection whose other side has sent all that it will send.
type script struct {
	net.Conn // nil
	unread   []byte
	mu       sync.Mutex
	in       []byte
	piece    int // that arrives at once
	out      bytes.Buffer
	closed   chan struct{}
	once     sync.Once
}

func (s *script) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unread) > 0 {
		n := copy(b, s.unread)
		s.unread = s.unread[n:]
		return n, nil
	}
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), s.piece)], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

func (s *script) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Unread(b []byte)                  { s.unread = b }
func (s *script) Busy()                            {}
func (s *script) Idle()                            {}

// scripts is a listener of them.
type scripts struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newScripts() *scripts { return &scripts{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (l *scripts) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *scripts) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *scripts) Addr() net.Addr { return &net.TCPAddr{} }

// ask returns all that a server answers.
func (l *scripts) ask(t *testing.T, in []byte, piece int) string {
	s := &script{in: bytes.Clone(in), piece: piece, closed: make(chan struct{})}
	l.conns <- s
	select {
	case <-s.closed:
	case <-time.After(20 * time.Second):
		t.Fatalf("no end after %q", in)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return dates.ReplaceAllString(s.out.String(), "Date: now\r\n")
}

var dates = regexp.MustCompile(`Date: [^\r]*\r\n`)

func quiet() *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(echo), MaxHeaderBytes: 32 << 10, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: time.Minute,
	}
}

// pair is both servers with the same handler.
func pair(t testing.TB) (plainly, nethttp *scripts) {
	plainly, nethttp = newScripts(), newScripts()
	p := &plain.Server{Handler: http.HandlerFunc(echo), Prefix: "/v1/", Timeout: time.Minute, Other: quiet()}
	h := quiet()
	var serving sync.WaitGroup
	serving.Go(func() { p.Serve(plainly) })
	serving.Go(func() { h.Serve(nethttp) })
	t.Cleanup(func() {
		p.Close()
		h.Close()
		serving.Wait()
	})
	return plainly, nethttp
}

var (
	get  = "GET /v1/Services/a?b=c HTTP/1.1\r\nHost: x:8080\r\nAuthorization: Basic eDp5\r\nuser-agent: test\r\n\r\n"
	post = "POST /v1/Services HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\nData=1"
)

// Whatever a client sends, in whatever pieces, the answers are those of net/http.
func FuzzAnswersAreThoseOfNetHTTP(f *testing.F) {
	for _, seed := range []string{
		get, post, get + get, post + post + get, post + "\r\n" + get, post + "\r\n\r\n\r\n\r\n" + get, get + "\r\n" + get, "\r\n" + get,
		strings.Replace(get, "GET", "DELETE", 1), strings.Replace(get, "GET", "HEAD", 1) + get, strings.Replace(get, "GET", "OPTIONS", 1) + get,
		strings.Replace(get, "GET", "get", 1), strings.Replace(get, "/v1/Services", "/other", 1) + get, strings.Replace(get, "1.1", "1.0", 1) + get,
		strings.Replace(get, "\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n", 1) + get, strings.Replace(get, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1) + get,
		strings.Replace(get, "1.1", "1.0", 1), strings.Replace(get, "1.1\r\n", "1.0\r\nConnection: keep-alive\r\n", 1) + get, strings.Replace(get, "1.1", "2.0", 1), strings.Replace(get, " HTTP/1.1", "", 1),
		// Targets.
		"GET /v1/a%2Fb/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/a%2Fb|\"é HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/? HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/x?a=%zz&b+c=#d HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/a b HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/\x01 HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://y/v1/a HTTP/1.1\r\nHost: x\r\n\r\n", "GET //v1/a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/../x;y,z:@ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET  /v1/a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/a  HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/* HTTP/1.1 \r\nHost: x\r\n\r\n", "GET /v1/%E2%82%AC?x=%E2%82%AC HTTP/1.1\r\nHost: x\r\n\r\n",
		// Headers.
		strings.Replace(get, "Host: x:8080\r\n", "", 1), strings.Replace(get, "Host: x:8080", "Host: x\r\nHost: x", 1), strings.Replace(get, "x:8080", "", 1), strings.Replace(get, "x:8080", "x/y", 1), strings.Replace(get, "x:8080", "[::1]:1", 1),
		strings.Replace(get, "user-agent", "user agent", 1), strings.Replace(get, "user-agent:", "user-agent :", 1), strings.Replace(get, "user-agent: test", "no colon", 1), strings.Replace(get, "user-agent", "", 1),
		strings.Replace(get, "test", "te\x00st", 1), strings.Replace(get, "test", "te\rst", 1), strings.Replace(get, "test", "\t té\x80st \t", 1), strings.Replace(get, "test", "a\r\n b", 1), strings.Replace(get, "test", "a\nb: c", 1),
		strings.Replace(get, "test", "a\r\nX-Forwarded-For: 1\r\nx-forwarded-for: 2", 1), strings.Replace(get, "test", "a\r\nPragma: no-cache", 1), strings.Replace(get, "test", "a\r\nx_y!: 2\r\n3: 4", 1), strings.ReplaceAll(get, "\r\n", "\n"),
		" " + get, strings.Replace(get, "Host", " Host", 1), strings.Replace(get, "test", strings.Repeat("long", 5000), 1), strings.Replace(get, "test", "a\r\n"+strings.Repeat("a: b\r\n", 40)+"c: d", 1),
		strings.Replace(get, "user", "USER", 1) + get, get + strings.Replace(get, "test", "other", 1) + get, get + strings.Replace(get, "user-agent: test\r\n", "", 1) + get, get + strings.Replace(get, "user-agent", "accept", 1) + get,
		get + strings.Replace(get, "x:8080", "y", 1) + strings.Replace(get, "x:8080", "", 1) + get,
		// Bodies.
		strings.Replace(post, "6", "5", 1), strings.Replace(post, "6", "7", 1), strings.Replace(post, "6", "+6", 1), strings.Replace(post, "6", "06", 1), strings.Replace(post, "6", "6, 6", 1), strings.Replace(post, "6", "", 1), strings.Replace(post, "6", "-1", 1), strings.Replace(post, "6", "0x6", 1), strings.Replace(post, "6", "99999999999999999999", 1),
		strings.Replace(post, "Length: 6", "Length: 6\r\nContent-Length: 6", 1), strings.Replace(post, "Length: 6", "Length: 6\r\nContent-Length: 7", 1), strings.Replace(post, "Content-Length: 6\r\n", "", 1),
		strings.Replace(post, "POST", "GET", 1) + get, strings.Replace(post, "POST", "DELETE", 1) + get, strings.Replace(strings.Replace(post, "POST", "DELETE", 1), "6\r\n\r\nData=1", "0\r\n\r\n", 1) + get,
		strings.Replace(post, "Content-Length: 6\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n6\r\n", 1) + "\r\n0\r\n\r\n" + get, strings.Replace(post, "Content-Length: 6", "Content-Length: 6\r\nTransfer-Encoding: chunked", 1) + get, strings.Replace(post, "Content-Length: 6", "Transfer-Encoding: gzip", 1), strings.Replace(post, "Content-Length: 6", "Content-Length: 6\r\nTransfer-Encoding: identity", 1),
		strings.Replace(post, "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1) + get, strings.Replace(post, "\r\n\r\n", "\r\nExpect: nothing\r\n\r\n", 1), strings.Replace(post, "\r\n\r\n", "\r\nTrailer: x\r\n\r\n", 1), strings.Replace(get, "\r\n\r\n", "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 1), strings.Replace(get, "\r\n\r\n", "\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", 1),
		strings.Replace(post, "6\r\n\r\nData=1", "20000\r\n\r\n", 1) + strings.Repeat("x", 20000) + get, strings.Replace(post, "6\r\n\r\nData=1", "9000\r\n\r\n", 1) + strings.Repeat("x", 9000) + get,
		// Answers.
		"GET /v1/?status=204&h=X-A&h=b HTTP/1.1\r\nHost: x\r\n\r\n" + get, "GET /v1/?status=304&typed HTTP/1.1\r\nHost: x\r\n\r\n" + get, "GET /v1/?status=700&length HTTP/1.1\r\nHost: x\r\n\r\n" + get, "GET /v1/?close&typed&length HTTP/1.1\r\nHost: x\r\n\r\n" + get, "GET /v1/?nothing HTTP/1.1\r\nHost: x\r\n\r\n" + get,
		"GET /v1/?nothing&length HTTP/1.1\r\nHost: x\r\n\r\n" + get, "GET /v1/?h=b%20ad&h=A-B&h=A-B&status=404 HTTP/1.1\r\nHost: x\r\n\r\n" + get, "GET /v1/?h=Content-Encoding HTTP/1.1\r\nHost: x\r\n\r\n" + get,
		"", "G", "GET", get[:20], get[:len(get)-2], post[:len(post)-3], "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(seed), uint8(0))
		f.Add([]byte(seed), uint8(7))
	}
	plainly, nethttp := pair(f)
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		size := int(piece)
		if size == 0 {
			size = 1 << 20
		}
		require.Equal(t, nethttp.ask(t, in, 1<<20), plainly.ask(t, in, size), "%q", in)
	})
}
