package realtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/auth"
)

// session is one connected client. Two goroutines belong to it, the reader
// (run) and the writer (write); requests under way have one each, and the
// reader waits for all of them before it returns.
//
// Lock order: session.following, hub.mu, liveQuery.mu, session.mu.
type session struct {
	server *Server
	conn   *websocket.Conn
	ctx    context.Context // ends with the session
	cancel context.CancelFunc
	gone   chan struct{} // closed when the connection has ended

	// Set by init, before any other goroutine looks.
	actor   fsm.Actor
	service *objects.Service
	storage string
	form    api.Form

	outbox outbox

	following sync.Mutex // makes a change of subs and telling the hub of it one step
	mu        sync.Mutex
	principal auth.Principal
	timers    []*time.Timer // of the token's life
	subs      map[objects.SID]*subscription
	queries   map[string]*liveQuery
	replays   []*subscription // those that have to catch up, in turn
	ended     []objects.SID   // no longer followed: the hub is told by the writer
	detached  []*liveQuery    // likewise
	held      int             // events held back, of all subscriptions
	heldBytes int
	echo      echo
	fetched   map[objects.SID]objects.EventID // what this session knew of objects it read items of

	requests sync.WaitGroup
	slots    chan struct{}
	tails    map[uint64]chan struct{} // reader only: the last work of each key, by hash
}

func newSession(server *Server, conn *websocket.Conn, base string) *session {
	s := &session{
		server: server, conn: conn, gone: make(chan struct{}),
		form:    server.config.API.Form(base, true),
		subs:    map[objects.SID]*subscription{},
		queries: map[string]*liveQuery{},
		fetched: map[objects.SID]objects.EventID{},
		echo:    newEcho(),
		slots:   make(chan struct{}, server.config.RequestsPerSession),
		tails:   map[uint64]chan struct{}{},
	}
	conn.SetPingHandler(s.pong)
	s.outbox.init(server.config.QueueLength, server.config.QueueBytes)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// run reads until the connection ends.
func (s *session) run() {
	defer s.cancel()
	s.conn.SetReadLimit(s.server.config.MessageLimit)
	if !s.init() {
		return
	}
	s.server.hub.Join(s)
	s.verify()
	var writer sync.WaitGroup
	writer.Go(s.write)
	s.server.reachability(s, true)
	for s.readOne() {
	}
	s.cancel()
	s.outbox.close()
	s.requests.Wait()
	writer.Wait()
	s.end()
	s.server.reachability(s, false)
}

// end unsubscribes from everything.
func (s *session) end() {
	s.mu.Lock()
	for _, t := range s.timers {
		t.Stop()
	}
	subs, queries, ended := s.subs, s.queries, s.ended
	s.subs, s.queries, s.ended = map[objects.SID]*subscription{}, map[string]*liveQuery{}, nil
	s.mu.Unlock()
	for sid := range subs {
		s.server.hub.Unfollow(s, sid)
	}
	for _, sid := range ended {
		s.server.hub.Unfollow(s, sid)
	}
	for _, q := range queries {
		q.leave(s)
	}
	s.server.hub.Leave(s)
	s.server.metrics.subscriptions.Sub(float64(len(subs) + len(queries)))
}

// init serves the first message. Nothing else is served before it succeeded.
func (s *session) init() bool {
	s.conn.SetReadDeadline(time.Now().Add(s.server.config.InitTimeout))
	m, err := s.read()
	if err != nil || m.Method != "init" {
		if errors.Is(err, errMessage) {
			s.refuse(closeFrame(417, "MALFORMED"))
		} else {
			s.refuse(closeFrame(401, "UNAUTHORIZED"))
		}
		return false
	}
	principal, service, refused := s.server.admit(s.ctx, m.Token)
	if refused != nil {
		s.refuse(refusalFrame(m.ID, refused))
		return false
	}
	s.principal, s.service = principal, service
	s.actor = fsm.Actor{Identity: principal.Identity, Endpoint: principal.EndpointID, Token: true}
	if s.actor.Endpoint == "" {
		s.actor.Endpoint = randomID("TE")
	}
	sum := sha256.Sum256([]byte(principal.AccountSID + "\x00" + service.SID.String() + "\x00" + principal.Identity))
	s.storage = hex.EncodeToString(sum[:16])
	s.outbox.push(s.initReply(m.ID))
	s.watchToken()
	return true
}

// refuse writes a last frame before there is a writer.
func (s *session) refuse(frame []byte) {
	s.conn.SetWriteDeadline(time.Now().Add(s.server.config.WriteTimeout))
	c := s.conn.NetConn()
	c.Write(frame)
	c.Write(appendClose(nil, websocket.CloseNormalClosure))
}

func appendClose(b []byte, code int) []byte {
	b = appendWebsocketHeader(b, opClose, 2)
	return append(b, byte(code>>8), byte(code))
}

func (s *session) initReply(id string) []byte {
	x := []byte(`,"continuation_token":"`)
	x = append(x, s.storage...)
	x = append(x, `","continuation_token_status":{"reissued":true},"capabilities":["client_update","offline_storage","telemetry.v1"],"offline_storage":{"data_sync":{"storage_id":"`...)
	x = append(x, s.storage...)
	x = append(x, `"}},"init_registrations":[{"product":"data_sync"}],"debug_info":{},"account_descriptor":{"account_sid":"`...)
	x = append(x, s.principal.AccountSID...)
	x = append(x, `","instance_sids":{"data_sync":"`...)
	x = s.service.SID.Append(x)
	x = append(x, `"},"identity":`...)
	x = objects.AppendString(x, s.principal.Identity)
	x = append(x, '}')
	return replyFrame(id, 200, "OK", string(x), nil)
}

// refusalFrame answers a message whose token is not accepted: the client looks
// at what is inside status (parts 2.1 and 2.2).
func refusalFrame(id string, e *objects.Error) []byte {
	status := strings.ToUpper(strings.ReplaceAll(http.StatusText(e.Status), " ", "_"))
	h := append([]byte(`{"method":"reply","id":`), objects.AppendString(nil, id)...)
	h = append(h, `,"status":{"code":`...)
	h = appendInt(h, e.Status)
	h = append(h, `,"status":"`...)
	h = append(h, status...)
	h = append(h, `","description":`...)
	h = objects.AppendString(h, e.Message)
	h = append(h, `,"errorCode":`...)
	h = appendInt(h, e.Code)
	return frame(append(h, `},"payload_size":0}`...), nil)
}

// read gives the next message. Acknowledgements come as a message of method
// "reply" with nothing else.
func (s *session) read() (message, error) {
	kind, b, err := s.conn.ReadMessage()
	if err != nil {
		return message{}, err
	}
	if kind != websocket.BinaryMessage {
		return message{}, errMessage
	}
	if isAcknowledgement(b) {
		return message{header: header{Method: "reply"}}, nil
	}
	return parseMessage(b)
}

// readOne serves one message; false ends the session.
func (s *session) readOne() bool {
	s.conn.SetReadDeadline(time.Now().Add(s.server.config.SilenceTimeout))
	if s.ctx.Err() != nil {
		return s.linger(lingerTimeout)
	}
	m, err := s.read()
	if err != nil {
		if errors.Is(err, errMessage) {
			s.close(417, "MALFORMED")
			return s.linger(s.server.config.WriteTimeout)
		}
		return false
	}
	switch m.Method {
	case "reply", "telemetry.v1", "ping":
	case "message":
		s.request(m)
	case "update":
		s.start(m.Method, func(ctx context.Context) { s.update(ctx, m) })
	case "put_notification_ctx", "delete_notification_ctx":
		s.answer(m, 200, "OK")
	case "close":
		return false
	default:
		s.answer(m, 400, "BAD_REQUEST")
	}
	return true
}

// lingerTimeout is how long a client that was told to go may take.
const lingerTimeout = 2 * time.Second

// linger reads on, without serving, until the client has taken its leave:
// closing a connection that has unread input would destroy what was just
// written.
func (s *session) linger(timeout time.Duration) bool {
	s.conn.SetReadDeadline(time.Now().Add(timeout))
	for {
		if _, _, err := s.conn.ReadMessage(); err != nil {
			return false
		}
	}
}

// close sends a close message behind what waits, and ends the session.
func (s *session) close(code int, status string) {
	s.outbox.finish(closeFrame(code, status))
}

// drop closes the websocket without a message of the protocol: the client
// comes back at once, elsewhere.
func (s *session) drop() { s.outbox.finish(nil) }

// noticeGrace is how long a token that is about to expire from the start goes
// unannounced.
const noticeGrace = 500 * time.Millisecond

// watchToken sets the timers of the token's life.
func (s *session) watchToken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.timers {
		t.Stop()
	}
	left := s.principal.Expires.Sub(s.server.config.Clock())
	warn := left - s.server.config.ExpiryNotice
	if warn <= 0 {
		// At once, but not before the application can listen for it.
		warn = min(left/4, noticeGrace)
	}
	s.timers = []*time.Timer{
		time.AfterFunc(warn, func() {
			s.outbox.push(frame([]byte(`{"method":"client_update","id":"TMexpiry","client_update_type":"token_about_to_expire","payload_size":0}`), nil))
		}),
		time.AfterFunc(left, func() { s.close(410, "TOKEN_EXPIRED") }),
	}
}

