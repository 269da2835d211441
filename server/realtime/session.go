package realtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"lockstep/cluster/slots"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/hub"
	"lockstep/server/realtime/wire"
	"lockstep/server/resource"
)

// session is one connected client. Its reader (run) owns it: it introduces the
// client, starts the requests, and waits for all of them, and for what is being
// written, before it ends. While nothing comes the session rests: it has no reader,
// and a new one goes on when something does.
type session struct {
	server  *Server
	config  *Config // the server's
	api     *api.API
	id      string                   // its own, unlike that of the client's endpoint
	source  string                   // the address that the client came from
	network netip.Addr               // of that, as it is counted
	holder  string                   // of its identity's limits; set by init
	pace    *rate.Limiter            // of its identity's requests; likewise
	place   *slots.Place[netip.Addr] // until it is introduced
	foreign bool                     // it speaks another protocol
	conn    *wire.Conn
	encoder resource.Encoder
	ctx     context.Context // ends with the session
	cancel  context.CancelFunc
	gone    chan struct{} // closed when it has ended

	// Set by init, before there is another goroutine.
	sdk      sdk
	presence *presence
	actor    fsm.Actor
	service  *objects.Service
	queue    *hub.Queue

	introduced atomic.Bool // queue is set
	closing    atomic.Bool // nothing more is served
	outgoing   outgoing
	requests   requests
	answers    answers
	refusals   refusals
	replies    int64 // from the client; the reader's, as are the next two
	following  *hub.Following
	readErr    error
	bytesOut   atomic.Int64 // to the client
	fetched    fetched
	made       made

	token token
}

func newSession(server *Server, conn *wire.Conn, origin, source string, network netip.Addr) *session {
	s := &session{
		server: server, config: &server.config, api: server.config.API,
		id: wire.NewID("CN"), source: source, network: network, conn: conn, encoder: server.config.API.Encoder(origin, resource.Realtime), gone: make(chan struct{}),
	}
	// Not below the server's, which would keep a list of all: Close cancels each.
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.requests.init(&server.workers, server.config.RequestsPerSession, server.config.SessionRequestBytes)
	s.conn.SetPace(s.ctx, server.config.SessionByteRate)
	return s
}

// run serves a client until it is gone, or rests: then it goes on in another
// goroutine. A fault in one session ends no other.
func (s *session) run() {
	resting := false
	defer func() {
		if !resting {
			s.finish()
		}
	}()
	defer s.config.Panics.Catch("session", func(error) { s.fault() })
	if !s.introduced.Load() && !s.open() {
		return
	}
	var err error
	if resting, err = s.readAll(); !resting {
		s.readErr = err // of a session that rests, nothing is this goroutine's any more
	}
}

// open introduces the client, and reports whether it is to be served.
func (s *session) open() bool {
	introduced := s.introduce()
	s.place.Leave()
	if !introduced {
		return false
	}
	s.following = s.server.hub.Follow(s.service.SID, s)
	s.token.begin(s)
	s.tell(s.config.Connected)
	if s.conn.CanRest() {
		s.conn.MayRest(s.server.pollerOfAll())
	}
	s.startWriting()
	return true
}

// finish is what comes after the last message.
func (s *session) finish() {
	defer s.server.gone(s)
	defer s.config.Panics.Catch("session", nil)
	defer s.conn.Close()
	defer s.cancel()
	s.place.Leave()
	if !s.introduced.Load() {
		return
	}
	defer s.server.leave(s)
	if s.following != nil {
		defer s.following.Stop()
	}
	defer s.token.end()
	defer s.tell(s.config.Disconnected)
	if !s.closing.Swap(true) && s.server.ctx.Err() == nil && !errors.Is(s.readErr, wire.ErrTooLong) {
		s.left(s.readErr)
	}
	s.cancel()
	s.requests.wait()
	s.queue.UnsubscribeAll()
	s.leave(s.readErr)
	s.answers.end(s)
}

// left counts that it was the client, or the network, that ended the connection.
func (s *session) left(err error) {
	if err == nil || wire.IsGoodbye(err) {
		s.ended(endClient)
		return
	}
	s.ended(endLost)
}

func (s *session) tell(hook func(objects.SID, fsm.Actor, string)) {
	if hook != nil {
		hook(s.service.SID, s.actor, s.id)
	}
}

// leave ends writing and says goodbye, where there is somebody to hear it.
func (s *session) leave(err error) {
	var last []byte
	switch {
	case s.conn.Finishing():
	case errors.Is(err, wire.ErrTooLong):
		last = s.ended(endTooBig)
	case wire.IsGoodbye(err):
		last = farewell()
	}
	if last == nil {
		s.conn.Close()
	}
	s.stopWriting()
	if last != nil {
		s.conn.Write(last)
	}
}

