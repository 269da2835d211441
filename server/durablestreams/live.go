package durablestreams

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/hub"
)

const (
	heartbeat    = 15 * time.Second // of silence, after which a reader hears that the connection lives
	writeTimeout = 10 * time.Second // for a reader to take what is sent

	// cursors count the intervals since an epoch, so that caches do not keep an answer
	// to a live reader for ever.
	cursorInterval = 20 * time.Second
	cursorJitter   = 3600 / 20
)

var cursorEpoch = time.Date(2024, 10, 9, 0, 0, 0, 0, time.UTC)

// cursor returns that of an answer to a reader who had another one before, which it
// is greater than.
func cursor(now time.Time, before string) string {
	n := int64(now.Sub(cursorEpoch) / cursorInterval)
	if had, err := strconv.ParseInt(before, 10, 64); err == nil && had >= n && had < 1<<53 {
		n = had + 1 + rand.Int64N(cursorJitter)
	}
	return strconv.FormatInt(n, 10)
}

// places are those of readers that wait, in all and of each credential or identity.
type places struct {
	total, each int

	mu    sync.Mutex
	shut  bool
	all   int
	of    map[string]int
	ended chan struct{} // closed when all have to go
}

func newPlaces(total, each int) *places {
	return &places{total: total, each: each, of: make(map[string]int), ended: make(chan struct{})}
}

// enter gives a place to a reader, who has to leave it. When ended is closed, it has to
// go at once.
func (p *places) enter(who string) (ended <-chan struct{}, leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.shut:
		return nil, nil, objects.ErrUnavailable.With("This node takes no live readers at the moment")
	case p.total >= 0 && p.all >= p.total:
		return nil, nil, objects.ErrUnavailable.With("This node has as many live readers as it may")
	case p.each >= 0 && p.of[who] >= p.each:
		return nil, nil, objects.ErrTooMany.With("There are as many live readers of this credential or identity as there may be").After(1)
	}
	p.all++
	p.of[who]++
	return p.ended, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all--
		if p.of[who]--; p.of[who] == 0 {
			delete(p.of, who)
		}
	}, nil
}

// LiveReaders returns how many readers are being told of what comes.
func (h *Handler) LiveReaders() int {
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	return h.places.all
}

// Drain sends all live readers away, and takes no more until Resume.
func (h *Handler) Drain() {
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	if !h.places.shut {
		h.places.shut = true
		close(h.places.ended)
	}
}

// Resume takes live readers again.
func (h *Handler) Resume() {
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	if h.places.shut {
		h.places.shut, h.places.ended = false, make(chan struct{})
	}
}

// reader is one that is told of what comes. It follows its object, the service and the
// key of its credentials in the hub, which wake it; what it is told it reads from the
// state. Only messages of streams, which are not there, wait in it.
type reader struct {
	*request
	holder  string // of its bytes
	object  objects.SID
	after   objects.EventID
	ended   <-chan struct{}
	wake    chan struct{}
	expiry  <-chan time.Time // of its token
	stopped []func()

	mu       sync.Mutex
	messages []*objects.Item
	bytes    int
}

// A reader of a stream keeps so many messages that it has not been told of; then the
// oldest are lost, as for every subscriber of one.
const (
	maxMessages     = 256
	maxMessageBytes = 256 << 10
)

// listen makes a reader of an object, which has to be stopped.
func (q *request) listen(object objects.SID, after objects.EventID) (*reader, error) {
	service, _ := q.config.View().Service(q.caller.Service)
	if service == nil {
		return nil, objects.ErrServiceGone
	}
	holder := service.SID.String() + q.who.Name() + "/" + q.who.Identity // not of one name in all services
	ended, leave, err := q.places.enter(holder)
	if err != nil {
		return nil, err
	}
	l := &reader{request: q, holder: holder, object: object, after: after, ended: ended, wake: make(chan struct{}, 1)}
	topics := []objects.SID{object, service.SID}
	if key, ok := objects.ParseSID(q.who.KeySID); ok {
		topics = append(topics, key)
	}
	l.stopped = append(l.stopped, leave)
	for _, topic := range topics {
		l.stopped = append(l.stopped, q.config.Hub.Follow(topic, l).Stop)
	}
	if q.who.Token {
		timer := time.NewTimer(q.who.Expires.Sub(q.config.Clock()))
		l.expiry = timer.C
		l.stopped = append(l.stopped, func() { timer.Stop() })
	}
	// The time for a request to arrive is over; net/http would take its end for that
	// of the client.
	_ = q.control.SetReadDeadline(time.Time{})
	return l, nil
}

