package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"time"
)

// Answer is what a server answered. The body is valid until the next request.
type Answer struct {
	Status     int
	RetryAfter time.Duration // zero: the answer has none
	Body       []byte
}

// Err returns Refused for an answer that is not 2xx.
func (a Answer) Err() error {
	if a.Status >= 200 && a.Status < 300 {
		return nil
	}
	return Refused{a.Status, string(a.Body)}
}

// HTTP is a connection over which one request is made after another, by one
// goroutine. After an error it is of no use any more.
type HTTP struct {
	host string
	conn net.Conn
	r    *bufio.Reader
	body []byte
}

// requestTimeout bounds a request, and the handshakes of a connection.
const requestTimeout = 20 * time.Second

// DialHTTP connects to an origin, http://HOST:PORT or https://HOST. trust says which
// certificates are believed; nil: those of the machine's authorities.
func DialHTTP(ctx context.Context, origin string, trust *tls.Config) (*HTTP, error) {
	conn, host, err := dial(ctx, origin, trust)
	if err != nil {
		return nil, err
	}
	return &HTTP{host: host, conn: conn, r: bufio.NewReaderSize(conn, 2048)}, nil
}

// dial connects to an origin, and returns the host to ask for.
func dial(ctx context.Context, origin string, trust *tls.Config) (net.Conn, string, error) {
	u, err := url.Parse(origin)
	if err != nil {
		return nil, "", fmt.Errorf("connect: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	port := u.Port()
	var dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = &net.Dialer{}
	switch {
	case u.Scheme == "https":
		config := trust.Clone()
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		config.NextProtos = []string{"http/1.1"}
		dialer = &tls.Dialer{Config: config}
		if port == "" {
			port = "443"
		}
	case u.Scheme != "http":
		return nil, "", fmt.Errorf("connect: %q is no origin of http or https", origin)
	case port == "":
		port = "80"
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	return conn, u.Host, err
}

// Close closes the connection.
func (c *HTTP) Close() error { return c.conn.Close() }

// Do makes a request and reads its answer. head has further header lines, each with
// its line end.
func (c *HTTP) Do(method, path, head string, body []byte) (Answer, error) {
	b := c.body[:0]
	b = append(append(append(append(b, method...), ' '), path...), " HTTP/1.1\r\nHost: "...)
	b = append(append(append(b, c.host...), "\r\n"...), head...)
	if body != nil {
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	b = append(append(b, "\r\n"...), body...)
	c.body = b
	if err := c.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return Answer{}, err
	}
	if _, err := c.conn.Write(b); err != nil {
		return Answer{}, err
	}
	return c.answer()
}

var errAnswer = errors.New("not an answer of HTTP/1.1")

func (c *HTTP) answer() (a Answer, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return Answer{}, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return Answer{}, errAnswer
	}
	if a.Status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return Answer{}, errAnswer
	}
	size, chunked := -1, false
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return Answer{}, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			size, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Retry-After")):
			var seconds int
			seconds, err = strconv.Atoi(string(value))
			a.RetryAfter = time.Duration(seconds) * time.Second
		}
		if err != nil {
			return Answer{}, errAnswer
		}
	}
	c.body = c.body[:0]
	switch {
	case a.Status == 204:
	case chunked:
		err = c.chunks()
	case size >= 0:
		err = c.read(size)
	default:
		err = errAnswer
	}
	a.Body = c.body
	return a, err
}

// chunks reads a body that comes in chunks.
func (c *HTTP) chunks() error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return errAnswer
		}
		if err := c.read(int(size)); err != nil {
			return err
		}
		if _, err := c.r.Discard(len("\r\n")); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

// read appends so many bytes to the body.
func (c *HTTP) read(size int) error {
	if size > 64<<20 {
		return errAnswer
	}
	at := len(c.body)
	if cap(c.body) < at+size {
		c.body = append(make([]byte, 0, 2*at+size), c.body...)
	}
	c.body = c.body[:at+size]
	_, err := io.ReadFull(c.r, c.body[at:])
	return err
}