// introduce serves the first message. Nothing else is served before an init
// that succeeded, and nothing is kept that is too large for one.
func (s *session) introduce() bool {
	if s.foreign {
		s.refuse(endForeign)
		return false
	}
	s.conn.OnPing(s.fewPings())
	c := s.config
	ok, err := s.conn.Read(c.InitTimeout, int(c.InitBytes), func(m *wire.Message, err error) bool {
		switch {
		case err != nil:
			s.refuse(endMalformed)
			return false
		case m.Method != wire.MethodInit || m.Oversized:
			s.refuse(endUnauthorized)
			return false
		}
		return s.init(m)
	})
	if isTimeout(err) {
		s.refuse(endUnauthorized)
	}
	return ok
}

// fewPings lets a client that has not introduced itself send some pings, which
// are not answered.
func (s *session) fewPings() func(string) error {
	left := 16
	return func(string) error {
		if left--; left < 0 {
			return errPings
		}
		return nil
	}
}

var errPings = errors.New("too many pings")

// refuse ends the connection before there is a writer.
func (s *session) refuse(why ending) { s.last(s.ended(why)) }

// last sends the last frames before there is a writer, and gives the client a
// moment to read them.
func (s *session) last(frames []byte) {
	if s.conn.Write(frames) != nil {
		return
	}
	s.conn.Finish()
	s.conn.AwaitEnd()
}

func (s *session) init(m *wire.Message) bool {
	s.sdk, s.presence = sdkOf(m.Metadata), presenceOf(m.Tweaks)
	principal, service, refused := s.visitor().admit(s.ctx, m.Token)
	if refused == nil {
		refused = s.server.enter(s, service.SID, principal.Identity)
	}
	if refused != nil {
		s.last(append(wire.Rejection(m.ID, refused), s.ended(endRejected)...))
		return false
	}
	s.service = service
	continuation, reissued := continuationToken(m.Continuation)
	s.actor = fsm.Actor{Identity: principal.Identity, Endpoint: principal.EndpointID, Token: true}
	if s.actor.Endpoint == "" {
		// The same over the connections of one client, which gives the token back.
		s.actor.Endpoint = "EP" + hashOf(s.service.SID.String(), principal.Identity, continuation)
	}
	s.token.principal = principal
	s.queue = s.server.hub.NewQueue(principal.Identity, s.wake)
	welcome := wire.Welcome{
		Continuation: continuation, Reissued: reissued,
		// The same for one identity on any node, and another for any other.
		StorageID: hashOf(principal.AccountSID, service.SID.String(), principal.Identity),
		Account:   principal.AccountSID, Service: service.SID, Identity: principal.Identity,
	}
	s.queue.Push(welcome.Reply(m.ID))
	s.introduced.Store(true)
	return true
}

// continuationToken gives a client back the one it has, or its first.
func continuationToken(sent json.RawMessage) (text string, reissued bool) {
	const longest = 256
	if json.Unmarshal(sent, &text) == nil && text != "" && len(text) <= longest {
		return text, false
	}
	return wire.NewID("CT"), true
}

