package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/hub"
	"lockstep/server/ratelimit"
	"lockstep/server/realtime/wire"
	"lockstep/server/refusal"
)

// call is one request of a session that is being served.
type call struct {
	wire.Request
	target
	session *session
	begun   time.Time      // it was read
	refused *objects.Error // what it is answered with, if it is refused
	status  int            // of the answer
	turn    *turn
	done    func() // gives back what the request had under way; nil when it was called

	body          []byte
	subscriptions *subscriptionBatch // the body, decoded, if target.batch says so
	sid           objects.SID        // of the object, if the local store knew it when the request came
	command       fsm.CommandID      // of the write under way; zero for none
}

// answer is what a request is answered with.
type answer struct {
	status int
	body   func(b []byte) []byte // appends JSON; nil: there is none
	echo   hub.EchoKey           // the write's own event, which the client is not sent: the answer tells it
	after  hub.Point             // the last event that the client must hear of before
	then   func()                // is called when the answer is in the queue
}

// jsonAnswer answers with what is asked for so seldom that encoding/json may write it.
func jsonAnswer(body any) (answer, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: func(b []byte) []byte { return append(b, encoded...) }}, nil
}

// request starts a request. Requests on one object take effect, and are answered,
// in the order in which they were sent; others run side by side, as many as a
// session may have under way. Beyond that, and while the client does not take its
// answers, nothing more is read.
//
// A request that is refused for its size, or because there are too many, is
// answered without its payload being kept.
func (s *session) request(m *wire.Message) {
	c, err := s.newCall(m)
	if err != nil {
		s.push(wire.Reply(m.ID, 400, "BAD_REQUEST"))
		return
	}
	if s.queue.Room(s.ctx) != nil {
		return
	}
	if refused := s.charge(); refused != nil {
		s.turnAway(m, c, refused)
		return
	}
	if m.Oversized {
		c.do = refuseWith(objects.ErrTooLarge.With("The message has %d bytes; at most %d are allowed", m.Size, s.config.MessageBytes))
		s.start(c, func() {})
		s.discard(m)
		return
	}
	if s.requests.reserve(s.ctx, m.Size) != nil {
		return
	}
	if !s.config.RequestBytes.Take(s.holder, int64(m.Size)) {
		s.requests.release(m.Size)
		s.server.metrics.refusals.WithLabelValues("request bytes").Inc()
		s.turnAway(m, c, objects.ErrTooMany.With("Too many bytes of requests are under way").After(1))
		return
	}
	size := m.Size // the message is gone when the request is done
	done := func() {
		s.config.RequestBytes.Return(s.holder, int64(size))
		s.requests.release(size)
	}
	s.conn.Expect(s.config.SilenceTimeout) // there may have been a wait
	payload, err := m.Payload()
	if err != nil {
		done()
		s.broken(err)
		return
	}
	c.setBody(payload)
	s.start(c, done)
}

// newCall decodes the header of a request, once, and routes it.
func (s *session) newCall(m *wire.Message) (*call, error) {
	decoded, err := m.Request()
	c := &call{Request: decoded, session: s, begun: time.Now()}
	switch {
	case errors.Is(err, wire.ErrMalformed):
		return nil, err
	case err != nil:
		c.target = target{do: refuseWith(err)}
	default:
		c.target = s.route(c.Method, c.Path)
	}
	return c, nil
}

// setBody takes the body of a POST or PUT: the official client sends a payload that
// means nothing with DELETE.
func (c *call) setBody(payload []byte) {
	if c.Method != http.MethodPost && c.Method != http.MethodPut {
		return
	}
	c.body = payload
	if !c.batch {
		return
	}
	batch, err := parseSubscriptions(payload)
	if err != nil {
		c.do = refuseWith(err)
		return
	}
	c.subscriptions = batch
}