func (l *reader) stop() {
	for _, stop := range l.stopped {
		stop()
	}
}

// OnEvent implements hub.Follower.
func (l *reader) OnEvent(e *hub.Event) (more bool) {
	if e.Type == objects.MessagePublished {
		l.keep(&objects.Item{Data: e.Message.Data})
	}
	l.rouse()
	return true
}

// OnGap implements hub.Follower.
func (l *reader) OnGap(*fsm.View) (more bool) {
	l.rouse()
	return true
}

// OnPanic implements hub.Follower. The reader goes on at its next heartbeat.
func (l *reader) OnPanic() {}

func (l *reader) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *reader) keep(message *objects.Item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, message)
	l.bytes += len(message.Data)
	for len(l.messages) > maxMessages || l.bytes > maxMessageBytes {
		l.bytes -= len(l.messages[0].Data)
		l.messages = l.messages[1:]
	}
}

// next returns what there is to tell, unless the reader may not be told any more.
func (l *reader) next() (part, error) {
	view, o, err := l.look()
	if err != nil {
		return part{}, err
	}
	p := read(view, o, l.after)
	if l.kind == objects.KindStream {
		l.mu.Lock()
		p.items, l.messages, l.bytes = l.messages, nil, 0
		l.mu.Unlock()
	}
	l.after = p.to
	return p, nil
}

var errEnded = errors.New("the reader is to go")

// wait waits for something to happen, for so long at most; then it reports false.
func (l *reader) wait(timer *time.Timer) (more bool, err error) {
	select {
	case <-l.wake:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-l.ended:
		return false, errEnded
	case <-l.expiry:
		return false, objects.ErrTokenExpired
	case <-l.r.Context().Done():
		return false, l.r.Context().Err()
	}
}

// live answers a reader that wants to be told of what comes.
func (q *request) live(ctx context.Context, query url.Values) error {
	at, given, err := parsePosition(query)
	if last := q.r.Header.Get("Last-Event-ID"); err == nil && last != "" && query.Get("live") == "sse" {
		at, err = parseOffset(last)
	}
	mode := query.Get("live")
	switch {
	case err != nil:
	case mode != "sse" && mode != "long-poll":
		err = objects.ErrParameter.With("live must be long-poll or sse")
	case !given:
		err = objects.ErrParameter.With("offset is missing, from which a live reader goes on")
	}
	if err != nil {
		return q.config.API.Refuse(ctx, q.caller, q.kind, q.ref, objects.Read, err)
	}
	found, after, err := q.goOn(ctx, at)
	if err != nil {
		return err
	}
	l, err := q.listen(found.Object.SID, after)
	if err != nil {
		return err
	}
	defer l.stop()
	if mode == "sse" {
		return l.stream(query.Get("cursor"))
	}
	return l.poll(query.Get("cursor"))
}

// poll answers as soon as there is something, or with nothing after a while.
func (l *reader) poll(before string) error {
	timer := time.NewTimer(l.config.LongPoll)
	defer timer.Stop()
	from := l.after
	for more := true; ; {
		if err := l.room(); err != nil {
			return err
		}
		p, err := l.next()
		if err != nil {
			return err
		}
		p.from = from
		if len(p.items) > 0 || p.ended() || !more {
			_ = l.control.SetWriteDeadline(time.Now().Add(writeTimeout))
			p.setPlace(l.w.Header())
			if !p.ended() {
				l.w.Header().Set("Stream-Cursor", cursor(l.config.Clock(), before))
			}
			l.w.Header().Set("Cache-Control", "no-store")
			if len(p.items) == 0 {
				l.w.WriteHeader(http.StatusNoContent)
				return nil
			}
			l.w.Header().Set("ETag", p.tag())
			body := p.encoding().body(nil, p.items)
			defer l.charge(len(body))()
			l.answer(http.StatusOK, body)
			return nil
		}
		l.record.stop()
		switch more, err = l.wait(timer); {
		case errors.Is(err, errEnded):
			more = false
		case l.r.Context().Err() != nil:
			return nil // nobody is there to be answered
		case err != nil:
			return err
		}
	}
}

