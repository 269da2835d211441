package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/hub"
	"lockstep/server/realtime/wire"
)

const (
	// maxBatch is how many objects clients are told to put into one request.
	maxBatch = 100
	// deliveryMillis is the silence after which a client asks again for what is
	// not established.
	deliveryMillis = 2000

	liveQueryType = "live_query"
)

// subscriptionBatch is the body of a subscription request (part 5). The
// correlation id is passed on as it came: mobile clients send any 64-bit
// integer.
type subscriptionBatch struct {
	Version     json.RawMessage     `json:"event_protocol_version"`
	Action      string              `json:"action"`
	Correlation json.RawMessage     `json:"correlation_id"`
	Requests    []subscriptionOrder `json:"requests"`

	version wire.Version // what Version says
}

// recipient is how the client that asked is to be answered.
type recipient struct {
	version     wire.Version
	correlation []byte // of the request; nil once it is answered
}

func (b *subscriptionBatch) recipient() recipient {
	return recipient{version: b.version, correlation: b.Correlation}
}

// subscriptionOrder is the wish for one object.
type subscriptionOrder struct {
	Object    string    `json:"object_sid"`
	Type      string    `json:"object_type"`
	LastEvent lastEvent `json:"last_event_id"`
	Index     string    `json:"index_name"`
	Query     string    `json:"query_string"`
}

// lastEvent is the event up to which a client says that it knows an object. One
// that is no event id fails its own subscription, not the batch.
type lastEvent struct {
	id    objects.EventID
	given bool
	valid bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *lastEvent) UnmarshalJSON(b []byte) error {
	l.given = string(b) != "null"
	l.valid = json.Unmarshal(b, &l.id) == nil
	return nil
}

// parseSubscriptions decodes the body of a request for subscriptions.
func parseSubscriptions(body []byte) (*subscriptionBatch, error) {
	b := new(subscriptionBatch)
	if err := json.Unmarshal(body, b); err != nil {
		return nil, objects.ErrParameter.With("The body is not a subscription request")
	}
	version, err := wire.ParseVersion(b.Version)
	if err != nil {
		return nil, err
	}
	b.version = version
	if !isInt64(string(b.Correlation)) {
		return nil, objects.ErrParameter.With("correlation_id must be an integer of 64 bits")
	}
	if b.Requests == nil || len(b.Requests) > objects.MaxSubscriptions {
		return nil, objects.ErrParameter.With("requests must be an array of at most %d elements", objects.MaxSubscriptions)
	}
	return b, nil
}

// isInt64 reports whether a text is an integer of 64 bits, signed or not.
func isInt64(text string) bool {
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		return true
	}
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil
}

// keys order a batch behind other batches, and behind what was asked of its objects
// before. Of one that was not understood there is no more to say.
func (b *subscriptionBatch) keys() []orderKey {
	keys := []orderKey{{}}
	if b == nil {
		return keys
	}
	for _, o := range b.Requests {
		if sid, ok := objects.ParseSID(o.Object); ok {
			keys = append(keys, orderKey{sid: sid})
		}
	}
	return keys
}

// subscribe establishes or cancels subscriptions. What that brings follows the
// answer.
func subscribe(ctx context.Context, c *call) (answer, error) {
	switch b := c.subscriptions; b.Action {
	case "cancel":
		return c.session.cancelBatch(b), nil
	case "establish":
		return c.session.establishBatch(ctx, b)
	}
	return answer{}, objects.ErrParameter.With("action must be establish or cancel")
}

func subscriptionsAnswer(then func()) answer {
	return answer{status: http.StatusOK, then: then, body: func(b []byte) []byte {
		b = append(b, `{"max_batch_size":`...)
		b = strconv.AppendInt(b, maxBatch, 10)
		b = append(b, `,"ttl_in_s":-1,"estimated_delivery_in_ms":`...)
		b = strconv.AppendInt(b, deliveryMillis, 10)
		return append(b, '}')
	}}
}