// hashOf returns 32 hexadecimal digits that stand for some texts.
func hashOf(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d/%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// smallestNotification is less than the bytes of any notification, each of which
// the client replies to once.
const smallestNotification = 64

// readAll serves messages until the session rests or the connection ends. The error
// says how that ended.
func (s *session) readAll() (resting bool, err error) {
	defer s.config.Panics.Catch("message", func(fault error) {
		s.fault()
		err = fault
	})
	alive := func() { s.conn.Expect(s.config.SilenceTimeout) }
	s.conn.OnPong(func(string) error { alive(); return nil })
	s.conn.OnPing(func(data string) error {
		alive()
		if s.charge() != nil {
			return nil // it has more pongs coming than it can be waiting for
		}
		return s.push(wire.Pong(data))
	})
	receive := s.receive
	for {
		more, err := s.conn.Read(s.config.SilenceTimeout, int(s.config.MessageBytes), receive)
		switch {
		case err == wire.ErrIdle:
			s.requests.rest()
			if s.conn.Rest(s.resume) {
				return true, nil
			}
			continue
		case isTimeout(err):
			s.silent()
		}
		if err != nil || !more {
			return false, err
		}
	}
}

// resume goes on where readAll has stopped.
func (s *session) resume() { go s.run() }

// silent is called when the client has given no sign of life for too long.
func (s *session) silent() {
	if !s.closing.Swap(true) {
		s.ended(endSilent)
	}
	s.conn.Close()
}

// receive serves one message. It reports false when the client has said goodbye.
func (s *session) receive(m *wire.Message, err error) (more bool) {
	if s.closing.Load() {
		return true // the end is on its way
	}
	if err != nil {
		s.end(endMalformed)
		return true
	}
	switch m.Method {
	case wire.MethodReply:
		if s.replies++; s.replies*smallestNotification > s.bytesOut.Load() {
			s.charge() // it replies to nothing
		}
		return true
	case wire.MethodTelemetry:
		s.charge()
		return true
	case wire.MethodMessage:
		s.request(m)
		return true
	case wire.MethodClose:
		return false
	}
	if refused := s.charge(); refused != nil {
		s.push(wire.TooMany(m.ID, time.Duration(refused.RetryAfter)*time.Second))
		return true
	}
	switch m.Method {
	case wire.MethodUpdate:
		s.update(m)
	case wire.MethodPing, wire.MethodPutCtx, wire.MethodDeleteCtx:
		s.push(wire.Reply(m.ID, 200, "OK"))
	default:
		s.push(wire.Reply(m.ID, 400, "BAD_REQUEST"))
	}
	return true
}

// push answers the client as soon as it takes its answers: until then, nothing
// more is read from it.
func (s *session) push(frame []byte) error {
	if err := s.queue.Room(s.ctx); err != nil {
		return err
	}
	s.queue.Push(frame)
	return nil
}

// end ends the session, for a reason that is told behind what waits for the
// client. It may be called from anywhere and does not block.
func (s *session) end(why ending) {
	if s.closing.Swap(true) {
		return
	}
	last := s.ended(why)
	if !s.introduced.Load() {
		s.cancel()
		s.conn.Close()
		return
	}
	s.queue.Close(last)
}

// drain ends the session without a message of the protocol, which would keep the
// client away for a while. What the client has asked for is answered before, as
// long as the context allows: the client does not ask twice. What crosses the end
// is not carried out, and fails in the application (part 3); so the end comes,
// if there is such a moment, when the client asks for nothing.
func (s *session) drain(ctx context.Context) {
	const quiet, lastMoment = 20 * time.Millisecond, 150 * time.Millisecond
	if s.introduced.Load() {
		pause := ctx
		if deadline, ok := ctx.Deadline(); ok {
			var stop context.CancelFunc
			pause, stop = context.WithDeadline(ctx, deadline.Add(-lastMoment))
			defer stop()
		}
		s.requests.idle(pause, quiet)
		s.requests.finish(ctx)
	}
	s.end(endDrained)
}

func (s *session) subscriptions() int {
	if !s.introduced.Load() {
		return 0
	}
	return s.queue.Subscriptions()
}

// sent is the end of writing: the socket broke, or the last frame is sent, or more
// waited for the client than may.
func (s *session) sent(err error) {
	overrun := s.queue.Overrun()
	if err == nil && !overrun {
		s.conn.Finish()
		return
	}
	if overrun || errors.Is(err, errSlow) || isTimeout(err) {
		why := endSlow
		if overrun {
			why = endOverrun
		}
		s.closing.Store(true)
		s.ended(why)
		s.server.metrics.slow.Inc()
		s.config.Logger.Info("slow client disconnected", "identity", s.actor.Identity, "service", s.service.SID.String())
	}
	s.abort()
}

// abort ends the session at once: the reader may be waiting for the client, or
// for room in a queue that nobody empties any more.
func (s *session) abort() {
	s.conn.Close()
	s.cancel()
}

// fault ends the session at once because of a fault of the server's own.
func (s *session) fault() {
	if !s.closing.Swap(true) {
		s.ended(endFault)
	}
	s.abort()
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// taking is how much a client takes of what waits for it.
type taking struct {
	since time.Time // of the window
	bytes int
}

// tooSlow reports, after a write of n bytes, whether much has been waiting for a
// whole window while the client took little.
func (t *taking) tooSlow(c *Config, n, waiting int) bool {
	if c.SlowRate < 0 || int64(waiting) < c.SlowBytes {
		t.since, t.bytes = time.Now(), 0
		return false
	}
	t.bytes += n
	window := time.Since(t.since)
	if window < c.SlowWindow {
		return false
	}
	slow := float64(t.bytes) < float64(c.SlowRate)*window.Seconds()
	t.since, t.bytes = time.Now(), 0
	return slow
}

// OnPanic implements hub.Follower.
func (s *session) OnPanic() { s.fault() }

// OnEvent implements hub.Follower for the session's service and API key.
func (s *session) OnEvent(e *hub.Event) (more bool) {
	switch e.Type {
	case objects.ServiceChanged:
		s.queue.Recheck()
	case objects.ServiceRemoved, objects.KeyRevoked:
		s.end(endUnauthorized)
		return false
	}
	return true
}

// OnGap implements hub.Follower.
func (s *session) OnGap(view *fsm.View) (more bool) {
	if _, ok := view.Service(fsm.Ref{SID: s.service.SID}); !ok || !s.token.holds(view) {
		s.end(endUnauthorized)
		return false
	}
	s.queue.Recheck()
	return true
}
