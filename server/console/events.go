package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
)

const (
	maxStreams          = 64 // of events, on a node
	maxStreamsOfSession = 6

	// beat is how often a stream says that it is there, and looks whether its session
	// is.
	beat = 5 * time.Second

	// maxEventRate is how many events a second are told; the others are counted.
	maxEventRate = 200

	// maxEventData is how much of an event's data is told.
	maxEventData = 4 << 10

	// writePatience is how long a page may take nothing.
	writePatience = 10 * time.Second
)

// streams bounds the streams of events and ends them.
type streams struct {
	mu     sync.Mutex
	count  int
	ofUser map[string]int
	ctx    context.Context // ends when no stream goes on
	end    context.CancelFunc
}

func newStreams() *streams {
	s := &streams{ofUser: make(map[string]int)}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

func (s *streams) enter(session string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count >= maxStreams || s.ofUser[session] >= maxStreamsOfSession {
		return false
	}
	s.count++
	s.ofUser[session]++
	return true
}

func (s *streams) leave(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count--
	if s.ofUser[session]--; s.ofUser[session] == 0 {
		delete(s.ofUser, session)
	}
}

// line is what a page is told, as a line of JSON.
type line struct {
	Type     string          `json:"type"`
	ID       objects.EventID `json:"id,omitempty"`
	At       int64           `json:"at,omitempty"`
	Service  string          `json:"service,omitempty"`
	Object   string          `json:"object,omitempty"`
	Kind     string          `json:"kind,omitempty"`
	Name     string          `json:"name,omitempty"`
	Item     string          `json:"item,omitempty"`
	Identity string          `json:"identity,omitempty"`
	Revision string          `json:"revision,omitempty"`
	Bytes    int             `json:"bytes,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"` // unless it is long
	Count    int             `json:"count,omitempty"`
}

// filter says which events a page wants.
type filter struct {
	who     *user
	service objects.SID // zero: all
	object  objects.SID // zero: all
}

func (f filter) wants(e *objects.Event) bool {
	switch {
	case e.Type == objects.EndpointConnected, e.Type == objects.EndpointDisconnected:
		return false
	case e.Service == nil: // keys
		return f.service.IsZero() && f.object.IsZero() && f.who.Scope.Service.IsZero()
	case !f.who.mayUse(e.Service.SID):
		return false
	case !f.service.IsZero() && e.Service.SID != f.service:
		return false
	}
	return f.object.IsZero() || e.Object != nil && e.Object.SID == f.object
}

// events streams what happens from now on.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	who, err := c.authenticate(r)
	if err == nil && !who.rights().Data {
		err = objects.ErrKeyScope
	}
	f := filter{who: who}
	if err == nil {
		f.service, f.object, err = c.wanted(r)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	if !c.streams.enter(who.ID) {
		refuse(w, objects.ErrTooMany.With("There are as many streams of events as there may be").After(int(beat/time.Second)))
		return
	}
	defer c.streams.leave(who.ID)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(c.streams.ctx, cancel)()
	w.Header().Set("Content-Type", "application/x-ndjson")
	s := &stream{console: c, filter: f, w: w, control: http.NewResponseController(w), from: time.Now()}
	s.run(ctx, c.Node.Feed().Follow())
}

func (c *Console) wanted(r *http.Request) (service, object objects.SID, err error) {
	q := r.URL.Query()
	if text := q.Get("service"); text != "" {
		s, ok := c.Node.View().Service(fsm.ParseRef(text))
		if !ok {
			return service, object, objects.ErrServiceGone
		}
		service = s.SID
	}
	if text := q.Get("object"); text != "" {
		var ok bool
		if object, ok = objects.ParseSID(text); !ok {
			return service, object, objects.ErrNotFound
		}
	}
	return service, object, nil
}

// stream is one stream of events. It belongs to one goroutine.
type stream struct {
	console *Console
	filter  filter
	w       http.ResponseWriter
	control *http.ResponseController
	failed  bool

	from    time.Time // of the second that is counted
	sent    int       // in it
	skipped int
}

func (s *stream) run(ctx context.Context, cursor *fsm.Cursor) {
	s.tell(line{Type: "ready", At: s.console.Clock().UnixMilli()})
	for !s.failed {
		waiting, cancel := context.WithTimeout(ctx, beat)
		batch, err := cursor.Next(waiting)
		cancel()
		if ctx.Err() != nil {
			return
		}
		who := s.filter.who
		if s.console.Clock().UnixMilli() >= who.Until || s.console.sessions.hasEnded(who.ID) || !s.console.stillGood(who) {
			s.tell(line{Type: "logged_out"})
			return
		}
		switch {
		case errors.Is(err, fsm.ErrBehind):
			s.tell(line{Type: "missed"})
		case err != nil: // nothing for a while
			s.report()
			s.tell(line{Type: "beat", At: s.console.Clock().UnixMilli()})
		}
		for i := range batch.Events {
			s.event(&batch.Events[i].Event)
		}
		s.flush()
	}
}

func (s *stream) event(e *objects.Event) {
	if !s.filter.wants(e) {
		return
	}
	if now := time.Now(); now.Sub(s.from) >= time.Second {
		s.report()
		s.from, s.sent = now, 0
	}
	if s.sent++; s.sent > maxEventRate {
		s.skipped++
		return
	}
	s.write(lineOf(e))
}

// report tells how many events were not told.
func (s *stream) report() {
	if s.skipped > 0 {
		s.write(line{Type: "skipped", Count: s.skipped})
		s.skipped = 0
	}
}

func (s *stream) tell(l line) {
	s.write(l)
	s.flush()
}

func (s *stream) write(l line) {
	b, err := json.Marshal(l)
	if err == nil {
		err = s.control.SetWriteDeadline(time.Now().Add(writePatience))
	}
	if err == nil {
		_, err = s.w.Write(append(b, '\n'))
	}
	s.failed = s.failed || err != nil
}

func (s *stream) flush() {
	if s.control.Flush() != nil {
		s.failed = true
	}
}

func lineOf(e *objects.Event) line {
	l := line{ID: e.ID, At: e.At, Identity: e.Identity}
	if e.Service != nil {
		l.Service = e.Service.SID.String()
	}
	kind := objects.KindNone
	var data []byte
	if o := e.Object; o != nil {
		kind = o.Kind()
		l.Object, l.Kind, l.Name, l.Revision = o.SID.String(), kind.String(), o.UniqueName, o.Revision().String()
		if kind == objects.KindDocument && e.Type != objects.ObjectRemoved {
			data = o.Data
		}
	}
	if i := e.Item; i != nil {
		l.Item, l.Revision = i.Key, i.Revision.String()
		if kind == objects.KindList {
			l.Item = strconv.FormatUint(i.Index, 10)
		}
		if e.Type != objects.ItemRemoved {
			data = i.Data
		}
	}
	if e.Message != nil {
		data, l.Revision = e.Message.Data, ""
	}
	if !e.Key.IsZero() {
		l.Item = e.Key.String()
	}
	l.Type = eventName(e.Type, kind)
	if l.Bytes = len(data); len(data) <= maxEventData {
		l.Data = data
	}
	return l
}

// eventNames name what happened to an object of any kind, or to something else.
var eventNames = map[objects.EventType]string{
	objects.ObjectCreated: "created", objects.ObjectUpdated: "updated", objects.ObjectRemoved: "removed", objects.ContextUpdated: "context_updated",
	objects.ItemAdded: "item_added", objects.ItemUpdated: "item_updated", objects.ItemRemoved: "item_removed", objects.MessagePublished: "message_published",
	objects.PermissionChanged: "permission_changed", objects.ServiceChanged: "service_changed", objects.ServiceRemoved: "service_removed", objects.KeyRevoked: "key_revoked",
	objects.EndpointConnected: "endpoint_connected", objects.EndpointDisconnected: "endpoint_disconnected",
}

func eventName(t objects.EventType, kind objects.Kind) string {
	name := eventNames[t]
	if kind == objects.KindNone {
		return name
	}
	return kind.String() + "_" + name
}
