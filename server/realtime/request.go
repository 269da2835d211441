package realtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"hash/maphash"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
)

// request is one request in the tunnel, decoded.
type request struct {
	ctx     context.Context
	id      string
	method  string
	path    []string // decoded segments
	params  map[string]string
	headers map[string]param
	body    []byte

	object  objects.SID   // that the path names, as far as the local store knows
	command fsm.CommandID // of the write it made; zero for none
}

// request starts serving a request in the tunnel.
func (s *session) request(m message) {
	if m.HTTPRequest == nil {
		s.answer(m, 400, "BAD_REQUEST")
		return
	}
	r := &request{id: m.ID, method: m.HTTPRequest.Method, headers: m.HTTPRequest.Headers, body: m.payload}
	err := r.address(m.HTTPRequest)
	s.start(r.objectKey(), func(ctx context.Context) {
		r.ctx = ctx
		if err != nil {
			s.fail(r, err)
			return
		}
		s.serve(r)
	})
}

// answer replies to a message that needs no work.
func (s *session) answer(m message, code int, status string) {
	s.start(m.Method, func(context.Context) { s.outbox.push(replyFrame(m.ID, code, status, "", nil)) })
}

// start runs what a message asks for. Work with the same key follows in the
// order sent; other work runs side by side, as much as a session may have under
// way: beyond that, nothing more is read from the client. Work counts as under
// way as long as there is no room for its answer.
func (s *session) start(key string, work func(context.Context)) {
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	hash := maphash.String(s.server.seed, key)
	before, done := s.tails[hash], make(chan struct{})
	s.tails[hash] = done
	if len(s.tails) > 4*cap(s.slots) {
		s.forgetFinished()
	}
	s.requests.Go(func() {
		defer func() { <-s.slots }()
		s.workAfter(before, done, work)
		s.outbox.room(s.ctx)
	})
}

func (s *session) workAfter(before, done chan struct{}, work func(context.Context)) {
	defer close(done)
	if before != nil {
		<-before
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.server.config.RequestTimeout)
	defer cancel()
	work(ctx)
}

// forgetFinished keeps the map of last requests as small as what is under way.
func (s *session) forgetFinished() {
	for key, done := range s.tails {
		select {
		case <-done:
			delete(s.tails, key)
		default:
		}
	}
}

// address decodes path and parameters, once.
func (r *request) address(h *httpRequest) error {
	path, _, _ := strings.Cut(h.Path, "?")
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		decoded, err := url.PathUnescape(segment)
		if err != nil || strings.ContainsRune(decoded, 0) {
			return objects.ErrParameter
		}
		r.path = append(r.path, decoded)
	}
	r.params = make(map[string]string, len(h.Params))
	for name, value := range h.Params {
		decoded, err := url.QueryUnescape(string(value))
		if err != nil {
			return objects.ErrParameter
		}
		r.params[name] = decoded
	}
	return nil
}

// objectKey says which requests have to keep their order: those whose paths
// name the same object, plain or below a service.
func (r *request) objectKey() string {
	path := r.path[min(len(r.path), 1):]
	if len(path) > 2 && path[0] == "Services" {
		path = path[2:]
	}
	return strings.Join(path[:min(len(path), 2)], "\x00")
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

// serve finds the operation. Every path exists plain and below the session's
// service, for mobile clients (part 9).
func (s *session) serve(r *request) {
	path := r.path
	if len(path) < 2 || (path[0] != "v3" && path[0] != "v4") {
		s.fail(r, objects.ErrNotFound)
		return
	}
	version, path := path[0], path[1:]
	if version == "v4" {
		if len(path) == 1 && path[0] == "Subscriptions" && r.method == http.MethodPost {
			s.subscriptions(r)
			return
		}
		s.fail(r, objects.ErrNotFound)
		return
	}
	if path[0] == "Services" {
		if len(path) < 3 || !s.isOwn(path[1]) {
			s.fail(r, objects.ErrNotFound)
			return
		}
		path = path[2:]
	}
	switch {
	case len(path) == 1 && path[0] == "Configuration" && r.method == http.MethodGet:
		s.reply(r, 200, s.configuration())
	case len(path) == 3 && path[0] == "Insights" && path[2] == "Items" && r.method == http.MethodPost:
		s.insights(r, path[1])
	default:
		kind, ok := kindOf(path[0])
		if !ok {
			s.fail(r, objects.ErrNotFound)
			return
		}
		s.object(r, kind, path[1:])
	}
}

func (s *session) isOwn(service string) bool {
	return service == s.service.SID.String() || (s.service.UniqueName != "" && service == s.service.UniqueName)
}

func kindOf(plural string) (objects.Kind, bool) {
	for kind := objects.KindDocument; kind <= objects.KindStream; kind++ {
		if api.Plural(kind) == plural {
			return kind, true
		}
	}
	return objects.KindNone, false
}

// object serves what is below /v3/{Kind}: path is what follows.
func (s *session) object(r *request, kind objects.Kind, path []string) {
	collection := kind == objects.KindList || kind == objects.KindMap
	var ref fsm.Ref
	if len(path) > 0 {
		ref = fsm.ParseRef(path[0])
		r.object = s.resolve(kind, ref)
	}
	switch {
	case len(path) == 0 && r.method == http.MethodPost:
		s.create(r, kind)
	case len(path) == 1 && r.method == http.MethodGet:
		s.fetch(r, kind, ref)
	case len(path) == 1 && r.method == http.MethodPost:
		s.updateObject(r, kind, ref)
	case len(path) == 1 && r.method == http.MethodDelete:
		s.remove(r, kind, ref)
	case len(path) == 2 && kind == objects.KindStream && path[1] == "Messages" && r.method == http.MethodPost:
		s.publish(r, ref)
	case len(path) == 2 && kind == objects.KindList && path[1] == "Context" && r.method == http.MethodGet:
		s.fetchContext(r, ref)
	case len(path) == 2 && kind == objects.KindList && path[1] == "Context" && r.method == http.MethodPost:
		s.updateObject(r, kind, ref)
	case len(path) == 2 && collection && path[1] == "Items" && r.method == http.MethodGet:
		s.queryItems(r, kind, ref)
	case len(path) == 2 && collection && path[1] == "Items" && r.method == http.MethodPost:
		s.addItem(r, kind, ref)
	case len(path) == 3 && collection && path[1] == "Items":
		s.item(r, kind, ref, path[2])
	default:
		s.fail(r, objects.ErrNotFound)
	}
}

// resolve gives the SID of an object that the path names, none if the local
// store does not know the name.
func (s *session) resolve(kind objects.Kind, ref fsm.Ref) objects.SID {
	if ref.Name == "" {
		return ref.SID
	}
	view := s.server.config.Node.View()
	if service, ok := view.Service(fsm.Ref{SID: s.service.SID}); ok {
		if o, ok := view.Object(service.Num, kind, ref); ok {
			return o.SID
		}
	}
	return objects.SID{}
}

// item serves one item, by index or key.
func (s *session) item(r *request, kind objects.Kind, ref fsm.Ref, text string) {
	key, err := itemKey(kind, text)
	if err != nil {
		s.fail(r, err)
		return
	}
	switch {
	case r.method == http.MethodGet:
		s.fetchItem(r, kind, ref, key)
	case r.method == http.MethodPost:
		s.writeItem(r, kind, ref, key, fsm.UpdateItem)
	case r.method == http.MethodPut && kind == objects.KindMap:
		s.writeItem(r, kind, ref, key, fsm.PutItem)
	case r.method == http.MethodDelete:
		s.removeItem(r, kind, ref, key)
	default:
		s.fail(r, objects.ErrMethod)
	}
}

func itemKey(kind objects.Kind, text string) (fsm.ItemKey, error) {
	if kind == objects.KindMap {
		return fsm.ItemKey{Key: text}, objects.ValidateKey(text)
	}
	index, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return fsm.ItemKey{}, objects.ErrIndex
	}
	return fsm.ItemKey{Index: index}, nil
}

