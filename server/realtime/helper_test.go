package realtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/auth"
	"lockstep/server/realtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a node with the endpoint under test, reached through pipes, in
// virtual time: waiting costs nothing, and a test that would have to wait for
// ever fails.
type world struct {
	*testing.T
	node     *fsmtest.Node
	endpoint *realtime.Server
	pipes    *pipes
	stop     func()
}

// inWorld runs a test. change, which may be nil, sets up the endpoint.
func inWorld(t *testing.T, change func(*realtime.Config), test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		defer w.stop()
		test(w)
	})
}

type keyring struct{ view func() *fsm.View }

func (k keyring) Account() (sid string, tokens []string) {
	sid, _ = k.view().Account()
	return sid, k.view().AuthTokens()
}

func (k keyring) Key(keySID string) (auth.Key, bool) {
	sid, ok := objects.ParseSID(keySID)
	if !ok {
		return auth.Key{}, false
	}
	key, ok := k.view().Key(sid)
	if !ok {
		return auth.Key{}, false
	}
	return auth.Key{Secret: key.Secret, Scope: key.KeyScope}, true
}

func newWorld(t *testing.T, change func(*realtime.Config)) *world {
	w := &world{T: t, node: fsmtest.New(nil), pipes: &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}}
	ready := make(chan struct{})
	close(ready)
	config := realtime.Config{
		API: api.New(w.node), Node: w.node, Feed: w.node.FSM().Feed(), Keyring: keyring{w.node.View},
		NodeURL: "http://node", Ready: ready, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&config)
	}
	w.endpoint = realtime.New(config)
	server := &http.Server{Handler: w.endpoint}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(w.pipes) })
	w.stop = func() {
		require.NoError(t, w.endpoint.Close())
		server.Close()
		serving.Wait()
	}
	return w
}

// pipes is a network of one listener.
type pipes struct {
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.accept <- server
	return client, nil
}

// token mints an access token; change may be nil.
func (w *world) token(identity string, change func(*auth.TokenSpec)) string {
	spec := auth.TokenSpec{
		AccountSID: fsmtest.AccountSID, KeySID: fsmtest.KeySID.String(), Secret: fsmtest.KeySecret,
		Identity: identity, ServiceSID: fsmtest.Service.String(),
	}
	if change != nil {
		change(&spec)
	}
	text, err := auth.Mint(spec, time.Now())
	require.NoError(w, err)
	return text
}

func lifetime(d time.Duration) func(*auth.TokenSpec) {
	return func(s *auth.TokenSpec) { s.Lifetime = d }
}

// client speaks the protocol by hand.
type client struct {
	*world
	ws       *websocket.Conn
	writing  sync.Mutex
	messages chan got
	reading  sync.WaitGroup
	notes    []got // notifications that were read while waiting for a reply
	seq      int
	form     int           // event protocol version that it asks for
	held     chan struct{} // full by holdUp: nothing is read from the socket
	ended    int           // close code of the websocket, -1 for a plain end of the connection
}

// got is a message from the server.
type got struct {
	Method      string          `json:"method"`
	ID          string          `json:"id"`
	Status      status          `json:"status"`
	HTTPStatus  *status         `json:"http_status"`
	PayloadSize int             `json:"payload_size"`
	Type        string          `json:"message_type"`
	header      json.RawMessage // all of it
	body        []byte
}

type status struct {
	Code      int    `json:"code"`
	Status    string `json:"status"`
	ErrorCode int    `json:"errorCode"`
}

// note is the content of a notification.
type note struct {
	EventType   string          `json:"event_type"`
	Correlation json.RawMessage `json:"correlation_id"`
	Version     int             `json:"event_protocol_version"`
	Event       *event          `json:"event"`
	Events      []event         `json:"events"`
}

type event struct {
	ID          uint64          `json:"id"`
	Object      string          `json:"object_sid"`
	LastEventID uint64          `json:"last_event_id"`
	ItemKey     string          `json:"item_key"`
	ItemIndex   int             `json:"item_index"`
	ItemData    json.RawMessage `json:"item_data"`
	ItemURL     string          `json:"item_url"`
	Document    json.RawMessage `json:"document_data"`
	Message     json.RawMessage `json:"message_data"`
	Error       struct {
		Status int `json:"status"`
		Code   int `json:"code"`
	} `json:"error"`
	Items []struct {
		Key string `json:"key"`
	} `json:"items"`
}

// slowly is dial for a client that reads so many bytes a second.
func (p *pipes) slowly(rate int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := p.dial(ctx, network, addr)
		return slow{conn, rate}, err
	}
}

type slow struct {
	net.Conn
	rate int
}

func (c slow) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// dial connects without introducing itself.
func (w *world) dial() *client { return w.dialPath(realtime.Path) }

