package realtime

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"

	"lockstep/objects"
)

// replayChunk is how many events are looked up at a time for a replay.
const replayChunk = 64

// subscription is a session's cursor on one object. The session's lock guards it.
//
// It catches up from the state, in the writer, until it has all that the latest
// view has; from then on it is live and the hub's events go straight to the
// outbox. While it catches up, events are not kept: what they tell is in the
// view already. It does not catch up while a write of the session to the object
// is under way, because the view may contain that before the client is
// answered.
type subscription struct {
	object      objects.SID
	correlation json.RawMessage // of the request, until established
	live        bool
	known       objects.EventID // what the client knew when it began to catch up
	sent        objects.EventID // what it has been sent
	replayed    int
	held        []held // events behind one whose reply is still to be sent
}

type held struct {
	event *objects.Event
	frame []byte
}

// subscriptionsRequest is the body of POST /v4/Subscriptions (part 5). The
// correlation id is passed on as it is: mobile clients send any 64-bit integer.
type subscriptionsRequest struct {
	Action      string                `json:"action"`
	Correlation json.RawMessage       `json:"correlation_id"`
	Requests    []subscriptionRequest `json:"requests"`
}

type subscriptionRequest struct {
	Object    string           `json:"object_sid"`
	Type      string           `json:"object_type"`
	LastEvent *objects.EventID `json:"last_event_id"`
	Index     string           `json:"index_name"`
	Query     string           `json:"query_string"`
}

const subscriptionsAnswer = `{"max_batch_size":100,"ttl_in_s":-1,"estimated_delivery_in_ms":2000}`

// maxBatch is the largest number of requests in one batch that is told to
// clients; more are refused.
const maxBatch = 1000

// correlationPattern is that of a 64-bit integer.
var correlationPattern = regexp.MustCompile(`^-?[0-9]{1,20}$`)

// subscriptions serves a batch: the answer first, then what it brings about.
func (s *session) subscriptions(r *request) {
	var body subscriptionsRequest
	err := json.Unmarshal(r.body, &body)
	valid := err == nil && correlationPattern.Match(body.Correlation) &&
		(body.Action == "establish" || body.Action == "cancel") && body.Requests != nil && len(body.Requests) <= maxBatch
	if !valid {
		s.fail(r, objects.ErrParameter)
		return
	}
	s.reply(r, 200, []byte(subscriptionsAnswer))
	if body.Action == "cancel" {
		for _, q := range body.Requests {
			s.cancelSubscription(q, body.Correlation)
		}
		return
	}
	s.establish(r, body)
}

func (s *session) cancelSubscription(q subscriptionRequest, correlation json.RawMessage) {
	if sid, ok := objects.ParseSID(q.Object); ok {
		s.mu.Lock()
		if sub := s.subs[sid]; sub != nil {
			s.forget(sub)
		}
		s.outbox.push(canceledFrame(q.Object, correlation))
		s.mu.Unlock()
		return
	}
	s.leaveQuery(q.Object)
	s.outbox.push(canceledFrame(q.Object, correlation))
}

// establish registers with the hub first, then takes a linearizable point, and
// then lets each object catch up.
func (s *session) establish(r *request, body subscriptionsRequest) {
	var subs []*subscription
	var queries []subscriptionRequest
	for _, q := range body.Requests {
		if q.Type == "live_query" {
			queries = append(queries, q)
			continue
		}
		sid, ok := objects.ParseSID(q.Object)
		if !ok || sid.Kind().String() != q.Type {
			s.outbox.push(failedFrame(q.Object, body.Correlation, objects.ErrNotFound))
			continue
		}
		sub := s.follow(sid, q.LastEvent, body.Correlation)
		if sub == nil {
			s.outbox.push(failedFrame(q.Object, body.Correlation, objects.ErrSubscriptions))
			continue
		}
		subs = append(subs, sub)
	}
	if _, err := s.server.config.Node.Read(r.ctx, ""); err != nil {
		s.giveUp(subs, queries, body.Correlation)
		return
	}
	s.mu.Lock()
	for _, sub := range subs {
		if s.subs[sub.object] == sub {
			s.replays = append(s.replays, sub)
		}
	}
	s.mu.Unlock()
	s.outbox.signal()
	for _, q := range queries {
		s.subscribeQuery(r.ctx, q, body.Correlation)
	}
}

