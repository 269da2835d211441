package durablestreams

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/origin"
)

const (
	maxBody        = 256 << 10
	maxContentType = 256
	maxSeq         = 256
	maxProducer    = 256
	maxKey         = 128
	maxNumber      = 1<<53 - 1 // of a producer: what JavaScript counts to
)

// put makes a stream, or finds that it is there.
func (q *request) put(ctx context.Context) error {
	open, err := q.openForm()
	if err == nil {
		err = q.readKey()
	}
	if err != nil {
		return q.config.API.Refuse(ctx, q.caller, objects.KindNone, fsm.Ref{}, objects.Write, err)
	}
	opened, err := q.config.API.OpenDurable(ctx, q.caller, q.ref, open)
	if err != nil {
		return err
	}
	header, d := q.w.Header(), opened.Durable.Durable
	header.Set("Content-Type", contentType(&d))
	q.setEnd(opened)
	status := http.StatusOK
	if opened.Created {
		status = http.StatusCreated
		header.Set("Location", origin.Of(q.r, q.config.PublicURL, q.config.TrustedProxies)+q.r.URL.EscapedPath())
	}
	header.Set("Content-Length", "0")
	q.w.WriteHeader(status)
	return nil
}

// openForm reads what a stream is to be like.
func (q *request) openForm() (open api.DurableOpen, err error) {
	open.ContentType, open.Closed = q.r.Header.Get("Content-Type"), q.closes()
	if open.ContentType == "" {
		open.ContentType = objects.JSONType
	}
	if q.r.Header.Get("Stream-Forked-From") != "" {
		return open, objects.ErrParameter.With("A stream cannot be made as a fork of another one here")
	}
	if open.TTL, open.Expires, err = lifetime(q.r.Header); err != nil {
		return open, err
	}
	if err := checkContentType(open.ContentType); err != nil {
		return open, err
	}
	if len(q.body) > 0 {
		open.Items, err = itemsOf(encodingOf(open.ContentType), q.body)
	}
	return open, err
}

// lifetime reads how long a stream is to be there: for so many seconds after it was
// used last, or until a time.
func lifetime(header http.Header) (ttl, expires int64, err error) {
	seconds, until := header.Get("Stream-TTL"), header.Get("Stream-Expires-At")
	switch {
	case seconds != "" && until != "":
		return 0, 0, objects.ErrParameter.With("Stream-TTL and Stream-Expires-At exclude each other")
	case seconds != "":
		ttl, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil || strconv.FormatInt(ttl, 10) != seconds || ttl < 1 || ttl > objects.MaxTTLSeconds {
			return 0, 0, objects.ErrTTL.With("Stream-TTL must be a whole number of seconds from 1 to %d", objects.MaxTTLSeconds)
		}
		return ttl, 0, nil
	case until != "":
		at, err := time.Parse(time.RFC3339, until)
		if err != nil || at.UnixMilli() <= 0 {
			return 0, 0, objects.ErrTTL.With("Stream-Expires-At must be a time as in RFC 3339")
		}
		return 0, at.UnixMilli(), nil
	}
	return 0, 0, nil
}

func checkContentType(text string) error {
	media := objects.MediaType(text)
	if len(text) > maxContentType || !utf8.ValidString(text) || !strings.Contains(media, "/") {
		return objects.ErrParameter.With("Content-Type must be a media type of at most %d bytes", maxContentType)
	}
	return nil
}