// start serves a call behind those that it has to wait for. done is called right
// before its answer is in line to be written, when nothing of the request is needed any
// more and the client may send the next one, or when it will not be answered.
func (s *session) start(c *call, done func()) {
	t := new(turn)
	t.keys, c.sid = s.orderOf(c, t.room[:0])
	c.turn, c.done = t, done
	run := func() {
		defer c.finish()
		s.serve(c)
	}
	if !s.requests.start(s.ctx, t, c.isWrite() && len(t.keys) > 0, run) {
		done()
	}
}

// finish calls done, once. Only the goroutine that serves the call uses it.
func (c *call) finish() {
	if c.done != nil {
		c.done()
		c.done = nil
	}
}

// changes reports whether the call changes an object, or makes one.
func (c *call) changes() bool {
	return c.Method != http.MethodGet && c.kind != objects.KindNone && !c.index
}

// isWrite reports whether the call changes an object.
func (c *call) isWrite() bool { return c.changes() && c.ref != (fsm.Ref{}) }

// note writes a line for a request, where the log has lines for debugging.
func (s *session) note(c *call, status int, took time.Duration) {
	if !s.config.Logger.Enabled(s.ctx, slog.LevelDebug) {
		return
	}
	code := 0
	if c.refused != nil {
		code = c.refused.Code
	}
	s.config.Logger.Debug("request", "request", c.name(), "method", c.Method, "path", "/"+strings.Join(c.Path, "/"), "status", status, "code", code,
		"took", took, "session", s.id, "identity", s.actor.Identity, "source", s.source)
}

// name is by which the client knows the request: the id that it chose, and that its
// answer has.
func (c *call) name() string {
	id := cmp.Or(c.RequestID, c.ID)
	return id[:min(len(id), maxRequestName)]
}

// maxRequestName is how much of an id that a client chose goes into the log.
const maxRequestName = 128

// turnAway answers a request at once, before any more is read.
func (s *session) turnAway(m *wire.Message, c *call, refused error) {
	s.answer(c, s.failure(c, refused))
	s.discard(m)
}

// discard passes over the payload of a message.
func (s *session) discard(m *wire.Message) {
	s.conn.Expect(s.config.SilenceTimeout)
	s.broken(m.Discard())
}

// broken ends the session when a message was shorter than it said. The next
// read meets errors of the connection again.
func (s *session) broken(err error) {
	if errors.Is(err, wire.ErrMalformed) {
		s.end(endMalformed)
	}
}

// charge charges the connection for a request, or for anything else that a
// client has the server do, when it is its identity's turn. A client that is
// refused all the time is told to stay away.
func (s *session) charge() *objects.Error {
	_ = s.pace.Wait(s.ctx) // it fails when the session is over
	c, now := s.config, s.config.Clock()
	wait := c.Limits.Take(now, 1, ratelimit.Bucket[string]{Key: s.id, Rate: c.SessionRequests})
	if wait == 0 {
		return nil
	}
	s.server.metrics.refusals.WithLabelValues("requests").Inc()
	if s.refusals.add(now) == c.FloodRefusals {
		s.end(endFlood)
	}
	s.slowDown()
	return objects.ErrTooMany.With("Rate limit exceeded for requests of this connection").After(int(wait / time.Second))
}