// caller is on whose behalf a read runs.
func (s *session) caller() api.Caller {
	return api.Caller{Actor: s.actor, Service: fsm.Ref{SID: s.service.SID}}
}

// writer is on whose behalf a write runs. The client sends the same request id
// over its retries of one call, so it is the idempotency key of the identity.
func (s *session) writer(r *request) api.Caller {
	c := s.caller()
	c.Sending = func(id fsm.CommandID) {
		r.command = id
		s.mu.Lock()
		s.echo.sending(id, r.object)
		s.mu.Unlock()
	}
	if key := r.header("Twilio-Request-Id"); key != "" && len(key) <= 128 {
		c.Key, c.Scope = key, "identity\x00"+s.actor.Identity
		h := sha256.New()
		for _, part := range append([]string{r.method}, r.path...) {
			h.Write([]byte(part))
			h.Write([]byte{0})
		}
		h.Write(r.body)
		copy(c.Print[:], h.Sum(nil))
	}
	return c
}

// reply answers a request; the events of its own write follow behind it.
func (s *session) reply(r *request, status int, body []byte) {
	extra := `,"http_status":{"code":` + strconv.Itoa(status) + `,"status":"` + http.StatusText(status) +
		`"},"http_headers":{"Content-Type":"application/json"}`
	s.outbox.push(replyFrame(r.id, 200, "OK", extra, body))
	if r.command != (fsm.CommandID{}) {
		s.release(r)
	}
}

// fail answers a request with an error.
func (s *session) fail(r *request, err error) {
	e := objects.ErrUnavailable
	if !errors.As(err, &e) {
		s.server.config.Logger.Error("request failed", "error", err)
	}
	s.reply(r, e.Status, api.AppendError(nil, e))
}

// body is what clients send with a write. Members that are absent or null are nil.
type body struct {
	Name    *string         `json:"unique_name"`
	Key     *string         `json:"key"`
	Data    json.RawMessage `json:"data"`
	Context json.RawMessage `json:"context"`
	TTL     json.RawMessage `json:"ttl"`

	ttl      *int64
	nullData bool // data was given, and is null
}

func (r *request) decode() (*body, error) {
	b := new(body)
	text := bytes.TrimSpace(r.body)
	if len(text) == 0 {
		return b, nil
	}
	if !json.Valid(text) {
		return nil, objects.ErrData.With("The body is not valid JSON")
	}
	if err := json.Unmarshal(text, b); err != nil {
		return nil, objects.ErrParameter.With("The body is not an object of the expected form")
	}
	if string(b.Data) == "null" {
		b.Data, b.nullData = nil, true
	}
	if string(b.Context) == "null" {
		b.Context = nil
	}
	if len(b.TTL) > 0 && string(b.TTL) != "null" {
		ttl, err := strconv.ParseInt(string(b.TTL), 10, 64)
		if err != nil || objects.ValidateTTL(ttl) != nil {
			return nil, objects.ErrTTL
		}
		b.ttl = &ttl
	}
	return b, nil
}
