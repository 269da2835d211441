package realtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/hub"
	"lockstep/server/ratelimit"
)

// httpRequest is a request in the tunnel as the client sent it (part 3). Path
// and parameters are percent-encoded.
type httpRequest struct {
	Path    string          `json:"path"`
	Method  string          `json:"method"`
	Params  map[string]text `json:"params"`
	Headers map[string]text `json:"headers"`
}

// text is the value of a parameter or header: of several the first counts.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		// Not of texts: an array in an array in an array would be read anew at
		// each depth.
		var many []json.RawMessage
		if err := json.Unmarshal(b, &many); err != nil || len(many) == 0 {
			return err
		}
		b = many[0]
	}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if string(b) != "null" {
		*t = text(b)
	}
	return nil
}

// request is one request, decoded.
type request struct {
	id      string
	method  string
	path    []string // segments
	params  map[string]string
	headers map[string]text
	body    []byte

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
	then   func()                // is called when the answer is in the queue
}

// handler carries out one operation.
type handler func(s *session, ctx context.Context, r *request) (answer, error)

// request starts a request. Those on one object take effect in the order sent;
// others run side by side, as many as a session may have under way. Beyond
// that, and while the client does not take its answers, nothing more is read.
func (s *session) request(m message) {
	r, err := newRequest(m)
	if err != nil {
		s.push(replyMessage(m.ID, 400, "BAD_REQUEST"))
		return
	}
	if s.queue.Room(s.ctx) != nil {
		return
	}
	if refused := s.charge(); refused != nil {
		r.handler = refuseWith(refused)
	}
	if r.handler == nil {
		s.route(r)
	}
	s.requests.start(s.ctx, s.orderKeys(r), func() { s.serve(r) })
}

// charge has the connection pay for a request.
func (s *session) charge() *objects.Error {
	limits := s.server.config.Limits
	bucket := ratelimit.Bucket{Name: s.id, Rate: limits.Rates().Requests}
	if wait := limits.Take(bucket, 1, s.server.config.Clock()); wait > 0 {
		return objects.ErrTooMany.With("Rate limit exceeded for requests of a connection").After(int(wait / time.Second))
	}
	return nil
}

// refuseWith is the handler of a request that is not carried out.
func refuseWith(err error) handler {
	return func(*session, context.Context, *request) (answer, error) { return answer{}, err }
}

// newRequest decodes a request, once. It keeps nothing of the message's bytes.
func newRequest(m message) (*request, error) {
	var h httpRequest
	if err := json.Unmarshal(m.HTTPRequest, &h); err != nil {
		return nil, errMessage
	}
	r := &request{id: m.ID, method: h.Method, headers: h.Headers}
	if err := r.address(&h); err != nil {
		r.handler = refuseWith(err)
	}
	if r.method == http.MethodPost || r.method == http.MethodPut {
		// The official client sends a payload that means nothing with DELETE.
		r.body = bytes.Clone(m.payload)
	}
	return r, nil
}

// address decodes the path and the parameters, which may be members of the
// request or a query behind the path; the members win.
func (r *request) address(h *httpRequest) error {
	path, query, _ := strings.Cut(h.Path, "?")
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		decoded, err := unescape(segment)
		if err != nil {
			return err
		}
		r.path = append(r.path, decoded)
	}
	r.params = make(map[string]string, len(h.Params))
	for name, value := range h.Params {
		decoded, err := unescape(string(value))
		if err != nil {
			return err
		}
		r.params[name] = decoded
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		decoded, err := unescape(value)
		if err != nil {
			return err
		}
		if _, given := r.params[name]; !given {
			r.params[name] = decoded
		}
	}
	return nil
}

// unescape decodes what was percent-encoded. A NUL is part of no name.
func unescape(text string) (string, error) {
	decoded, err := url.PathUnescape(text)
	if err != nil || !utf8.ValidString(decoded) || strings.ContainsRune(decoded, 0) {
		return "", objects.ErrParameter.With("The path or a parameter is not valid percent-encoded UTF-8")
	}
	return decoded, nil
}

// header finds a header whatever its case.
func (r *request) header(name string) string {
	if v, ok := r.headers[name]; ok {
		return string(v)
	}
	for k, v := range r.headers {
		if strings.EqualFold(k, name) {
			return string(v)
		}
	}
	return ""
}

// serve carries a request out and answers it.
func (s *session) serve(r *request) {
	ctx, cancel := context.WithTimeout(s.ctx, s.server.config.RequestTimeout)
	defer cancel()
	a, err := s.carryOut(ctx, r)
	if err != nil {
		a = s.failure(r, s.first(ctx, r, err))
	}
	s.answer(r, a)
}