// giveUp says that subscriptions did not come to be, at a time when nobody can
// say what they would have to begin with: the client asks again.
func (s *session) giveUp(subs []*subscription, queries []subscriptionRequest, correlation json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range subs {
		if s.subs[sub.object] == sub {
			s.forget(sub)
			s.outbox.push(canceledFrame(sub.object.String(), correlation))
		}
	}
	for _, q := range queries {
		s.outbox.push(canceledFrame(q.Object, correlation))
	}
}

// follow begins a subscription; a repeated one starts afresh. It gives nil when
// the session has as many as it may.
func (s *session) follow(sid objects.SID, last *objects.EventID, correlation json.RawMessage) *subscription {
	s.following.Lock()
	defer s.following.Unlock()
	s.mu.Lock()
	if old := s.subs[sid]; old != nil {
		s.unhold(old)
	} else {
		if len(s.subs)+len(s.queries) >= objects.MaxSubscriptions {
			s.mu.Unlock()
			return nil
		}
		s.server.metrics.subscriptions.Inc()
	}
	sub := &subscription{object: sid, correlation: correlation}
	if last != nil {
		sub.known, sub.sent = *last, *last
	} else if first, ok := s.fetched[sid]; ok {
		sub.known, sub.sent = first, first
	} else {
		// A page that was reloaded: it needs nothing older than what it will read.
		sub.known, sub.sent = fromNow, fromNow
	}
	s.subs[sid] = sub
	s.mu.Unlock()
	s.server.hub.Follow(s, sid)
	return sub
}

// fromNow stands for whatever the object's last event is.
const fromNow = ^objects.EventID(0)

// catchUp lets the first subscription that is behind, and can, replay a chunk.
// It gives false when there is none, or when enough waits to be written.
func (s *session) catchUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(s.replays) && !s.outbox.enough(); {
		sub := s.replays[i]
		current := s.subs[sub.object] == sub // neither cancelled nor established anew
		if current && s.echo.writing[sub.object] > 0 {
			i++
			continue
		}
		if !current || s.replay(sub) {
			s.replays = slices.Delete(s.replays, i, i+1)
		}
		if current {
			return true
		}
	}
	return false
}

// replay sends the next chunk from the latest view. When that was all, the
// subscription is live: every later event is told by the hub, because the view
// was taken under the lock that the hub's events need.
func (s *session) replay(sub *subscription) (done bool) {
	view := s.server.config.Node.View()
	o, ok := view.ObjectBySID(sub.object)
	if !ok || o.ServiceSID != s.service.SID {
		s.endSubscription(sub, objects.ErrGone(sub.object.Kind()))
		return true
	}
	if service, ok := view.ServiceOf(o); !ok || !view.May(s.actor, service, o, objects.Read) {
		s.endSubscription(sub, objects.ErrForbidden)
		return true
	}
	if sub.sent == fromNow {
		sub.known, sub.sent = o.EventID, o.EventID
	}
	if o.Kind() != objects.KindStream {
		events, refused := view.Replay(o, sub.known, sub.sent, replayChunk)
		if refused != nil {
			s.endSubscription(sub, refused)
			return true
		}
		for i := range events {
			if s.outbox.enough() {
				return false
			}
			if !s.echo.told(&events[i]) {
				s.outbox.push(eventFrame(s.server.form, &events[i], sub.correlation))
			}
			sub.sent = events[i].ID
			sub.replayed++
		}
		if len(events) == replayChunk {
			return false
		}
	}
	sub.sent = o.EventID
	sub.live = true
	if sub.correlation != nil {
		s.outbox.push(establishedFrame(o.SID.String(), o.Kind().String(), sub.correlation, sub.sent))
		s.server.metrics.resubscribed("completed", sub.replayed)
		sub.correlation = nil
	}
	return true
}

// endSubscription tells the client that it is over, and why.
func (s *session) endSubscription(sub *subscription, why *objects.Error) {
	if sub.correlation != nil {
		s.server.metrics.resubscribed(strconv.Itoa(why.Status), 0)
	}
	s.outbox.push(failedFrame(sub.object.String(), sub.correlation, why))
	s.forget(sub)
}

// forget takes a subscription away; the writer tells the hub.
func (s *session) forget(sub *subscription) {
	if s.subs[sub.object] == sub {
		s.unhold(sub)
		delete(s.subs, sub.object)
		s.ended = append(s.ended, sub.object)
		s.server.metrics.subscriptions.Dec()
		s.outbox.signal()
	}
}

