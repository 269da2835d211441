package plain

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// verdict is what is said of the bytes that have arrived.
type verdict uint8

const (
	incomplete verdict = iota // they may be the beginning of a plain request
	whole                     // they begin with a plain request
	other                     // they are net/http's
)

// maxLines bounds the lines of a header.
const maxLines = 32

// request is the request of a connection. It remembers the lines of the last
// one's header, most of which will come again.
type request struct {
	prefix []byte
	except [][]byte
	http   *http.Request
	url    url.URL
	body   Body

	lines  []line
	values []string // of the lines; those of the header are slices of it
	length int      // of the body, as the header says
}

// line is one of a header.
type line struct {
	raw  string
	key  string
	rule rule
}

// rule is what a header's name asks for.
type rule uint8

const (
	ordinary rule = iota
	isHost
	isLength
	isConnection
	isOthers // net/http deals with the request
)

var rules = map[string]rule{
	"Host": isHost, "Content-Length": isLength, "Connection": isConnection,
	"Transfer-Encoding": isOthers, "Trailer": isOthers, "Te": isOthers, "Upgrade": isOthers, "Expect": isOthers,
	"Http2-Settings": isOthers, "Pragma": isOthers,
}

func newRequest(c *conn) *request {
	r := &request{
		prefix: []byte(c.server.Prefix),
		except: c.server.excepted,
		lines:  make([]line, 0, 12),
		http:   &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, 12), RemoteAddr: c.net.RemoteAddr().String()},
	}
	r.http.URL = &r.url
	return r
}

// renew gives the request a context.
func (r *request) renew(ctx context.Context) { r.http = r.http.WithContext(ctx) }

// endOfHead ends the lines of a header.
var endOfHead = []byte("\r\n\r\n")

// parse reads a request from the beginning of b, and returns its size. What the
// request refers to of b is its body.
func (r *request) parse(b []byte) (v verdict, size int) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return incomplete, 0
	}
	method, target, ok := r.requestLine(b[:end+1])
	if !ok {
		return other, 0
	}
	head := bytes.Index(b, endOfHead)
	if head < 0 {
		return incomplete, 0
	}
	if !r.header(b[end+1 : head+2]) {
		return other, 0
	}
	size = head + len(endOfHead)
	switch n := r.length; {
	case n > 0 && method != http.MethodPost, size+n > largeBuffer:
		return other, 0
	case n > len(b)-size:
		return incomplete, 0
	}
	if !r.target(target) {
		return other, 0
	}
	r.http.Method, r.http.ContentLength, r.http.Body = method, int64(r.length), http.NoBody
	if r.length > 0 {
		r.body = Body{rest: b[size : size+r.length]}
		r.http.Body = &r.body
	}
	return whole, size + r.length
}

var methods = []string{http.MethodGet, http.MethodPost, http.MethodDelete}

// requestLine reads the first line.
func (r *request) requestLine(b []byte) (method string, target []byte, ok bool) {
	b, ok = bytes.CutSuffix(b, []byte(" HTTP/1.1\r\n"))
	if !ok {
		return "", nil, false
	}
	for _, m := range methods {
		if len(b) > len(m) && string(b[:len(m)]) == m && b[len(m)] == ' ' {
			target = b[len(m)+1:]
			return m, target, bytes.HasPrefix(target, r.prefix) && bytes.IndexByte(target, ' ') < 0 && !r.isExcepted(target)
		}
	}
	return "", nil, false
}

// isExcepted reports whether a target is net/http's.
func (r *request) isExcepted(target []byte) bool {
	for _, part := range r.except {
		if bytes.Contains(target, part) {
			return true
		}
	}
	return false
}