func (s *session) cancelBatch(b *subscriptionBatch) answer {
	for _, o := range b.Requests {
		s.queue.Unsubscribe(o.Object)
	}
	return subscriptionsAnswer(func() {
		for _, o := range b.Requests {
			s.push(wire.AppendCanceled(nil, b.version, o.Object, b.Correlation))
		}
	})
}

// establishBatch first has everything that happens offered, then takes a
// linearizable point, and then lets each subscription catch up to that and
// beyond.
func (s *session) establishBatch(ctx context.Context, b *subscriptionBatch) (answer, error) {
	starts, queries := make([]start, len(b.Requests)), new(queryBatch)
	for i, o := range b.Requests {
		starts[i] = s.begin(o, b.recipient(), queries)
	}
	view, err := s.config.Node.Read(ctx, objects.Bucket{})
	if err != nil {
		for _, o := range b.Requests {
			s.queue.Unsubscribe(o.Object)
		}
		return answer{}, fmt.Errorf("%w: %w", objects.ErrUnavailable, err)
	}
	return subscriptionsAnswer(func() {
		defer queries.release()
		queries.prepare(ctx, view)
		for _, start := range starts {
			start(ctx, view)
		}
	}), nil
}

// start lets a subscription that has begun catch up. The view is of a
// linearizable point since it has begun.
type start func(ctx context.Context, view *fsm.View)

// begin registers a subscription, in the place of an earlier one on the same
// object. Live queries are put into their batch.
func (s *session) begin(o subscriptionOrder, to recipient, queries *queryBatch) start {
	if !s.queue.Has(o.Object) && s.queue.Subscriptions() >= objects.MaxSubscriptions {
		return s.refuseSubscription(o, to, objects.ErrSubscriptions)
	}
	if o.LastEvent.given && !o.LastEvent.valid {
		s.queue.Unsubscribe(o.Object)
		return s.refuseSubscription(o, to, objects.ErrParameter.With("last_event_id must be a whole number or null"))
	}
	if o.Type == liveQueryType {
		return s.beginQuery(o, to, queries)
	}
	sid, ok := objects.ParseSID(o.Object)
	if !ok || sid.Kind().String() != o.Type || !subscribable(sid.Kind()) {
		return s.refuseSubscription(o, to, objects.ErrNotFound)
	}
	source := &objectSource{session: s, object: sid, recipient: to}
	sub := s.queue.SubscribeObject(sid, source)
	return func(_ context.Context, view *fsm.View) { sub.Start(s.startingPoint(o, sid, view)) }
}

func (s *session) refuseSubscription(o subscriptionOrder, to recipient, why *objects.Error) start {
	return func(context.Context, *fsm.View) {
		s.server.metrics.refused(why)
		s.push(wire.AppendFailed(nil, to.version, o.Object, to.correlation, why))
	}
}

func subscribable(kind objects.Kind) bool {
	return kind >= objects.KindDocument && kind <= objects.KindStream
}

// startingPoint is the event up to which the client knows the object. A client
// that names none has opened it from its storage, without items: it needs what
// happened since it read items on this session, and else nothing that is old
// (part 6).
func (s *session) startingPoint(o subscriptionOrder, sid objects.SID, view *fsm.View) objects.EventID {
	if sid.Kind() == objects.KindStream {
		return 0
	}
	if o.LastEvent.given {
		return o.LastEvent.id
	}
	if id, ok := s.fetched.first(sid); ok {
		return id
	}
	if object, ok := view.ObjectBySID(sid); ok {
		return object.EventID
	}
	return 0
}

// objectSource tells a client of one object.
type objectSource struct {
	recipient
	session  *session
	object   objects.SID
	added    hub.Additions
	replayed int
}

// Form implements hub.Source.
func (o *objectSource) Form() hub.Form { return hub.Form(o.version) }

// Check implements hub.Source.
func (o *objectSource) Check(view *fsm.View) *objects.Error {
	_, why := o.find(view)
	return why
}

