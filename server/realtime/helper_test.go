package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// node is a cluster of one whose answers can be kept back or refused.
type node struct {
	*fsmtest.Node

	mu      sync.Mutex
	answer  chan struct{} // Propose applies, then waits until this is closed; nil: answers at once
	failure error         // of Read
}

func (n *node) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	r, err := n.Node.Propose(ctx, c)
	n.mu.Lock()
	answer := n.answer
	n.mu.Unlock()
	if answer != nil {
		select {
		case <-answer:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return r, err
}

func (n *node) Read(ctx context.Context, bucket string) (*fsm.View, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failure != nil {
		return nil, n.failure
	}
	return n.Node.Read(ctx, bucket)
}

// keepAnswers has the results of commands kept back until release is called.
func (n *node) keepAnswers() (release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	answer := make(chan struct{})
	n.answer = answer
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.answer = nil
		close(answer)
	}
}

func (n *node) failReads(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failure = err
}

// Account and Secret implement auth.Keyring.
func (n *node) Account() (sid, token string) { return n.View().Account() }

func (n *node) Secret(keySID string) (string, bool) {
	sid, _ := objects.ParseSID(keySID)
	key, ok := n.View().Key(sid)
	if !ok {
		return "", false
	}
	return key.Secret, true
}

// rig is a server that clients can connect to.
type rig struct {
	t      testing.TB
	node   *node
	server *Server
	pipes  *pipes
	url    string
}

// start serves until the test ends.
func start(t testing.TB, configure ...func(*Config)) *rig {
	n := &node{Node: fsmtest.New(nil)}
	ready := make(chan struct{})
	close(ready)
	config := Config{
		API: api.New(n), Node: n, Feed: n.FSM().Feed(), Keyring: n,
		NodeURL: "http://node", Ready: ready, Metrics: prometheus.NewRegistry(),
	}
	for _, f := range configure {
		f(&config)
	}
	r := &rig{t: t, node: n, server: New(config), pipes: newPipes()}
	web := httptest.NewServer(r.server)
	r.url = "ws" + strings.TrimPrefix(web.URL, "http")
	piped := httptest.NewUnstartedServer(r.server)
	piped.Listener.Close()
	piped.Listener = r.pipes
	piped.Start()
	t.Cleanup(func() {
		require.NoError(t, r.server.Close())
		web.Close()
		piped.Close()
	})
	return r
}

// token mints an access token of the default service.
func token(t testing.TB, identity string, change ...func(*auth.TokenSpec)) string {
	spec := auth.TokenSpec{
		AccountSID: fsmtest.AccountSID, KeySID: fsmtest.KeySID.String(), Secret: fsmtest.KeySecret,
		Identity: identity, ServiceSID: "default",
	}
	for _, f := range change {
		f(&spec)
	}
	text, err := auth.Mint(spec, time.Now())
	require.NoError(t, err)
	return text
}

// pipes is a listener of connections that hold nothing: what one end writes,
// the other must read.
type pipes struct {
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), closed: make(chan struct{})} }

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

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.accept <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// received is a frame of the server's.
type received struct {
	Method string `json:"method"`
	ID     string `json:"id"`
	Update string `json:"client_update_type"`
	Status struct {
		Code      int    `json:"code"`
		Status    string `json:"status"`
		ErrorCode int    `json:"errorCode"`
	} `json:"status"`
	HTTP struct {
		Code int `json:"code"`
	} `json:"http_status"`
	Descriptor struct {
		Account  string `json:"account_sid"`
		Identity string `json:"identity"`
	} `json:"account_descriptor"`
	Storage struct {
		Sync struct {
			ID string `json:"storage_id"`
		} `json:"data_sync"`
	} `json:"offline_storage"`

	Size    int             `json:"payload_size"`
	Payload json.RawMessage `json:"-"`
	Event   notification    `json:"-"`
}

type notification struct {
	Type        string          `json:"event_type"`
	Correlation json.RawMessage `json:"correlation_id"`
	Events      []event         `json:"events"`
	Event       struct {
		Object string           `json:"object_sid"`
		Replay string           `json:"replay_status"`
		Last   *objects.EventID `json:"last_event_id"`
		Error  struct {
			Status, Code int
		}
	} `json:"event"`
}

type event struct {
	ID       objects.EventID `json:"id"`
	Key      string          `json:"item_key"`
	Index    uint64          `json:"item_index"`
	Item     json.RawMessage `json:"item_data"`
	Document json.RawMessage `json:"document_data"`
	Message  json.RawMessage `json:"message_data"`
	URL      string          `json:"item_url"`
	Revision json.RawMessage `json:"item_revision"`
	Query    string          `json:"query_id"`
	Items    []struct {
		Key      string
		Data     json.RawMessage
		Revision objects.EventID
	} `json:"items"`
}

