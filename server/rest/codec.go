package rest

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/auth"
	"lockstep/server/budget"
	"lockstep/server/refusal"
	"lockstep/server/requestid"
)

// maxBody is how much of a body is read. Percent-encoding and JSON escapes make
// a value of 16 KiB up to eight times as large.
const maxBody = 256 << 10

// maxIdempotencyKey is the greatest length of an Idempotency-Key, in characters.
const maxIdempotencyKey = 128

// body is the body of a request on its way in.
type body struct {
	http    *http.Request
	whole   wholeBody // nil: it is on its way
	control *http.ResponseController
	bodies  *budget.Share
}

// wholeBody is a body that has arrived, as package plain has it. Its bytes are good
// until the request is answered.
type wholeBody interface{ Bytes() []byte }

// errBodies refuses a body because of those of other requests.
var errBodies = objects.ErrTooMany.With("Too many bytes of requests are under way").After(1)

// reserve takes the bytes of the body from what a credential may have under way.
func (b *body) reserve(credential string) error {
	if b.size() > 0 && b.bodies != nil && !b.bodies.Take(credential, b.size()) {
		return errBodies
	}
	return nil
}

// done returns what reserve took.
func (b *body) done(credential string) {
	if b.size() > 0 && b.bodies != nil {
		b.bodies.Return(credential, b.size())
	}
}

// size is what is reserved for the body. One that does not say its size may be the
// largest one.
func (b *body) size() int64 {
	switch {
	case b.http == nil:
		return 0
	case b.http.ContentLength < 0, b.http.ContentLength > maxBody:
		return maxBody
	}
	return b.http.ContentLength
}

// limitBody bounds the size of a body and the time it may take, also for the
// rest of a refused one, which net/http reads.
func (h *handler) limitBody(w http.ResponseWriter, r *http.Request) body {
	if r.ContentLength == 0 {
		return body{}
	}
	if whole, ok := r.Body.(wholeBody); ok {
		return body{http: r, whole: whole, bodies: h.Bodies}
	}
	control := http.NewResponseController(w)
	// Only writers that have no connection, as in tests, know no deadline.
	_ = control.SetReadDeadline(time.Now().Add(h.BodyTimeout))
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return body{http: r, control: control, bodies: h.Bodies}
}

// read returns the form in the body of a POST, percent-encoded; other methods
// have none.
func (b *body) read() (string, error) {
	if b.http == nil || b.http.Method != http.MethodPost {
		return "", nil
	}
	if b.whole != nil {
		return parseForm(first(b.http.Header, "Content-Type"), b.whole.Bytes())
	}
	if b.http.ContentLength > maxBody {
		return "", errBodyTooLarge
	}
	raw, err := b.readAll()
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return "", errBodyTooLarge
		}
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
			return "", objects.ErrTimeout
		}
		return "", objects.ErrParameter.With("The body is not readable")
	}
	_ = b.control.SetReadDeadline(time.Time{})
	return parseForm(first(b.http.Header, "Content-Type"), raw)
}

var errBodyTooLarge = objects.ErrTooLarge.With("The body is larger than %d bytes", maxBody)

func (b *body) readAll() ([]byte, error) {
	if n := b.http.ContentLength; n > 0 {
		raw := make([]byte, n)
		_, err := io.ReadFull(b.http.Body, raw)
		return raw, err
	}
	return io.ReadAll(b.http.Body)
}

// readKey reads the idempotency key of a write. A key belongs to a credential.
func (c *call) readKey(r *http.Request, p auth.Principal, rawBody string) error {
	keys := r.Header["Idempotency-Key"]
	if len(keys) == 0 || r.Method == http.MethodGet {
		return nil
	}
	if n := utf8.RuneCountInString(keys[0]); n == 0 || n > maxIdempotencyKey {
		return objects.ErrParameter.With("Idempotency-Key must have 1 to %d characters", maxIdempotencyKey)
	}
	c.caller.Key, c.caller.KeepData = keys[0], true
	c.caller.Scope = p.AccountSID + "/" + p.KeySID
	c.caller.Fingerprint = api.Fingerprint(rawBody, r.Method, cleanPath(c.url))
	return nil
}