func (w *world) dialPath(path string) *client { return w.dialTo(path, w.pipes.dial) }

func (w *world) dialBy(dial func(context.Context, string, string) (net.Conn, error)) *client {
	return w.dialTo(realtime.Path, dial)
}

func (w *world) dialTo(path string, dial func(context.Context, string, string) (net.Conn, error)) *client {
	dialer := websocket.Dialer{NetDialContext: dial}
	ws, _, err := dialer.Dial("ws://node.example"+path, nil)
	require.NoError(w, err)
	c := &client{world: w, ws: ws, form: 4, messages: make(chan got, 10_000), held: make(chan struct{}, 1)}
	c.reading.Go(c.read)
	w.Cleanup(func() { ws.Close() })
	return c
}

func (c *client) read() {
	defer close(c.messages)
	for {
		c.held <- struct{}{}
		<-c.held
		kind, b, err := c.ws.ReadMessage()
		if err != nil {
			c.ended = -1
			var closed *websocket.CloseError
			if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
				c.ended = closed.Code
			}
			c.ws.Close()
			return
		}
		c.messages <- c.parse(kind, b)
	}
}

func (c *client) parse(kind int, b []byte) (m got) {
	require.Equal(c, websocket.BinaryMessage, kind)
	line, rest, ok := bytes.Cut(b, []byte("\r\n"))
	require.True(c, ok)
	size, err := strconv.Atoi(string(bytes.TrimPrefix(line, []byte("TWILSOCK V3.0 "))))
	require.NoError(c, err)
	m.header = rest[:size]
	require.NoError(c, json.Unmarshal(m.header, &m))
	require.Equal(c, "\r\n", string(rest[size:size+2]))
	m.body = rest[size+2:]
	require.Len(c, m.body, m.PayloadSize)
	require.NotContains(c, string(m.header)+string(m.body), "\r\n")
	require.NotEmpty(c, m.ID)
	return m
}

// encode makes a message of header members and a payload.
func encode(header map[string]any, payload string) []byte {
	header["payload_size"] = len(payload)
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, "TWILSOCK V3.0 %d\r\n%s\r\n%s", len(h), h, payload)
}

func (c *client) send(header map[string]any, payload string) {
	c.raw(encode(header, payload))
}

func (c *client) raw(b []byte) {
	require.NoError(c, c.write(b))
}

func (c *client) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.ws.WriteMessage(websocket.BinaryMessage, b)
}

// next waits for the next message, at most two minutes of virtual time.
func (c *client) next() (got, bool) {
	select {
	case m, ok := <-c.messages:
		return m, ok
	case <-time.After(2 * time.Minute):
		require.FailNow(c, "nothing came")
		return got{}, false
	}
}

// ask sends a message and waits for its reply.
func (c *client) ask(header map[string]any, payload string) got {
	return c.await(c.begin(header, payload))
}

// begin sends a message and returns its id.
func (c *client) begin(header map[string]any, payload string) string {
	c.seq++
	id := fmt.Sprint("TM", c.seq)
	header["id"] = id
	c.send(header, payload)
	return id
}

func (c *client) await(id string) got {
	for {
		m, ok := c.next()
		require.True(c, ok, "the connection ended while waiting for a reply")
		switch {
		case m.Method == "reply" && m.ID == id:
			return m
		default:
			c.notes = append(c.notes, m)
		}
	}
}

func (c *client) init(token string) got {
	return c.ask(map[string]any{"method": "init", "token": token, "continuation_token": nil}, "")
}

// connect returns a client that is connected.
func (w *world) connect(identity string) *client {
	c := w.dial()
	require.Equal(w, 200, c.init(w.token(identity, nil)).Status.Code)
	return c
}

func request(method, path string, headers map[string]string, params map[string]any) map[string]any {
	return map[string]any{"method": "message", "active_grant": "data_sync", "payload_type": "application/json", "http_request": map[string]any{
		"host": "cds.example", "method": method, "path": path, "headers": headers, "params": params,
	}}
}

// http asks in the tunnel and wants this status.
func (c *client) http(status int, method, path, body string) map[string]any {
	c.Helper()
	return c.answered(status, c.ask(request(method, path, nil, nil), body))
}

func (c *client) answered(status int, m got) map[string]any {
	c.Helper()
	require.Equal(c, 200, m.Status.Code)
	require.NotNil(c, m.HTTPStatus)
	require.Equal(c, status, m.HTTPStatus.Code, "%s", m.body)
	var out map[string]any
	if len(m.body) > 0 {
		require.NoError(c, json.Unmarshal(m.body, &out))
	}
	return out
}

func (c *client) create(kind string) (sid string) {
	return c.http(201, "POST", "/v3/"+kind, `{}`)["sid"].(string)
}