// slowDown has the reader wait while the sessions of its identity are refused
// more than they may be: refusing costs CPU, too, and a client that was told to
// stay away may come back at once.
func (s *session) slowDown() {
	c := s.config
	bucket := ratelimit.Bucket[string]{Key: "refusals-" + s.holder, Rate: float64(c.FloodRefusals) / refusalWindow.Seconds()}
	for !s.closing.Load() {
		wait := c.Limits.Take(c.Clock(), 1, bucket)
		if wait == 0 {
			return
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
	}
}

// refusals counts what a session was refused lately. Only the session's reader
// uses it.
type refusals struct {
	since time.Time
	count int
}

// refusalWindow is the time after which the count begins anew.
const refusalWindow = 10 * time.Second

func (r *refusals) add(now time.Time) (count int) {
	if now.Sub(r.since) >= refusalWindow {
		r.since, r.count = now, 0
	}
	r.count++
	return r.count
}

// serve carries a request out and answers it.
func (s *session) serve(c *call) {
	defer s.config.Panics.Catch("answer", func(error) { s.fault() })
	ctx, cancel := context.WithTimeout(s.ctx, s.config.RequestTimeout)
	defer cancel()
	if s.config.Trace != nil {
		var end func(int, *objects.Error)
		if ctx, end = s.config.Trace(ctx, c.Method, c.Traceparent); end != nil {
			defer func() { end(c.status, c.refused) }()
		}
	}
	a, err := s.carryOut(ctx, c)
	if err != nil {
		a = s.failure(c, s.first(ctx, c, err))
	}
	c.turn.awaitAnswers()
	s.answer(c, a)
}

// first returns the error that is answered first: a missing object or
// permission comes before a wrong parameter.
func (s *session) first(ctx context.Context, c *call, err error) error {
	status := refusal.Of(err).Status
	if c.ref == (fsm.Ref{}) || (status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge) {
		return err
	}
	want := objects.Write
	if c.Method == http.MethodGet || c.index {
		want = objects.Read
	}
	err = s.api.Refuse(ctx, s.reader(), c.kind, c.ref, want, err)
	if c.index {
		return noIndex(err)
	}
	return err
}

// carryOut runs the operation. A panic in it becomes an error, and does not end
// the node.
func (s *session) carryOut(ctx context.Context, c *call) (a answer, err error) {
	defer s.config.Panics.Catch("request", func(fault error) { err = fmt.Errorf("%w: %w", objects.ErrInternal, fault) })
	return c.do(ctx, c)
}

// failure is the answer that tells of an error.
func (s *session) failure(c *call, err error) answer {
	e := refusal.Of(err)
	c.refused = e
	if e.Status >= 500 && s.ctx.Err() == nil {
		s.config.Logger.Warn("request failed", "request", c.name(), "method", c.Method, "path", strings.Join(c.Path, "/"), "error", err)
	}
	return answer{status: e.Status, body: func(b []byte) []byte {
		b = refusal.Append(b, e)
		if e.Status != http.StatusTooManyRequests {
			return b
		}
		// Mobile clients wait that long (part 9).
		return wire.AppendBackoff(append(b[:len(b)-1], ','), time.Duration(e.RetryAfter)*time.Second)
	}}
}

// answer writes an answer once the client has been told what happened before
// it, and there is room. A session writes one at a time: an answer may be
// large, and sixty-four of them would be far too large.
func (s *session) answer(c *call, a answer) {
	s.tellEarlier(c, a)
	s.requests.answering <- struct{}{}
	// Both fail only when the session is over, and the queue with it.
	s.queue.Room(s.ctx)
	s.config.AnswerBytes.Room(s.ctx, s.holder)
	a, frame := s.frameOf(c, a)
	c.finish()
	s.answers.push(s, len(frame), func() {
		if c.command == (fsm.CommandID{}) {
			s.queue.Push(frame)
		} else {
			s.queue.Finish(c.command, frame, a.echo)
		}
	})
	<-s.requests.answering
	c.status = a.status
	took := time.Since(c.begun)
	s.config.Answered(c.changes(), c.refused, took)
	s.note(c, a.status, took)
	if a.then != nil {
		a.then()
	}
}

// frameOf encodes an answer. A node encodes few at a time, so that those let in
// at once exceed the bound by little.
func (s *session) frameOf(c *call, a answer) (out answer, frame []byte) {
	s.server.writing <- struct{}{}
	defer func() { <-s.server.writing }()
	room := bodies.Get().(*[]byte)
	defer bodies.Put(room)
	a, body := s.bodyOf(c, a, (*room)[:0])
	if cap(body) <= maxBodyRoom {
		*room = body
	}
	return a, wire.Answer(c.ID, a.status, body)
}

// bodies are buffers for the bodies of answers, until they are in their frames.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxBodyRoom is how large a buffer is kept.
const maxBodyRoom = 16 << 10

// answers counts the bytes of answers that wait for a client. It is an upper
// limit: what waits is known as a whole, not how much of it is answers.
type answers struct {
	mu      sync.Mutex
	waiting int
}

func (w *answers) push(s *session, size int, push func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting += size
	s.config.AnswerBytes.Charge(s.holder, int64(size))
	push()
}

// written is called after a write, and returns how much waits now.
func (w *answers) written(s *session) (waiting int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, waiting = s.queue.Waiting()
	w.keep(s, waiting)
	return waiting
}

// end is called when nothing will be written any more.
func (w *answers) end(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep(s, 0)
}

func (w *answers) keep(s *session, most int) {
	if gone := w.waiting - most; gone > 0 {
		w.waiting = most
		s.config.AnswerBytes.Return(s.holder, int64(gone))
	}
}

// tellEarlier waits until what happened before the answer is in the queue. It
// fails only when the session is over.
func (s *session) tellEarlier(c *call, a answer) {
	if c.command == (fsm.CommandID{}) {
		s.queue.AwaitTold(s.ctx, a.after)
	} else if a.after != (hub.Point{}) {
		s.queue.Decided(s.ctx, c.command, a.after)
	}
}

// at is the point at which a client is that reads an object at an event.
func at(o *objects.Object, event objects.EventID) hub.Point {
	return hub.Point{Object: o.SID, Event: event}
}

// before is the point just before an event of a write.
func before(o *objects.Object, event objects.EventID) hub.Point { return at(o, max(event, 1)-1) }

// bodyOf writes an answer's body behind b, which is empty, and if that fails, the
// answer that says so.
func (s *session) bodyOf(c *call, a answer, b []byte) (out answer, body []byte) {
	defer s.config.Panics.Catch("answer", func(fault error) {
		out = s.failure(c, fmt.Errorf("%w: %w", objects.ErrInternal, fault))
		body = out.body(nil)
	})
	if a.body != nil {
		b = a.body(b)
	}
	return a, b
}

// reader is on whose behalf a read runs.
func (s *session) reader() api.Caller {
	return api.Caller{Actor: s.actor, Service: fsm.Ref{SID: s.service.SID}}
}

// writer is on whose behalf a write runs. The client keeps the id of a request
// over its own retries: it is the idempotency key of the identity.
func (c *call) writer() api.Caller {
	w := c.session.reader()
	w.Propose = func(ctx context.Context, command *fsm.Command) (r *fsm.Result, err error) {
		c.command = command.ID
		if c.session.config.Trace != nil {
			if end := c.session.config.Follow(ctx, command.ID); end != nil {
				defer func() { end(err) }()
			}
		}
		// Looked up again if the request has waited: another object may have got the
		// name meanwhile.
		if waited := len(c.turn.earlier) > 0; waited && c.ref.SID.IsZero() {
			if o, ok := c.session.config.Node.View().Object(c.session.service.Num, c.kind, c.ref); ok {
				c.sid = o.SID
			}
		}
		c.session.queue.Begin(command.ID, c.sid)
		return c.turn.propose(ctx, c.session, command)
	}
	const longest = 128
	if key := c.RequestID; key != "" && len(key) <= longest {
		w.Key, w.Scope, w.Fingerprint = key, "identity/"+c.session.actor.Identity, c.fingerprint()
	}
	return w
}

// fingerprint returns what distinguishes requests with one id.
func (c *call) fingerprint() [16]byte {
	address := append([]string{c.Method}, c.Path...)
	return api.Fingerprint(c.body, append(address, c.IfMatch)...)
}