// answer is what a request is answered with.
type answer struct {
	status   int
	tagged   bool
	revision objects.Revision // its ETag, if tagged
	body     []byte           // JSON; nil for none
}

// tagged returns an answer with one document or item, whose revision is its ETag.
func tagged(status int, revision objects.Revision, body []byte) answer {
	return answer{status: status, tagged: true, revision: revision, body: body}
}

// removed is the answer to every successful DELETE.
var removed = answer{status: http.StatusNoContent}

var jsonType = []string{refusal.ContentType}

func (a answer) write(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	if a.tagged {
		header["Etag"] = []string{string(a.appendTag(nil))}
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		// That the client is gone is no news, and nothing is left to be done.
		_, _ = w.Write(a.body)
	}
}

func (a answer) appendTag(b []byte) []byte {
	return append(strconv.AppendUint(append(b, '"'), uint64(a.revision), 16), '"')
}

// wholeWriter is an http.ResponseWriter that takes an answer at once, as package
// plain has it. The header is rendered, in the order of its names.
type wholeWriter interface {
	WriteAnswer(status int, header, body []byte)
}

// writeWhole is write with the common headers, and the same bytes.
func (a answer) writeWhole(w wholeWriter, id requestid.ID, out *output) {
	b := append(out.header[:0], commonLines...)
	if a.body != nil {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(a.body)), 10)
		b = append(b, "\r\nContent-Type: "+refusal.ContentType+"\r\n"...)
	}
	if a.tagged {
		b = append(a.appendTag(append(b, "Etag: "...)), "\r\n"...)
	}
	b = append(id.Append(append(b, requestid.Header+": "...)), "\r\n"...)
	w.WriteAnswer(a.status, b, a.body)
	out.header = b
}

// commonLines are the common headers, which come before all others.
var commonLines = func() (b []byte) {
	for _, name := range slices.Sorted(maps.Keys(commonHeaders)) {
		b = append(b, name+": "+commonHeaders.Get(name)+"\r\n"...)
	}
	return b
}()

// output is memory for an answer, which is used again.
type output struct{ header, body []byte }

var outputs = sync.Pool{New: func() any { return &output{header: make([]byte, 0, 1<<10), body: make([]byte, 0, 2<<10)} }}

// maxKept is the size of a body whose memory is kept.
const maxKept = 64 << 10

func (o *output) release() {
	if cap(o.body) <= maxKept {
		outputs.Put(o)
	}
}

// refusal returns what the client is told of an error.
func (h *handler) refusal(r *http.Request, id requestid.ID, err error) *objects.Error {
	e, ok := errors.AsType[*objects.Error](err)
	if !ok {
		h.Logger.Error("request failed", "request", id.String(), "method", r.Method, "error", err)
		e = objects.ErrInternal
	}
	part, ofTransaction := errors.AsType[*partError](err)
	switch e.Status {
	case http.StatusNotFound:
		path := strings.TrimPrefix(cleanPath(r.URL), "/v1")
		if ofTransaction {
			path = part.path
		}
		e = objects.ErrNotFound.With("The requested resource %s was not found", path)
	case http.StatusServiceUnavailable:
		h.Logger.Debug("request not served", "request", id.String(), "method", r.Method, "error", err)
	}
	if ofTransaction {
		e = e.With("Operation %d: %s", part.number, e.Message)
	}
	return e
}

// refuse makes the answer of an error, and adds the headers that go with it.
func (h *handler) refuse(header http.Header, r *http.Request, e *objects.Error) answer {
	if e.Status == http.StatusUnauthorized {
		auth.Challenge(header, r)
	}
	return refuse(header, e)
}

// refuse makes the answer of an error, whatever the request. A HEAD gets no body,
// which refusal.Write does not know of.
func refuse(header http.Header, e *objects.Error) answer {
	refusal.SetHeader(header, e)
	return answer{status: e.Status, body: refusal.Append(nil, e)}
}