// stream tells a reader of what comes as server-sent events, until one of the two has
// enough.
func (l *reader) stream(before string) error {
	first := true
	return l.follow(func() (told, error) {
		p, err := l.next()
		if err != nil {
			return told{}, err
		}
		e, t := p.encoding(), told{more: !p.whole, last: p.ended()}
		if first && e == base64Text {
			l.w.Header().Set("Stream-Sse-Data-Encoding", "base64")
		}
		if len(p.items) > 0 {
			t.bytes = e.appendData(t.bytes, p.items)
		}
		if len(p.items) > 0 || first || t.last {
			before = cursor(l.config.Clock(), before)
			t.bytes = p.appendControl(t.bytes, before)
		}
		first = false
		return t, nil
	}, nil)
}

// told is what a reader is told at a time.
type told struct {
	bytes []byte
	more  bool // there is more already
	last  bool // nothing can follow
}

// follow sends server-sent events for as long as next has some, or may have some
// later. Of an error that ends them the reader is told by ended, if there is such a
// function, and by the status if it is the first thing to be told.
func (l *reader) follow(next func() (told, error), ended func(b []byte, why *objects.Error) []byte) error {
	timer := time.NewTimer(heartbeat)
	defer timer.Stop()
	defer l.record.left()
	for first := true; ; first = false {
		var t told
		err := l.room()
		if err == nil {
			t, err = next()
		}
		if err != nil {
			return l.giveUp(first, err, ended)
		}
		if first {
			header := l.w.Header()
			header.Set("Content-Type", "text/event-stream")
			header.Set("Cache-Control", "no-cache, no-store")
			header.Set("X-Accel-Buffering", "no") // by a proxy
		}
		if !l.send(t.bytes) || t.last {
			return nil
		}
		if t.more {
			continue
		}
		timer.Reset(heartbeat)
		switch more, err := l.wait(timer); {
		case err != nil:
			return l.giveUp(false, err, ended)
		case !more && !l.send([]byte(":\n\n")):
			return nil
		}
	}
}

// giveUp ends what was followed. Once something was told, the answer's status is.
func (l *reader) giveUp(first bool, err error, ended func(b []byte, why *objects.Error) []byte) error {
	if first {
		return err
	}
	if why, ok := errors.AsType[*objects.Error](err); ok && ended != nil {
		l.send(ended(nil, why))
	}
	return nil
}

// room waits until what readers have not taken yet leaves room for more. None holds
// its bytes for longer than this waits.
func (l *reader) room() error {
	ctx, cancel := context.WithTimeout(l.r.Context(), writeTimeout)
	defer cancel()
	if l.config.Answers.Room(ctx, l.holder) != nil && l.r.Context().Err() == nil {
		return objects.ErrUnavailable
	}
	return nil // a client that is gone is met where it is written to
}

// charge counts bytes until what it returns is called.
func (l *reader) charge(n int) (taken func()) {
	l.config.Answers.Charge(l.holder, int64(n))
	return func() { l.config.Answers.Return(l.holder, int64(n)) }
}

// send writes to a reader, and reports whether it is still there.
func (l *reader) send(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	defer l.charge(len(b))()
	_ = l.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := l.w.Write(b); err != nil {
		return false
	}
	return l.control.Flush() == nil
}

// appendData appends items as one event.
func (e encoding) appendData(b []byte, items []*objects.Item) []byte {
	body := e.body(nil, items)
	b = append(b, "event: data\n"...)
	if e == base64Text {
		body = base64.StdEncoding.AppendEncode(nil, body)
	}
	body = bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	for line := range bytes.SplitSeq(bytes.ReplaceAll(body, []byte("\r"), []byte("\n")), []byte("\n")) {
		b = append(b, "data:"...)
		if len(line) > 0 && line[0] == ' ' {
			b = append(b, ' ') // one is taken for the field's
		}
		b = append(append(b, line...), '\n')
	}
	return append(b, '\n')
}

// appendControl appends the event that says where in its stream a reader is. Its id is
// by which a browser comes back.
func (p *part) appendControl(b []byte, cursor string) []byte {
	at := offset(p.object, p.to)
	b = append(append(append(b, "id: "...), at...), "\nevent: control\ndata:{\"streamNextOffset\":\""...)
	b = append(append(b, at...), '"')
	if p.ended() {
		return append(b, ",\"upToDate\":true,\"streamClosed\":true}\n\n"...)
	}
	b = append(append(append(b, `,"streamCursor":"`...), cursor...), '"')
	if p.whole {
		b = append(b, `,"upToDate":true`...)
	}
	return append(b, "}\n\n"...)
}