// parse reads a frame as a client does, independently of the server's code.
func parse(t testing.TB, b []byte) received {
	line, rest, ok := bytes.Cut(b, []byte("\r\n"))
	require.True(t, ok, "%q", b)
	n, err := strconv.Atoi(strings.TrimPrefix(string(line), "TWILSOCK V3.0 "))
	require.NoError(t, err, "%q", b)
	var r received
	require.NoError(t, json.Unmarshal(rest[:n], &r), "%q", b)
	require.Equal(t, "\r\n", string(rest[n:n+2]))
	r.Payload = rest[n+2:]
	require.Len(t, r.Payload, r.Size)
	require.NotContains(t, string(b[len(line)+2:len(b)-r.Size-2]), "\r\n")
	require.NotContains(t, string(r.Payload), "\r\n")
	if r.Method == "notification" {
		require.NoError(t, json.Unmarshal(r.Payload, &r.Event), "%s", r.Payload)
	}
	return r
}

// client is a client that speaks frames by hand.
type client struct {
	t    testing.TB
	conn *websocket.Conn
	ids  int

	mu      sync.Mutex
	frames  [][]byte
	end     error
	arrived chan struct{}

	seen int // frames that the test has looked at
}

// dial opens a websocket and reads all that comes.
func (r *rig) dial() *client {
	c := r.open(websocket.DefaultDialer)
	go c.readAll()
	return c
}

// open opens a websocket and reads nothing.
func (r *rig) open(dialer *websocket.Dialer) *client {
	conn, _, err := dialer.Dial(r.url, nil)
	require.NoError(r.t, err)
	c := &client{t: r.t, conn: conn, arrived: make(chan struct{})}
	r.t.Cleanup(func() { conn.Close() })
	return c
}

// openPipe opens a websocket over a connection that holds nothing.
func (r *rig) openPipe() *client { return r.open(&websocket.Dialer{NetDial: r.pipes.dial}) }

// connect opens a session.
func (r *rig) connect(identity string) *client {
	c := r.dial()
	require.Equal(r.t, 200, c.init(token(r.t, identity)).Status.Code)
	return c
}

func (c *client) readAll() {
	for {
		kind, b, err := c.conn.ReadMessage()
		c.mu.Lock()
		if err != nil {
			c.end = err
		} else if kind == websocket.BinaryMessage {
			c.frames = append(c.frames, b)
		}
		close(c.arrived)
		c.arrived = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// next gives the next frame that the test has not looked at.
func (c *client) next() received {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		if c.seen < len(c.frames) {
			b := c.frames[c.seen]
			c.mu.Unlock()
			c.seen++
			return parse(c.t, b)
		}
		end, arrived := c.end, c.arrived
		c.mu.Unlock()
		require.NoError(c.t, end)
		select {
		case <-arrived:
		case <-timeout:
			require.FailNow(c.t, "no frame came")
		}
	}
}

// ended waits for the end of the connection, and gives its reason.
func (c *client) ended() error {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		end, arrived := c.end, c.arrived
		c.mu.Unlock()
		if end != nil {
			return end
		}
		select {
		case <-arrived:
		case <-timeout:
			require.FailNow(c.t, "the connection did not end")
		}
	}
}

// event gives the next frame, which must be a notification of a type.
func (c *client) event(eventType string) notification {
	c.t.Helper()
	r := c.next()
	require.Equal(c.t, "notification", r.Method, "%+v", r)
	require.Equal(c.t, eventType, r.Event.Type, "%s", r.Payload)
	return r.Event
}

// reply gives the next frame, which must be the reply to id.
func (c *client) reply(id string) received {
	c.t.Helper()
	r := c.next()
	require.Equal(c.t, "reply", r.Method, "%s", r.Payload)
	require.Equal(c.t, id, r.ID)
	return r
}

// quiet makes sure that nothing is on its way: the answer to an unknown method
// comes next.
func (c *client) quiet() {
	c.t.Helper()
	require.Equal(c.t, 400, c.reply(c.send(map[string]any{"method": "quiet"}, nil)).Status.Code)
}

func encode(header map[string]any, payload []byte) []byte {
	header["payload_size"] = len(payload)
	h, _ := json.Marshal(header)
	return append(fmt.Appendf(nil, "TWILSOCK V3.0 %d\r\n%s\r\n", len(h), h), payload...)
}

// send sends a message and gives its id.
func (c *client) send(header map[string]any, payload []byte) string {
	c.t.Helper()
	c.ids++
	id := "TM" + strconv.Itoa(c.ids)
	header["id"] = id
	require.NoError(c.t, c.conn.WriteMessage(websocket.BinaryMessage, encode(header, payload)))
	return id
}

