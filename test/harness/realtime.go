package harness

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/server/auth"
)

// Realtime is a connection of the realtime protocol, spoken by hand. One
// goroutine uses it.
type Realtime struct {
	Continuation string // by which the node knows the client again

	conn *websocket.Conn
	seq  int
	told []Notification // read while waiting for a reply
}

// Notification is one event, or one answer to a subscription request.
type Notification struct {
	Type        string          // event_type
	Correlation json.RawMessage // of the request; "null" if there is explicitly none
	Event       Event
}

// Event has the members of events that tests look at.
type Event struct {
	ID        uint64          `json:"id"`
	Object    string          `json:"object_sid"`
	LastEvent uint64          `json:"last_event_id"`
	ItemKey   string          `json:"item_key"`
	ItemData  json.RawMessage `json:"item_data"`
	Error     struct {
		Status int `json:"status"`
		Code   int `json:"code"`
	} `json:"error"`
}

// Token mints an access token of the default service.
func (c *Cluster) Token(identity string) string {
	c.t.Helper()
	if c.key == nil {
		key, err := c.Admin().CreateKey(c.t.Context(), admin.NewKey{FriendlyName: "tests"})
		require.NoError(c.t, err)
		c.key = &key
	}
	token, err := auth.Mint(auth.TokenSpec{
		AccountSID: c.Account.SID, KeySID: c.key.SID, Secret: c.key.Secret, Identity: identity, ServiceSID: "default",
	}, time.Now())
	require.NoError(c.t, err)
	return token
}

// Connect opens a session on a node. It fails while the node does not serve.
func Connect(ctx context.Context, nodeURL, token string) (*Realtime, error) {
	return ConnectFrom(ctx, nil, nodeURL, token)
}

// ConnectFrom is Connect from this address; nil: any.
func ConnectFrom(ctx context.Context, from net.Addr, nodeURL, token string) (*Realtime, error) {
	return introduce(ctx, from, nodeURL, map[string]any{"token": token})
}

// ConnectWith is Connect with more members in the first message.
func ConnectWith(ctx context.Context, nodeURL string, init map[string]any) (*Realtime, error) {
	return introduce(ctx, nil, nodeURL, init)
}

func introduce(ctx context.Context, from net.Addr, nodeURL string, init map[string]any) (*Realtime, error) {
	dialer := websocket.Dialer{HandshakeTimeout: 3 * time.Second, NetDialContext: (&net.Dialer{LocalAddr: from}).DialContext}
	conn, response, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(nodeURL, "http")+"/v3/wsconnect", nil)
	if err != nil {
		return nil, err
	}
	response.Body.Close()
	r := &Realtime{conn: conn}
	init["method"] = "init"
	if _, err := r.ask(init, nil); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close ends the connection. It may be called from another goroutine, to have
// one that reads come back.
func (r *Realtime) Close() { r.conn.Close() }

// Do does one request in the tunnel, and gives its status and body.
func (r *Realtime) Do(method, path string, body any) (Answer, error) {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return Answer{}, err
		}
	}
	return r.ask(map[string]any{"method": "message", "http_request": map[string]any{
		"host": "cds", "method": method, "path": path, "headers": map[string]string{"Content-Type": "application/json"},
	}}, payload)
}

// Post sends a request in the tunnel and does not read its answer. It fails when
// the node does not take it in time.
func (r *Realtime) Post(method, path string, payload []byte, patience time.Duration) error {
	r.seq++
	r.conn.SetWriteDeadline(time.Now().Add(patience))
	return r.send(map[string]any{
		"method": "message", "id": "TM" + strconv.Itoa(r.seq), "payload_size": len(payload),
		"http_request": map[string]any{
			"host": "cds", "method": method, "path": path, "headers": map[string]string{"Content-Type": "application/json"},
		},
	}, payload)
}

// Update sends a new token and does not read the answer.
func (r *Realtime) Update(token string, patience time.Duration) error {
	r.seq++
	r.conn.SetWriteDeadline(time.Now().Add(patience))
	return r.send(map[string]any{"method": "update", "id": "TM" + strconv.Itoa(r.seq), "token": token}, nil)
}

// Conn is the connection below, for tests that misbehave.
func (r *Realtime) Conn() *websocket.Conn { return r.conn }