// post appends to a stream, or closes it, or both.
func (q *request) post(ctx context.Context) error {
	op, err := q.appendForm()
	if err == nil {
		err = q.readKey()
	}
	if err != nil {
		return q.config.API.Refuse(ctx, q.caller, q.kind, q.ref, objects.Write, err)
	}
	written, err := q.config.API.AppendDurable(ctx, q.caller, op)
	if written.Object != nil {
		q.setEnd(written)
		q.setProducer(op.Producer, written.Durable, err)
	}
	if err != nil {
		return err
	}
	if op.Producer == nil || written.Durable.Known || len(op.Items) == 0 {
		q.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	q.w.Header().Set("Content-Length", "0")
	q.w.WriteHeader(http.StatusOK)
	return nil
}

// appendForm reads what is to be appended, and how.
func (q *request) appendForm() (op fsm.AppendDurable, err error) {
	op = fsm.AppendDurable{List: q.ref, Close: q.closes(), Seq: q.r.Header.Get("Stream-Seq")}
	if op.Producer, err = producer(q.r.Header); err != nil {
		return op, err
	}
	if len(op.Seq) > maxSeq || !utf8.ValidString(op.Seq) {
		return op, objects.ErrParameter.With("Stream-Seq must have at most %d bytes", maxSeq)
	}
	if len(q.body) == 0 {
		if !op.Close {
			return op, objects.ErrParameter.With("There is nothing to append: the body is empty")
		}
		return op, nil
	}
	op.ContentType = q.r.Header.Get("Content-Type")
	if op.ContentType == "" {
		return op, objects.ErrParameter.With("Content-Type is missing")
	}
	if err := checkContentType(op.ContentType); err != nil {
		return op, err
	}
	if op.Items, err = itemsOf(encodingOf(op.ContentType), q.body); err == nil && len(op.Items) == 0 {
		err = objects.ErrParameter.With("There is nothing to append: the array is empty")
	}
	return op, err
}

// producer reads which of whose writes a request is; nil if it does not say.
func producer(header http.Header) (*fsm.Producer, error) {
	ids, epochs, seqs := header.Values("Producer-Id"), header.Values("Producer-Epoch"), header.Values("Producer-Seq")
	if len(ids)+len(epochs)+len(seqs) == 0 {
		return nil, nil
	}
	if len(ids) != 1 || len(epochs) != 1 || len(seqs) != 1 {
		return nil, objects.ErrParameter.With("Producer-Id, Producer-Epoch and Producer-Seq go together")
	}
	if ids[0] == "" || len(ids[0]) > maxProducer || !utf8.ValidString(ids[0]) {
		return nil, objects.ErrParameter.With("Producer-Id must have 1 to %d bytes", maxProducer)
	}
	p := &fsm.Producer{ID: ids[0]}
	for _, n := range []struct {
		text string
		into *uint64
	}{{epochs[0], &p.Epoch}, {seqs[0], &p.Seq}} {
		var err error
		if *n.into, err = strconv.ParseUint(n.text, 10, 64); err != nil || *n.into > maxNumber {
			return nil, objects.ErrParameter.With("Producer-Epoch and Producer-Seq must be whole numbers from 0 to 2^53-1")
		}
	}
	return p, nil
}

// closes reports whether a request closes its stream.
func (q *request) closes() bool { return strings.EqualFold(q.r.Header.Get("Stream-Closed"), "true") }

// setEnd sets the headers that say where a stream ends.
func (q *request) setEnd(o api.Opened) {
	q.w.Header().Set("Stream-Next-Offset", offset(o.Object, o.Object.EventID))
	if o.Durable.Durable.Closed {
		q.w.Header().Set("Stream-Closed", "true")
	}
}

// setProducer sets the headers that tell a producer how far it is.
func (q *request) setProducer(asked *fsm.Producer, found fsm.DurableResult, err error) {
	if asked == nil {
		return
	}
	header, number := q.w.Header(), func(n uint64) string { return strconv.FormatUint(n, 10) }
	switch {
	case errors.Is(err, objects.ErrSequence) && found.Expected != asked.Seq:
		header.Set("Producer-Expected-Seq", number(found.Expected))
		header.Set("Producer-Received-Seq", number(asked.Seq))
	case errors.Is(err, objects.ErrStaleEpoch):
		header.Set("Producer-Epoch", number(found.Producer.Epoch))
	case err == nil && found.Producer.ID != "":
		header.Set("Producer-Epoch", number(found.Producer.Epoch))
		header.Set("Producer-Seq", number(found.Producer.Seq))
	}
}

// remove deletes a stream.
func (q *request) remove(ctx context.Context) error {
	if _, err := q.config.API.RemoveObject(ctx, q.caller, q.kind, q.ref); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// readKey reads the idempotency key of a write, with which it can be sent again as with
// REST: for those who have no producer's numbers.
func (q *request) readKey() error {
	key := q.r.Header.Get("Idempotency-Key")
	if key == "" {
		return nil
	}
	if utf8.RuneCountInString(key) > maxKey {
		return objects.ErrParameter.With("Idempotency-Key must have at most %d characters", maxKey)
	}
	q.caller.Key, q.caller.Scope = key, q.who.AccountSID+"/"+q.who.KeySID+"/"+q.who.Identity
	q.caller.Fingerprint = api.Fingerprint(string(q.body), q.r.Method, origin.RawPath(q.r.URL))
	return nil
}

var errBodyTooLarge = objects.ErrTooLarge.With("The body is larger than %d bytes", maxBody)

// hasBody reports whether a request is one whose body is read.
func (q *request) hasBody() bool {
	return q.kind == objects.KindList && !q.following && (q.r.Method == http.MethodPut || q.r.Method == http.MethodPost)
}

// bodySize is what a body takes of the bytes that a credential may have under way: one
// that does not say its size may be the largest one.
func (q *request) bodySize() int64 {
	if q.r.ContentLength < 0 {
		return maxBody
	}
	return q.r.ContentLength
}

// reserveBody takes the bytes of the body from what the credential may have under way;
// returnBody gives them back when the request is answered.
func (q *request) reserveBody() error {
	if q.r.ContentLength > maxBody {
		return errBodyTooLarge
	}
	if size := q.bodySize(); size > 0 && q.config.Bodies != nil && !q.config.Bodies.Take(q.who.Name(), size) {
		return objects.ErrTooMany.With("Too many bytes of requests are under way").After(1)
	}
	return nil
}

func (q *request) returnBody() {
	if q.config.Bodies != nil {
		q.config.Bodies.Return(q.who.Name(), q.bodySize())
	}
}

func (q *request) readBody() (err error) {
	q.body, err = io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return errBodyTooLarge
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		return objects.ErrTimeout
	case err != nil:
		return objects.ErrParameter.With("The body is not readable")
	}
	_ = q.control.SetReadDeadline(time.Time{})
	return nil
}