func (c *client) init(token string) received {
	c.t.Helper()
	return c.reply(c.send(map[string]any{"method": "init", "token": token}, nil))
}

// request sends a request in the tunnel. Further values are names and values of
// parameters, or of headers if the name starts with a colon.
func (c *client) request(method, path, body string, more ...string) string {
	c.t.Helper()
	params, headers := map[string]string{}, map[string]string{}
	for i := 0; i < len(more); i += 2 {
		if name, ok := strings.CutPrefix(more[i], ":"); ok {
			headers[name] = more[i+1]
		} else {
			params[more[i]] = more[i+1]
		}
	}
	return c.send(map[string]any{"method": "message", "http_request": map[string]any{
		"host": "h", "path": path, "method": method, "params": params, "headers": headers,
	}}, []byte(body))
}

// do sends a request whose reply must be the next frame.
func (c *client) do(method, path, body string, more ...string) received {
	c.t.Helper()
	return c.reply(c.request(method, path, body, more...))
}

// subscribe sends a batch of establish requests, and takes the reply.
func (c *client) subscribe(correlation int, requests ...string) {
	c.t.Helper()
	c.batch("establish", correlation, requests...)
}

func (c *client) batch(action string, correlation int, requests ...string) {
	c.t.Helper()
	body := fmt.Sprintf(`{"event_protocol_version":4,"action":%q,"correlation_id":%d,"requests":[%s]}`, action, correlation, strings.Join(requests, ","))
	require.Equal(c.t, 200, c.do("POST", "/v4/Subscriptions", body).HTTP.Code)
}

// to is a request for a subscription that knows everything up to last.
func to(o *objects.Object, last objects.EventID) string {
	return fmt.Sprintf(`{"object_sid":%q,"object_type":%q,"last_event_id":%d}`, o.SID.String(), o.Kind(), last)
}

// follow establishes a subscription to which nothing has to be replayed.
func (c *client) follow(o *objects.Object, last objects.EventID) {
	c.t.Helper()
	c.subscribe(1, to(o, last))
	require.Equal(c.t, last, *c.event("subscription_established").Event.Last)
}

// create makes an object by REST credentials.
func (r *rig) create(kind objects.Kind, name string) *objects.Object {
	var data []byte
	if kind == objects.KindDocument {
		data = []byte("{}")
	}
	made := fsm.NewID()
	return r.node.Must(&fsm.CreateObject{SID: objects.NewSID(kind, made), UniqueName: name, Data: data}).Object
}

func (r *rig) put(o *objects.Object, key, data string) objects.EventID {
	return r.node.Must(&fsm.WriteItem{
		Kind: objects.KindMap, Object: fsm.Ref{SID: o.SID}, Item: fsm.ItemKey{Key: key}, Mode: fsm.PutItem, Data: []byte(data),
	}).Object.EventID
}

func (r *rig) removeItem(o *objects.Object, key string) {
	r.node.Must(&fsm.RemoveItem{Kind: objects.KindMap, Object: fsm.Ref{SID: o.SID}, Item: fsm.ItemKey{Key: key}})
}

func (r *rig) removeObject(o *objects.Object) {
	r.node.Must(&fsm.RemoveObject{Kind: o.Kind(), Object: fsm.Ref{SID: o.SID}})
}

func (r *rig) write(o *objects.Object, data string) {
	r.node.Must(&fsm.UpdateObject{Kind: o.Kind(), Object: fsm.Ref{SID: o.SID}, Data: []byte(data)})
}

func (r *rig) publish(o *objects.Object, data string) {
	r.node.Must(&fsm.Publish{Stream: fsm.Ref{SID: o.SID}, SID: objects.NewSID(objects.KindMessage, fsm.NewID()), Data: []byte(data)})
}

func (r *rig) allow(o *objects.Object, identity string, rights objects.Rights) {
	r.node.Must(&fsm.SetPermission{Kind: o.Kind(), Object: fsm.Ref{SID: o.SID}, Identity: identity, Rights: rights})
}

func (r *rig) controlAccess() { r.node.Must(&fsm.UpdateService{ACLEnabled: new(true)}) }

// eventually waits until a condition holds.
func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, time.Millisecond)
}

// count reads a counter or gauge.
func count(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		return -1
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

func (r *rig) sessions() []*session {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return slices.Collect(maps.Keys(r.server.sessions))
}

// session gives the session of an identity whose init has been answered.
func (r *rig) session(identity string) *session {
	for _, x := range r.sessions() {
		x.outbox.mu.Lock() // as init did after it
		is := x.actor.Identity
		x.outbox.mu.Unlock()
		if is == identity {
			return x
		}
	}
	require.FailNow(r.t, "no such session")
	return nil
}