func (o *objectSource) find(view *fsm.View) (*objects.Object, *objects.Error) {
	service, object := fsm.Ref{SID: o.session.service.SID}, fsm.Ref{SID: o.object}
	_, found, refused := view.Find(o.session.actor, service, o.object.Kind(), object, objects.Read)
	return found, refused
}

// replayLength bounds the events of one part of a replay, and wire.WriteSize their
// bytes, apart from the event that exceeds it.
const replayLength = 64

// Replay implements hub.Source.
func (o *objectSource) Replay(b []byte, view *fsm.View, known, after, until objects.EventID) ([]byte, objects.EventID, bool, *objects.Error) {
	object, why := o.find(view)
	if why != nil || object.Kind() == objects.KindStream {
		return b, after, false, why
	}
	events, why := view.Replay(object, known, after, replayLength)
	if why != nil {
		return b, after, false, why
	}
	part := upTo(events, wire.WriteSize)
	reached, more := object.EventID, len(part) < len(events) || len(part) == replayLength
	if more {
		reached = part[len(part)-1].ID
	}
	if until != 0 && reached > until {
		reached, more = until, true
		part = slices.DeleteFunc(part, func(e objects.Event) bool { return e.ID > until })
	}
	o.added.Correct(part, more)
	heard := part[:0]
	for _, e := range part {
		if o.session.queue.Suppressed(&e) {
			continue
		}
		if e.Type == objects.ItemAdded && e.ID > e.Item.Added && o.session.made.has(at(object, e.Item.Added)) {
			e.Type = objects.ItemUpdated
		}
		heard = append(heard, e)
	}
	o.replayed += len(heard)
	o.session.server.metrics.replayed.Add(float64(len(heard)))
	return wire.AppendEvents(b, o.version, o.session.config.eventOrigin(), heard, o.correlation), reached, more, nil
}

// upTo returns the first events, with about so many bytes of data.
func upTo(events []objects.Event, size int) []objects.Event {
	for i, e := range events {
		if size <= 0 {
			return events[:i]
		}
		if e.Item != nil {
			size -= len(e.Item.Data)
		}
	}
	return events
}

// Established implements hub.Source.
func (o *objectSource) Established(b []byte, at objects.EventID) []byte {
	o.session.server.metrics.established(o.replayed)
	b = wire.AppendEstablished(b, o.version, o.object.String(), o.object.Kind().String(), o.correlation, at)
	o.correlation = nil
	return b
}

// Ended implements hub.Source.
func (o *objectSource) Ended(b []byte, why *objects.Error) []byte {
	if o.correlation != nil {
		o.session.server.metrics.refused(why)
	}
	return wire.AppendFailed(b, o.version, o.object.String(), o.correlation, why)
}

// made remembers the last items that the session has made, by the event of
// that. When others have changed one since, a replay has to say so: clients
// before 0.7 ignore that an item was added which they know already.
type made struct {
	mu   sync.Mutex
	last []hub.Point // oldest first
}

const maxMade = 64

func (m *made) note(p hub.Point) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.last) == maxMade {
		m.last = slices.Delete(m.last, 0, 1)
	}
	m.last = append(m.last, p)
}

func (m *made) has(p hub.Point) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.last, p)
}

// fetched remembers which event of an object held when the session first read
// items of it.
type fetched struct {
	mu   sync.Mutex
	last map[objects.SID]objects.EventID
}

func (f *fetched) note(o *objects.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		f.last = make(map[objects.SID]objects.EventID)
	}
	if _, known := f.last[o.SID]; !known && len(f.last) < objects.MaxSubscriptions {
		f.last[o.SID] = o.EventID
	}
}

func (f *fetched) first(sid objects.SID) (objects.EventID, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, ok := f.last[sid]
	if !ok && len(f.last) >= objects.MaxSubscriptions {
		return 0, true // it may have been fetched, and not been noted: replay all
	}
	return id, ok
}