// target sets the URL.
func (r *request) target(b []byte) bool {
	if r.http.RequestURI == string(b) {
		return true // with the same URL as the last time
	}
	text := string(b)
	if path, query, asked := strings.Cut(text, "?"); consistsOf(path, &pathBytes) && asked == (query != "") && consistsOf(query, &queryBytes) {
		r.url = url.URL{Path: path, RawQuery: query}
	} else {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			return false
		}
		r.url = *u
	}
	r.http.RequestURI = text
	return true
}

var (
	pathBytes  = bytesOf("-._~/$&+:=@", "09", "az", "AZ") // that stand for themselves
	queryBytes = bytesOf("-._~/$&+:=@%", "09", "az", "AZ")
	hostBytes  = bytesOf("-._:[]", "09", "az", "AZ")
	tokenBytes = bytesOf("!#$%&'*+-.^_`|~", "09", "az", "AZ")
)

func consistsOf(text string, set *[256]bool) bool {
	for i := range len(text) {
		if !set[text[i]] {
			return false
		}
	}
	return true
}

func bytesOf(single string, spans ...string) (t [256]bool) {
	for i := range len(single) {
		t[single[i]] = true
	}
	for _, s := range spans {
		for c := int(s[0]); c <= int(s[1]); c++ {
			t[c] = true
		}
	}
	return t
}

// header reads the lines of a header, each of which ends with CRLF. As a rule the
// last request had the same names in the same order, and mostly the same values.
func (r *request) header(b []byte) bool {
	n, alike := 0, true
	for ; len(b) > 0; n++ {
		end := bytes.IndexByte(b, '\n') + 1
		raw := b[:end]
		b = b[end:]
		known := n < len(r.lines)
		if known && r.lines[n].raw == string(raw) {
			continue
		}
		l, value, ok := readLine(raw)
		if !ok || n == maxLines {
			return false
		}
		if known && r.lines[n].key == l.key {
			r.lines[n], r.values[n] = l, value
			if !r.follow(n) {
				return false
			}
			continue
		}
		alike = false
		r.lines, r.values = append(r.lines[:n], l), append(r.values[:n], value)
	}
	if alike && n == len(r.lines) {
		return r.http.Host != ""
	}
	r.lines, r.values = r.lines[:n], r.values[:n]
	return r.rebuild()
}

// rebuild makes the header of the lines. The same name twice is net/http's.
func (r *request) rebuild() bool {
	clear(r.http.Header)
	r.length, r.http.Host = 0, ""
	for n, l := range r.lines {
		if _, twice := r.http.Header[l.key]; twice || l.rule == isHost && r.http.Host != "" || !r.follow(n) {
			return false
		}
		if l.rule != isHost {
			r.http.Header[l.key] = r.values[n : n+1 : n+1]
		}
	}
	return r.http.Host != ""
}

// follow does what a line's name asks for.
func (r *request) follow(n int) bool {
	value := r.values[n]
	switch r.lines[n].rule {
	case isHost:
		r.http.Host = value
		return value != "" && consistsOf(value, &hostBytes)
	case isLength:
		length, err := strconv.ParseUint(value, 10, 16)
		r.length = int(length)
		return err == nil && value[0] != '+'
	case isConnection:
		return strings.EqualFold(value, "keep-alive") // which goes without saying
	case isOthers:
		return false
	}
	return true
}

// readLine reads a line of a header.
func readLine(raw []byte) (l line, value string, ok bool) {
	text, ok := strings.CutSuffix(string(raw), "\r\n")
	name, value, found := strings.Cut(text, ":")
	if !ok || !found || name == "" || !consistsOf(name, &tokenBytes) {
		return line{}, "", false
	}
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return line{}, "", false
		}
	}
	key := textproto.CanonicalMIMEHeaderKey(name)
	return line{raw: string(raw), key: key, rule: rules[key]}, value, true
}

// Body is the body of a plain request, which has arrived.
type Body struct{ rest []byte }

// Bytes returns what has not been read. It is good until the request is answered.
func (b *Body) Bytes() []byte { return b.rest }

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *Body) Close() error { return nil }