func (c *client) put(mapSID, key, data string) {
	c.Helper()
	m := c.ask(request("PUT", "/v3/Maps/"+mapSID+"/Items/"+key, nil, nil), `{"data":`+data+`}`)
	require.Less(c, m.HTTPStatus.Code, 300, "%s", m.body)
}

// wish is one element of a subscription request.
func wish(sid, kind string, last any) map[string]any {
	return map[string]any{"object_sid": sid, "object_type": kind, "last_event_id": last}
}

func (c *client) subscribe(correlation int, wishes ...map[string]any) {
	c.Helper()
	c.subscription("establish", correlation, wishes...)
}

func (c *client) subscription(action string, correlation int, wishes ...map[string]any) {
	c.Helper()
	body, err := json.Marshal(map[string]any{
		"event_protocol_version": c.form, "action": action, "correlation_id": correlation, "requests": wishes,
	})
	require.NoError(c, err)
	c.http(200, "POST", "/v4/Subscriptions", string(body))
}

// heard returns the next notifications, as short texts, one for each event.
func (c *client) heard(count int) (out []string) {
	c.Helper()
	for len(out) < count {
		out = append(out, brief(c.nextNote())...)
	}
	return out
}

func (c *client) nextNote() note {
	c.Helper()
	for {
		var m got
		if len(c.notes) > 0 {
			m, c.notes = c.notes[0], c.notes[1:]
		} else {
			var ok bool
			m, ok = c.next()
			require.True(c, ok, "the connection ended")
		}
		if m.Method != "notification" {
			require.Contains(c, []string{"ping", "client_update"}, m.Method, "%s", m.header)
			continue
		}
		require.Equal(c, "twilio.sync.event", m.Type)
		var n note
		require.NoError(c, json.Unmarshal(m.body, &n), "%s", m.body)
		n.check(c)
		return n
	}
}

// check holds that a notification has the form that the client asked for.
func (n *note) check(c *client) {
	c.Helper()
	require.Equal(c, c.form, n.Version)
	if c.form == 3 {
		require.NotNil(c, n.Event)
		require.Nil(c, n.Events)
		n.Events = []event{*n.Event}
		return
	}
	require.Nil(c, n.Event)
	require.NotEmpty(c, n.Events)
}

// brief writes events as "map_item_added 3 k {data} (correlation)".
func brief(n note) (out []string) {
	end := ""
	if n.Correlation != nil {
		end = " (" + string(n.Correlation) + ")"
	}
	for _, e := range n.Events {
		text := n.EventType
		switch {
		case e.Error.Status != 0:
			text += fmt.Sprintf(" %d %d", e.Error.Status, e.Error.Code)
		case n.EventType == "subscription_established", n.EventType == "live_query_updated":
			text += fmt.Sprint(" ", e.LastEventID)
			for _, i := range e.Items {
				text += " " + i.Key
			}
		case e.Object != "":
		case e.ItemData != nil && e.ID == 0:
			text += fmt.Sprintf(" %s %s", e.ItemKey, e.ItemData)
		case e.ItemData != nil:
			text += fmt.Sprintf(" %d %s %s", e.ID, e.ItemKey, e.ItemData)
		case e.Message != nil:
			text += fmt.Sprintf(" %s", e.Message)
		case e.Document != nil:
			text += fmt.Sprintf(" %d %s", e.ID, e.Document)
		default:
			text += fmt.Sprint(" ", e.ID)
		}
		out = append(out, text+end)
	}
	return out
}

// silent says that nothing but what is asked for waits, when all is done.
func (c *client) silent() {
	c.Helper()
	synctest.Wait()
	require.Empty(c, c.notes)
	require.Empty(c, c.messages)
}

// closes waits for the server to end the connection, and returns the last
// message before that and the websocket's close code.
func (c *client) closes() (last got, code int) {
	c.Helper()
	for {
		m, ok := c.next()
		if !ok {
			return last, c.ended
		}
		last = m
	}
}

// holdUp makes the client take nothing more from its socket than the message
// that it is waiting for.
func (c *client) holdUp() { c.held <- struct{}{} }

func (c *client) letGo() { <-c.held }

// until returns what is heard up to a certain event.
func (c *client) until(last string) (all []string) {
	c.Helper()
	for len(all) == 0 || all[len(all)-1] != last {
		all = append(all, c.heard(1)...)
	}
	return all
}

// metric returns the value of a counter or gauge.
func metric(w *world, metrics *prometheus.Registry, name string) float64 {
	w.Helper()
	families, err := metrics.Gather()
	require.NoError(w, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		if g := f.Metric[0].Gauge; g != nil {
			return g.GetValue()
		}
		return f.Metric[0].Counter.GetValue()
	}
	require.FailNow(w, "no metric", name)
	return 0
}