// first gives the error that counts: that the object does not exist, or is not
// the client's to read or write, comes before what is wrong with the parameters.
func (s *session) first(ctx context.Context, r *request, err error) error {
	status := refusal(err).Status
	if r.ref == (fsm.Ref{}) || (status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge) {
		return err
	}
	want := objects.Write
	if r.method == http.MethodGet || r.index {
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
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%w: %v\n%s", objects.ErrInternal, fault, debug.Stack())
		}
	}()
	return r.handler(s, ctx, r)
}

// failure is the answer that tells of an error.
func (s *session) failure(r *request, err error) answer {
	e := refusal(err)
	if e.Status >= 500 && s.ctx.Err() == nil {
		s.server.config.Logger.Warn("request failed", "method", r.method, "path", strings.Join(r.path, "/"), "error", err)
	}
	return answer{status: e.Status, body: func(b []byte) []byte {
		b = api.AppendError(b, e)
		if e.Status != http.StatusTooManyRequests {
			return b
		}
		// Mobile clients wait that long (part 9).
		b = append(b[:len(b)-1], `,"backoff_policy":{"reconnect_min_ms":`...)
		b = strconv.AppendInt(b, 1000*int64(max(1, e.RetryAfter)), 10)
		return append(b, "}}"...)
	}}
}

// answer writes an answer when there is room for it, one of a session at a
// time: an answer may be large, and sixty-four of them would be far too large.
func (s *session) answer(r *request, a answer) {
	s.requests.answering <- struct{}{}
	s.queue.Room(s.ctx) // fails only when the session is over, and the queue with it
	a, body := s.bodyOf(r, a)
	h := appendStatus(appendHead(nil, methodReply, r.id), "status", 200, "OK")
	h = appendStatus(h, "http_status", a.status, http.StatusText(a.status))
	h = append(h, `,"http_headers":{}`...)
	frame := appendMessage(nil, h, body)
	if r.command == (fsm.CommandID{}) {
		s.queue.Push(frame)
	} else {
		s.queue.Finish(r.command, frame, a.mute)
	}
	<-s.requests.answering
	if a.then != nil {
		a.then()
	}
}

// bodyOf writes an answer's body, and if that fails, the answer that says so.
func (s *session) bodyOf(r *request, a answer) (out answer, body []byte) {
	defer func() {
		if fault := recover(); fault != nil {
			out = s.failure(r, fmt.Errorf("%w: %v\n%s", objects.ErrInternal, fault, debug.Stack()))
			body = out.body(nil)
		}
	}()
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
	if key := r.header("Twilio-Request-Id"); key != "" && len(key) <= longest {
		c.Key, c.Scope, c.Print = key, "identity/"+s.actor.Identity, r.print()
	}
	return c
}

// print tells requests under one id apart.
func (r *request) print() (sum [16]byte) {
	h := sha256.New()
	part := func(b []byte) {
		h.Write(strconv.AppendInt(nil, int64(len(b)), 10))
		h.Write([]byte{' '})
		h.Write(b)
	}
	part([]byte(r.method))
	for _, segment := range r.path {
		part([]byte(segment))
	}
	part([]byte(r.header("If-Match")))
	part(r.body)
	copy(sum[:], h.Sum(nil))
	return sum
}

// requests are those of one session that are under way.
type requests struct {
	slots     chan struct{}
	running   sync.WaitGroup
	answering chan struct{} // one slot: who is writing an answer

	stopped chan struct{} // closed by finish: no more are started

	mu     sync.Mutex
	closed bool                     // stopped is
	last   map[string]chan struct{} // by key, closed when the last request is done
}

func (q *requests) init(limit int) {
	q.slots = make(chan struct{}, limit)
	q.answering = make(chan struct{}, 1)
	q.stopped = make(chan struct{})
	q.last = make(map[string]chan struct{})
}

// start runs a request behind those that were started earlier with one of its
// keys. It waits for a slot.
func (q *requests) start(ctx context.Context, keys []string, run func()) {
	select {
	case q.slots <- struct{}{}:
	case <-q.stopped:
		return
	case <-ctx.Done():
		return
	}
	done := make(chan struct{})
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		<-q.slots
		return
	}
	earlier := q.enter(keys, done)
	q.running.Go(func() {
		for _, e := range earlier {
			<-e // all that came earlier have started, and end by themselves
		}
		run()
		q.leave(keys, done)
		<-q.slots
	})
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
	close(done)
}

func (q *requests) wait() { q.running.Wait() }

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
