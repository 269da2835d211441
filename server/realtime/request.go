package realtime

import (
	"context"
	"errors"
	"fmt"
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

// request is one request, decoded.
type request struct {
	wire.Request
	body []byte

	// What the path addresses.
	kind  objects.Kind
	ref   fsm.Ref
	sid   objects.SID // of the object, if the local store knows it
	name  string      // and its unique name
	index bool        // ref is that of an index to query

	batched bool // it is one for subscriptions

	handler handler
	command fsm.CommandID // of the write under way; zero for none
}

// answer is what a request is answered with.
type answer struct {
	status int
	body   func(b []byte) []byte // appends JSON; nil: there is none
	mute   hub.Mute              // the echo that the answer makes needless
	after  hub.Point             // the last event that the client must hear of before
	then   func()                // is called when the answer is in the queue
}

// handler carries out one operation.
type handler func(s *session, ctx context.Context, r *request) (answer, error)

// request starts a request. Those on one object take effect in the order sent;
// others run side by side, as many as a session may have under way. Beyond
// that, and while the client does not take its answers, nothing more is read.
//
// What is refused for its size or its number is answered without its payload
// being kept.
func (s *session) request(m *wire.Message) {
	r, err := newRequest(m)
	if err != nil {
		s.push(wire.Reply(m.ID, 400, "BAD_REQUEST"))
		return
	}
	if s.queue.Room(s.ctx) != nil {
		return
	}
	if refused := s.charge(); refused != nil {
		s.turnAway(m, r, refused)
		return
	}
	if m.Oversized {
		s.route(r)
		r.handler = refuseWith(objects.ErrTooLarge.With("The message has %d bytes; at most %d are allowed", m.Size, s.server.config.MessageBytes))
		s.requests.start(s.ctx, s.orderKeys(r), func() { s.serve(r) })
		s.discard(m)
		return
	}
	if s.requests.reserve(s.ctx, m.Size) != nil {
		return
	}
	if !s.server.config.RequestBytes.Take(s.holder, int64(m.Size)) {
		s.requests.release(m.Size)
		s.server.metrics.refusals.WithLabelValues("request bytes").Inc()
		s.turnAway(m, r, objects.ErrTooMany.With("Too many bytes of requests are under way").After(1))
		return
	}
	done := func() {
		s.server.config.RequestBytes.Return(s.holder, int64(m.Size))
		s.requests.release(m.Size)
	}
	s.conn.Expect(s.server.config.SilenceTimeout) // there may have been a wait
	payload, err := m.Payload()
	if err != nil {
		done()
		s.broken(err)
		return
	}
	if r.handler == nil {
		s.route(r)
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		// The official client sends a payload that means nothing with DELETE.
		r.body = payload
	}
	if !s.requests.start(s.ctx, s.orderKeys(r), func() { defer done(); s.serve(r) }) {
		done()
	}
}

// turnAway answers a request at once, before any more is read.
func (s *session) turnAway(m *wire.Message, r *request, refused *objects.Error) {
	s.answer(r, s.failure(r, refused))
	s.discard(m)
}

// discard passes over the payload of a message.
func (s *session) discard(m *wire.Message) {
	s.conn.Expect(s.server.config.SilenceTimeout)
	s.broken(m.Discard())
}

// broken ends the session when a message was shorter than it said. Errors of the
// connection are met again by whoever reads next.
func (s *session) broken(err error) {
	if errors.Is(err, wire.ErrMalformed) {
		s.end(endMalformed)
	}
}

// charge has the connection and its identity pay for a request, or for anything
// else that a client has the server do. Who is refused all the time is told to
// stay away.
func (s *session) charge() *objects.Error {
	c, now := &s.server.config, s.server.config.Clock()
	wait := c.Limits.Take(now, 1,
		ratelimit.Bucket[string]{Key: s.id, Rate: c.SessionRequests},
		ratelimit.Bucket[string]{Key: "requests-" + s.holder, Rate: c.IdentityRequests})
	if wait == 0 {
		return nil
	}
	s.server.metrics.refusals.WithLabelValues("requests").Inc()
	if s.refusals.add(now) == c.FloodRefusals {
		s.end(endFlood)
	}
	s.slowDown()
	return objects.ErrTooMany.With("Rate limit exceeded for requests of this connection or its identity").After(int(wait / time.Second))
}

// slowDown has the reader wait while the sessions of its identity are refused
// more than they may be: refusing costs CPU, too, and a client that was told to
// stay away may come back at once.
func (s *session) slowDown() {
	const longest = 100 * time.Millisecond // so that many readers seldom look
	c := &s.server.config
	bucket := ratelimit.Bucket[string]{Key: "refusals-" + s.holder, Rate: float64(c.FloodRefusals) / refusalWindow.Seconds()}
	for {
		wait := c.Limits.Take(c.Clock(), 1, bucket)
		if wait == 0 {
			return
		}
		select {
		case <-time.After(max(wait, longest)):
		case <-s.ctx.Done():
			return
		}
	}
}

// refusals counts what a session was refused lately. It is its reader's.
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

// refuseWith is the handler of a request that is not carried out.
func refuseWith(err error) handler {
	return func(*session, context.Context, *request) (answer, error) { return answer{}, err }
}

// newRequest decodes the header of a request, once. Of one that is too large not
// all is known: it addresses nothing.
func newRequest(m *wire.Message) (*request, error) {
	decoded, err := m.Request()
	r := &request{Request: decoded}
	if errors.Is(err, wire.ErrMalformed) {
		return nil, err
	}
	if err != nil {
		r.handler = refuseWith(err)
	}
	return r, nil
}

// serve carries a request out and answers it.
func (s *session) serve(r *request) {
	defer s.server.config.Panics.Catch("answer", func(error) { s.fault() })
	ctx, cancel := context.WithTimeout(s.ctx, s.server.config.RequestTimeout)
	defer cancel()
	a, err := s.carryOut(ctx, r)
	if err != nil {
		a = s.failure(r, s.first(ctx, r, err))
	}
	s.answer(r, a)
}

// first returns the error that counts: that the object does not exist, or is not
// the client's to read or write, comes before what is wrong with the parameters.
func (s *session) first(ctx context.Context, r *request, err error) error {
	status := refusal.Of(err).Status
	if r.ref == (fsm.Ref{}) || (status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge) {
		return err
	}
	want := objects.Write
	if r.Method == http.MethodGet || r.index {
		want = objects.Read
	}
	err = s.server.config.API.Refuse(ctx, s.reader(), r.kind, r.ref, want, err)
	if r.index {
		return noIndex(err)
	}
	return err
}

// carryOut keeps a fault in one operation from ending the whole node.
func (s *session) carryOut(ctx context.Context, r *request) (a answer, err error) {
	defer s.server.config.Panics.Catch("request", func(fault error) { err = fmt.Errorf("%w: %w", objects.ErrInternal, fault) })
	return r.handler(s, ctx, r)
}

// failure is the answer that tells of an error.
func (s *session) failure(r *request, err error) answer {
	e := refusal.Of(err)
	if e.Status >= 500 && s.ctx.Err() == nil {
		s.server.config.Logger.Warn("request failed", "method", r.Method, "path", strings.Join(r.Path, "/"), "error", err)
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

// answer writes an answer when the client has been told of what happened before
// and there is room for it, one of a session at a time: an answer may be large,
// and sixty-four of them would be far too large.
func (s *session) answer(r *request, a answer) {
	s.tellEarlier(r, a)
	s.requests.answering <- struct{}{}
	// Both fail only when the session is over, and the queue with it.
	s.queue.Room(s.ctx)
	s.server.config.AnswerBytes.Room(s.ctx, s.holder)
	a, frame := s.frameOf(r, a)
	s.answers.push(s, len(frame), func() {
		if r.command == (fsm.CommandID{}) {
			s.queue.Push(frame)
		} else {
			s.queue.Finish(r.command, frame, a.mute)
		}
	})
	<-s.requests.answering
	if a.then != nil {
		a.then()
	}
}

// frameOf writes an answer. Few are written at a time on a node, so that those
// that have been let in at once are not much more than the bound.
func (s *session) frameOf(r *request, a answer) (out answer, frame []byte) {
	s.server.writing <- struct{}{}
	defer func() { <-s.server.writing }()
	a, body := s.bodyOf(r, a)
	return a, wire.Answer(r.ID, a.status, body)
}

// answers are the bytes of answers that wait for a client, at most: how many of
// what waits are those of answers is not known, but all that waits is.
type answers struct {
	mu      sync.Mutex
	waiting int
}

func (w *answers) push(s *session, size int, push func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting += size
	s.server.config.AnswerBytes.Charge(s.holder, int64(size))
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
		s.server.config.AnswerBytes.Return(s.holder, int64(gone))
	}
}

// tellEarlier waits until what happened before the answer is in the queue. It
// fails only when the session is over.
func (s *session) tellEarlier(r *request, a answer) {
	if r.command == (fsm.CommandID{}) {
		s.queue.Told(s.ctx, a.after)
	} else if a.after != (hub.Point{}) {
		s.queue.Decided(s.ctx, r.command, a.after)
	}
}

// at is the point at which a client is that reads an object at an event.
func at(o *objects.Object, event objects.EventID) hub.Point {
	return hub.Point{Object: o.SID, Event: event}
}

// before is the point in front of a write's own event. A write of nothing but a
// TTL has none: it answers with the last event of before.
func before(o *objects.Object, event objects.EventID, silent bool) hub.Point {
	if !silent && event > 0 {
		event--
	}
	return at(o, event)
}

// bodyOf writes an answer's body, and if that fails, the answer that says so.
func (s *session) bodyOf(r *request, a answer) (out answer, body []byte) {
	defer s.server.config.Panics.Catch("answer", func(fault error) {
		out = s.failure(r, fmt.Errorf("%w: %w", objects.ErrInternal, fault))
		body = out.body(nil)
	})
	if a.body != nil {
		body = a.body(nil)
	}
	return a, body
}

// reader is on whose behalf a read runs.
func (s *session) reader() api.Caller {
	return api.Caller{Actor: s.actor, Service: fsm.Ref{SID: s.service.SID}}
}

// writer is on whose behalf a write runs. The client keeps the id of a request
// over its own retries: it is the idempotency key of the identity.
func (s *session) writer(r *request) api.Caller {
	c := s.reader()
	c.Sending = func(id fsm.CommandID) {
		r.command = id
		// Anew: another object may have got the name while the request waited.
		if o, ok := s.server.config.Node.View().Object(s.service.Num, r.kind, r.ref); ok {
			r.sid = o.SID
		}
		s.queue.Begin(id, r.sid)
	}
	const longest = 128
	if key := r.Header("Twilio-Request-Id"); key != "" && len(key) <= longest {
		c.Key, c.Scope, c.Print = key, "identity/"+s.actor.Identity, r.print()
	}
	return c
}

// print tells requests under one id apart.
func (r *request) print() [16]byte {
	address := append([]string{r.Method}, r.Path...)
	return api.Print(r.body, append(address, r.Header("If-Match"))...)
}

// requests are those of one session that are under way.
type requests struct {
	slots     chan struct{}
	running   sync.WaitGroup
	answering chan struct{} // one slot: who is writing an answer

	stopped chan struct{} // closed by finish: no more are started

	limit int64         // of bytes
	freed chan struct{} // one slot: there are fewer bytes

	mu     sync.Mutex
	busy   time.Time                // when one was last started or answered
	bytes  int64                    // of those under way
	closed bool                     // stopped is
	last   map[string]chan struct{} // by key, closed when the last request is done
}

func (q *requests) init(limit int, bytes int64) {
	q.limit, q.freed = bytes, make(chan struct{}, 1)
	q.slots = make(chan struct{}, limit)
	q.answering = make(chan struct{}, 1)
	q.stopped = make(chan struct{})
	q.last = make(map[string]chan struct{})
}

// reserve waits until the requests under way leave room for one of this size.
// Only the session's reader calls it.
func (q *requests) reserve(ctx context.Context, size int) error {
	for {
		q.mu.Lock()
		fits := q.bytes == 0 || q.bytes+int64(size) <= q.limit
		if fits {
			q.bytes += int64(size)
		}
		q.mu.Unlock()
		if fits {
			return nil
		}
		select {
		case <-q.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *requests) release(size int) {
	q.mu.Lock()
	q.bytes -= int64(size)
	q.mu.Unlock()
	select {
	case q.freed <- struct{}{}:
	default:
	}
}

// start runs a request behind those that were started earlier with one of its
// keys. It waits for a slot, and reports false if the request is not run.
func (q *requests) start(ctx context.Context, keys []string, run func()) bool {
	select {
	case q.slots <- struct{}{}:
	case <-q.stopped:
		return false
	case <-ctx.Done():
		return false
	}
	done := make(chan struct{})
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		<-q.slots
		return false
	}
	earlier := q.enter(keys, done)
	q.busy = time.Now()
	q.running.Go(func() {
		for _, e := range earlier {
			<-e // all that came earlier have started, and end by themselves
		}
		run()
		q.leave(keys, done)
		<-q.slots
	})
	return true
}

// enter is called with the lock held.
func (q *requests) enter(keys []string, done chan struct{}) (earlier []chan struct{}) {
	for _, k := range keys {
		if e, ok := q.last[k]; ok && e != done {
			earlier = append(earlier, e)
		}
		q.last[k] = done
	}
	return earlier
}

func (q *requests) leave(keys []string, done chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range keys {
		if q.last[k] == done {
			delete(q.last, k)
		}
	}
	q.busy = time.Now()
	close(done)
}

func (q *requests) wait() { q.running.Wait() }

// idle waits until the client has asked for nothing for some time, and nothing is
// under way.
func (q *requests) idle(ctx context.Context, quiet time.Duration) {
	for {
		q.mu.Lock()
		left := quiet - time.Since(q.busy)
		if len(q.slots) > 0 {
			left = quiet
		}
		q.mu.Unlock()
		if left <= 0 {
			return
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
}

// finish lets no more requests start, and waits for those under way, as long as
// the context allows. It is called once.
func (q *requests) finish(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	close(q.stopped)
	q.mu.Unlock()
	for range cap(q.slots) {
		select {
		case q.slots <- struct{}{}: // nobody holds this one any more
		case <-ctx.Done():
			return
		}
	}
}
