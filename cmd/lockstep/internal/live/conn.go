package live

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	dialTime  = 5 * time.Second
	writeTime = 10 * time.Second

	// silence is how long nothing may come: a node says something every twenty
	// seconds.
	silence = 45 * time.Second

	// maxMessage is more than the largest notification has.
	maxMessage = 16 << 20
)

// conn is one connection of the realtime protocol. One goroutine uses it; close
// may be called by any.
type conn struct {
	ws     *websocket.Conn
	seq    int
	queued []message // came while an answer was waited for
}

// message is what a node sends.
type message struct {
	Method string `json:"method"`
	ID     string `json:"id"`
	Status answer `json:"status"`
	HTTP   answer `json:"http_status"`

	body []byte
}

// answer is a status as the protocol has it, in several forms.
type answer struct {
	StatusCode int    `json:"code"`      // of a reply; of an event's error the API's code
	Status     int    `json:"-"`         // of HTTP
	ErrorCode  int    `json:"errorCode"` // of the API's dictionary
	Text       string `json:"-"`
}

// UnmarshalJSON implements json.Unmarshaler: status is a word in replies and a
// number in the errors of events.
func (a *answer) UnmarshalJSON(b []byte) error {
	var raw struct {
		Code        int             `json:"code"`
		Status      json.RawMessage `json:"status"`
		ErrorCode   int             `json:"errorCode"`
		Description string          `json:"description"`
		Message     string          `json:"message"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*a = answer{StatusCode: raw.Code, ErrorCode: raw.ErrorCode, Text: raw.Message + raw.Description}
	if status, err := strconv.Atoi(string(raw.Status)); err == nil {
		a.Status, a.ErrorCode = status, raw.Code
	}
	return nil
}

// refusal makes an error of the error in an event.
func (a answer) refusal() error {
	if a.Status == http.StatusTooManyRequests || a.Status >= 500 {
		return fmt.Errorf("%d: %s", a.ErrorCode, a.Text)
	}
	return fatal{&Refusal{Status: a.Status, Code: a.ErrorCode, Message: a.Text}}
}

// connect opens a session on a node.
func connect(ctx context.Context, origin string, believed *tls.Config, token string) (*conn, error) {
	dialer := websocket.Dialer{HandshakeTimeout: dialTime, TLSClientConfig: believed, Proxy: http.ProxyFromEnvironment}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	target := "ws" + strings.TrimPrefix(strings.TrimRight(origin, "/"), "http") + "/v3/wsconnect"
	ws, response, err := dialer.DialContext(ctx, target, nil)
	if err != nil {
		if response != nil {
			err = fmt.Errorf("%s: status %d: %w", origin, response.StatusCode, err)
		}
		return nil, err
	}
	response.Body.Close()
	ws.SetReadLimit(maxMessage)
	c := &conn{ws: ws}
	m, err := c.ask(map[string]any{
		"method": "init", "token": token, "capabilities": []string{"client_update"},
		"metadata": map[string]string{"type": "sync", "sdk": "CLI"},
	}, nil)
	if err == nil {
		err = m.welcome()
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// Try opens a session on a node with a token, and closes it. A *Refusal says that the
// node does not take the token.
func Try(ctx context.Context, origin string, believed *tls.Config, token string) error {
	c, err := connect(ctx, origin, believed, token)
	if err != nil {
		if final, ok := errors.AsType[fatal](err); ok {
			return final.error
		}
		return err
	}
	c.close()
	return nil
}

// welcome returns why a session was not opened, or a token not taken.
func (m message) welcome() error {
	switch code := m.Status.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fatal{&Refusal{Status: code, Code: m.Status.ErrorCode, Message: m.Status.Text}}
	default:
		return m.later(fmt.Errorf("status %d: %s", code, m.Status.Text))
	}
}

// later makes an error of one after which the node wants to be asked later, if it
// says when.
func (m message) later(err error) error {
	var payload struct {
		Policy struct {
			Min int64 `json:"reconnect_min_ms"`
		} `json:"backoff_policy"`
	}
	if json.Unmarshal(m.body, &payload) == nil && payload.Policy.Min > 0 {
		return stayAway{err, time.Duration(payload.Policy.Min) * time.Millisecond}
	}
	return err
}

func (c *conn) close() { c.ws.Close() }

// renew sends a new token.
func (c *conn) renew(token string) error {
	m, err := c.ask(map[string]any{"method": "update", "token": token}, nil)
	if err != nil {
		return err
	}
	return m.welcome()
}

// do does one request in the tunnel and returns the body of its answer. A refusal
// is fatal unless it is one that passes.
func (c *conn) do(method, path string, body []byte) ([]byte, error) {
	m, err := c.ask(map[string]any{"method": "message", "active_grant": "data_sync", "payload_type": "application/json", "http_request": map[string]any{
		"host": "lockstep", "method": method, "path": path, "headers": map[string]string{"Content-Type": "application/json"},
	}}, body)
	if err != nil {
		return nil, err
	}
	switch status := m.HTTP.StatusCode; {
	case status >= 200 && status < 300:
		return m.body, nil
	default:
		var said struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(m.body, &said); err != nil {
			said.Message = http.StatusText(status)
		}
		return nil, m.later(answer{Status: status, ErrorCode: said.Code, Text: said.Message}.refusal())
	}
}

// ask sends a message and waits for the reply. What comes in between is kept.
func (c *conn) ask(header map[string]any, payload []byte) (message, error) {
	c.seq++
	id := "TM" + strconv.Itoa(c.seq)
	header["id"], header["payload_size"] = id, len(payload)
	if err := c.send(header, payload); err != nil {
		return message{}, err
	}
	for {
		m, err := c.receive()
		if err != nil {
			return message{}, err
		}
		if m.Method == "reply" && m.ID == id {
			return m, nil
		}
		if m.Method != "reply" {
			c.queued = append(c.queued, m)
		}
	}
}

// read returns the next message that is no reply.
func (c *conn) read() (message, error) {
	if len(c.queued) > 0 {
		m := c.queued[0]
		c.queued = c.queued[1:]
		return m, nil
	}
	for {
		m, err := c.receive()
		if err != nil || m.Method != "reply" {
			return m, err
		}
	}
}

func (c *conn) send(header map[string]any, payload []byte) error {
	h, err := json.Marshal(header)
	if err != nil {
		return err
	}
	if err := c.ws.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	return c.ws.WriteMessage(websocket.BinaryMessage, fmt.Appendf(nil, "%s %d\r\n%s\r\n%s", magic, len(h), h, payload))
}

const magic = "TWILSOCK V3.0"

// receive reads one message and acknowledges it.
func (c *conn) receive() (message, error) {
	if err := c.ws.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return message{}, err
	}
	_, b, err := c.ws.ReadMessage()
	if err != nil {
		return message{}, err
	}
	m, err := parse(b)
	if err != nil || m.Method == "reply" {
		return m, err
	}
	if err := c.send(map[string]any{
		"method": "reply", "id": m.ID, "payload_type": "application/json", "status": map[string]any{"code": 200, "status": "OK"},
	}, nil); err != nil {
		return m, err
	}
	if m.Method == "close" {
		return m, m.farewell()
	}
	return m, nil
}

// farewell is what a node's closing of the session means.
func (m message) farewell() error {
	err := fmt.Errorf("the node closed the session: status %d %s", m.Status.StatusCode, m.Status.Text)
	switch m.Status.StatusCode {
	case http.StatusNotAcceptable, http.StatusExpectationFailed:
		return fatal{err}
	case http.StatusUnauthorized:
		return fatal{&Refusal{Status: http.StatusUnauthorized, Code: m.Status.ErrorCode, Message: "the node closed the session"}}
	}
	return m.later(err)
}

var errMalformed = errors.New("what came is no message of the realtime protocol")

// parse takes a message apart.
func parse(b []byte) (m message, err error) {
	line, rest, _ := bytes.Cut(b, []byte("\r\n"))
	size, err := strconv.Atoi(strings.TrimPrefix(string(line), magic+" "))
	if err != nil || size < 0 || len(rest) < size+2 {
		return m, errMalformed
	}
	if err := json.Unmarshal(rest[:size], &m); err != nil {
		return m, errMalformed
	}
	m.body = rest[size+2:]
	return m, nil
}