// update takes a new token of the same identity and service.
func (s *session) update(ctx context.Context, m message) {
	principal, service, refused := s.server.admit(ctx, m.Token)
	if refused == nil && (principal.Identity != s.actor.Identity || service.SID != s.service.SID) {
		refused = objects.ErrTokenInvalid
	}
	if refused != nil {
		s.outbox.push(refusalFrame(m.ID, refused))
		return
	}
	s.mu.Lock()
	s.principal = principal
	s.mu.Unlock()
	s.watchToken()
	s.outbox.push(replyFrame(m.ID, 200, "OK", "", nil))
	s.verify()
}

// verify ends a session whose key or service went before the hub could tell it.
func (s *session) verify() {
	s.mu.Lock()
	key := s.principal.KeySID
	s.mu.Unlock()
	_, known := s.server.config.Keyring.Secret(key)
	_, there := s.server.config.Node.View().Service(fsm.Ref{SID: s.service.SID})
	if !known || !there {
		s.close(401, "UNAUTHORIZED")
	}
}

// unfollowEnded tells the hub of subscriptions that ended while it was telling
// this session of something.
func (s *session) unfollowEnded() {
	s.mu.Lock()
	nothing := len(s.ended) == 0 && len(s.detached) == 0
	s.mu.Unlock()
	if nothing {
		return
	}
	s.following.Lock()
	defer s.following.Unlock()
	s.mu.Lock()
	ended := slices.DeleteFunc(s.ended, func(sid objects.SID) bool { return s.subs[sid] != nil })
	detached := s.detached
	s.ended, s.detached = nil, nil
	s.mu.Unlock()
	for _, q := range detached {
		s.leaveQuery(q.id)
	}
	for _, sid := range ended {
		s.server.hub.Unfollow(s, sid)
	}
}