// Follow subscribes to an object from behind an event on. The answer comes as a
// notification.
func (r *Realtime) Follow(sid, kind string, last uint64) error {
	a, err := r.Do("POST", "/v4/Subscriptions", map[string]any{
		"event_protocol_version": 4, "action": "establish", "correlation_id": r.seq,
		"requests": []any{map[string]any{"object_sid": sid, "object_type": kind, "last_event_id": last}},
	})
	if err != nil {
		return err
	}
	return a.Err()
}

// Ping sends a message that is answered, and does not read the answer. It fails
// when the node does not take it in time.
func (r *Realtime) Ping(patience time.Duration) error {
	r.seq++
	r.conn.SetWriteDeadline(time.Now().Add(patience))
	return r.send(map[string]any{"method": "ping", "id": "TM" + strconv.Itoa(r.seq)}, nil)
}

// Next waits for the next notification. An error means that the connection has
// ended, or that nothing came for so long.
func (r *Realtime) Next(patience time.Duration) (Notification, error) {
	end := time.Now().Add(patience)
	for len(r.told) == 0 {
		if _, err := r.read(end); err != nil {
			return Notification{}, err
		}
	}
	n := r.told[0]
	r.told = r.told[1:]
	return n, nil
}

type frame struct {
	Method       string `json:"method"`
	ID           string `json:"id"`
	Continuation string `json:"continuation_token"`
	Status       struct {
		Code int `json:"code"`
	} `json:"status"`
	HTTPStatus struct {
		Code int `json:"code"`
	} `json:"http_status"`
	body []byte
}

func (r *Realtime) ask(header map[string]any, payload []byte) (Answer, error) {
	r.seq++
	id := "TM" + strconv.Itoa(r.seq)
	header["id"], header["payload_size"] = id, len(payload)
	if err := r.send(header, payload); err != nil {
		return Answer{}, err
	}
	end := time.Now().Add(30 * time.Second)
	for {
		f, err := r.read(end)
		switch {
		case err != nil:
			return Answer{}, err
		case f.Method != "reply" || f.ID != id:
		case f.Status.Code != 200:
			return Answer{}, fmt.Errorf("status %d", f.Status.Code)
		default:
			r.Continuation = cmp.Or(f.Continuation, r.Continuation)
			return Answer{Status: f.HTTPStatus.Code, Body: f.body}, nil
		}
	}
}

func (r *Realtime) send(header map[string]any, payload []byte) error {
	h, err := json.Marshal(header)
	if err != nil {
		return err
	}
	return r.conn.WriteMessage(websocket.BinaryMessage, fmt.Appendf(nil, "TWILSOCK V3.0 %d\r\n%s\r\n%s", len(h), h, payload))
}

// read takes one message: notifications are put aside, and what asks for a sign
// of life gets one.
func (r *Realtime) read(end time.Time) (frame, error) {
	r.conn.SetReadDeadline(end)
	_, b, err := r.conn.ReadMessage()
	if err != nil {
		return frame{}, err
	}
	line, rest, _ := bytes.Cut(b, []byte("\r\n"))
	size, err := strconv.Atoi(string(bytes.TrimPrefix(line, []byte("TWILSOCK V3.0 "))))
	if err != nil || len(rest) < size+2 {
		return frame{}, fmt.Errorf("not a message: %.80q", b)
	}
	var f frame
	if err := json.Unmarshal(rest[:size], &f); err != nil {
		return frame{}, err
	}
	f.body = rest[size+2:]
	switch f.Method {
	case "ping":
		return f, r.send(map[string]any{"method": "reply", "id": f.ID, "status": map[string]any{"code": 200}}, nil)
	case "notification":
		return f, r.note(f.body)
	}
	return f, nil
}

func (r *Realtime) note(body []byte) error {
	var n struct {
		Type        string          `json:"event_type"`
		Correlation json.RawMessage `json:"correlation_id"`
		Event       *Event          `json:"event"`
		Events      []Event         `json:"events"`
	}
	if err := json.Unmarshal(body, &n); err != nil {
		return err
	}
	if n.Event != nil {
		n.Events = append(n.Events, *n.Event)
	}
	for _, e := range n.Events {
		r.told = append(r.told, Notification{Type: n.Type, Correlation: n.Correlation, Event: e})
	}
	return nil
}

// SID finds the SID of an object by its unique name.
func (c *REST) SID(ctx context.Context, path string) (string, error) {
	a, err := c.Get(ctx, path)
	if err != nil {
		return "", err
	}
	var o struct{ SID string }
	return o.SID, a.Decode(&o)
}

// Form makes a form of names and values.
func Form(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}