// Tell implements hub.Subscriber.
func (s *session) Tell(e *objects.Event, frame func() []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subs[e.Object.SID]
	switch {
	case sub == nil:
	case e.Type == objects.PermissionChanged:
		if e.Identity == s.actor.Identity {
			s.recheck(sub)
		}
	case !sub.live || (e.ID != 0 && e.ID <= sub.sent):
	default:
		pending := s.echo.pending(e.Origin)
		if pending != nil {
			pending.holds = sub.object
		}
		if pending != nil || len(sub.held) > 0 {
			s.hold(sub, held{e, frame()})
		} else {
			s.deliver(sub, e, frame)
		}
	}
}

// hold keeps an event until the session's own command has been answered. All
// that a session holds is bounded as its outbox is.
func (s *session) hold(sub *subscription, h held) {
	if s.held >= s.outbox.maxLength || s.heldBytes+len(h.frame) > s.outbox.maxBytes {
		s.fallBehind(sub)
		return
	}
	sub.held = append(sub.held, h)
	s.held++
	s.heldBytes += len(h.frame)
}

// unhold lets go of what a subscription holds.
func (s *session) unhold(sub *subscription) {
	for len(sub.held) > 0 {
		s.unholdFirst(sub)
	}
	sub.held = nil
}

func (s *session) unholdFirst(sub *subscription) held {
	h := sub.held[0]
	sub.held[0] = held{}
	sub.held = sub.held[1:]
	s.held--
	s.heldBytes -= len(h.frame)
	return h
}

// deliver sends a live event on, unless it echoes what the session's own reply
// has told.
func (s *session) deliver(sub *subscription, e *objects.Event, frame func() []byte) {
	switch {
	case s.echo.own(e.Origin) && (e.Type == objects.ItemRemoved || e.Type == objects.MessagePublished):
	case e.Type == objects.MessagePublished:
		s.server.metrics.dropped.Add(float64(s.outbox.offerLossy(frame())))
		return
	case e.Type == objects.ObjectRemoved:
		s.outbox.push(frame())
		s.forget(sub)
	case !s.outbox.offer(frame()):
		s.fallBehind(sub)
		return
	}
	if e.ID != 0 {
		sub.sent = e.ID
	}
}

// fallBehind gives up a subscription's place: it catches up from the state when
// the client has taken what waits for it.
func (s *session) fallBehind(sub *subscription) {
	s.unhold(sub)
	sub.live = false
	sub.known, sub.replayed = sub.sent, 0
	s.replays = append(s.replays, sub)
	s.server.metrics.behind.Inc()
	s.outbox.signal()
}

// release lets events go that waited for the answer to a request.
func (s *session) release(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub := s.subs[s.echo.answered(r.command, r.object)]; sub != nil {
		for len(sub.held) > 0 && s.echo.pending(sub.held[0].event.Origin) == nil {
			h := s.unholdFirst(sub)
			s.deliver(sub, h.event, func() []byte { return h.frame })
		}
	}
	if len(s.replays) > 0 {
		s.outbox.signal() // one may have waited for this
	}
}

// recheck ends a subscription whose object may no longer be read.
func (s *session) recheck(sub *subscription) {
	view := s.server.config.Node.View()
	o, ok := view.ObjectBySID(sub.object)
	if !ok {
		return // its removal is on the way
	}
	if service, ok := view.ServiceOf(o); ok && !view.May(s.actor, service, o, objects.Read) {
		s.endSubscription(sub, objects.ErrForbidden)
	}
}

// Lost implements hub.Subscriber: everything catches up from the state.
func (s *session) Lost() {
	s.verify()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if sub.live {
			s.fallBehind(sub)
		}
	}
}

// Notice implements hub.Subscriber.
func (s *session) Notice(e *objects.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Type == objects.KeyRevoked:
		if s.principal.KeySID == e.Key.String() {
			s.close(401, "UNAUTHORIZED")
		}
	case e.Service.SID != s.service.SID:
	case e.Type == objects.ServiceRemoved:
		for _, sub := range s.subs {
			s.endSubscription(sub, objects.ErrGone(sub.object.Kind()))
		}
		s.close(401, "UNAUTHORIZED")
	default:
		for _, sub := range s.subs {
			s.recheck(sub)
		}
	}
}

// note remembers what the session knew of an object when it first read items
// of it, for a subscription that names no event (part 6).
func (s *session) note(o *objects.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.fetched[o.SID]; !known && len(s.fetched) < objects.MaxSubscriptions {
		s.fetched[o.SID] = o.EventID
	}
}
