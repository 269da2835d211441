package realtime

import (
	"encoding/json"
	"strconv"

	"lockstep/fsm"
	"lockstep/objects"
)

// replayChunk is how many events are replayed before the writer looks whether
// there is something else to send.
const replayChunk = 64

// heldEvents bounds the events of one object that wait for a reply to the
// session's own command.
const heldEvents = 256

// subscription is a session's cursor on one object. The session's lock guards it.
//
// It catches up from the state, in the writer, until it has all that the latest
// view has; from then on it is live and the hub's events go straight to the
// outbox. While it catches up, events are not kept: what they tell is in the
// view already.
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

// subscriptions serves a batch: the answer first, then what it brings about.
func (s *session) subscriptions(r *request) {
	var body subscriptionsRequest
	err := json.Unmarshal(r.body, &body)
	valid := err == nil && len(body.Correlation) > 0 && json.Valid(body.Correlation) &&
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
		s.following.Lock()
		s.mu.Lock()
		if s.subs[sid] != nil {
			s.server.metrics.subscriptions.Dec()
		}
		delete(s.subs, sid)
		s.outbox.push(canceledFrame(q.Object, correlation), false)
		s.mu.Unlock()
		s.server.hub.Unfollow(s, sid)
		s.following.Unlock()
		return
	}
	s.leaveQuery(q.Object)
	s.outbox.push(canceledFrame(q.Object, correlation), false)
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
			s.outbox.push(failedFrame(q.Object, body.Correlation, objects.ErrNotFound), false)
			continue
		}
		sub := s.follow(sid, q.LastEvent, body.Correlation)
		if sub == nil {
			s.outbox.push(failedFrame(q.Object, body.Correlation, objects.ErrSubscriptions), false)
			continue
		}
		subs = append(subs, sub)
	}
	if _, err := s.server.config.Node.Read(r.ctx, ""); err != nil {
		for _, q := range body.Requests {
			s.cancelSubscription(q, body.Correlation)
		}
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

// follow begins a subscription; a repeated one starts afresh. It gives nil when
// the session has as many as it may.
func (s *session) follow(sid objects.SID, last *objects.EventID, correlation json.RawMessage) *subscription {
	s.following.Lock()
	defer s.following.Unlock()
	s.mu.Lock()
	if s.subs[sid] == nil {
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

// catchUp lets the first subscription that is behind replay a chunk. It gives
// false when none is.
func (s *session) catchUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.replays) > 0 {
		sub := s.replays[0]
		if s.subs[sub.object] != sub { // cancelled, or established anew
			s.replays = s.replays[1:]
			continue
		}
		if done := s.replay(sub); done {
			s.replays = s.replays[1:]
		}
		return true
	}
	s.replays = nil
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
			s.outbox.push(eventFrame(s.server.form, &events[i], sub.correlation), false)
			sub.sent = events[i].ID
		}
		sub.replayed += len(events)
		if len(events) == replayChunk {
			return false
		}
	}
	sub.sent = o.EventID
	sub.live = true
	if sub.correlation != nil {
		s.outbox.push(establishedFrame(o.SID.String(), o.Kind().String(), sub.correlation, sub.sent), false)
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
	s.outbox.push(failedFrame(sub.object.String(), sub.correlation, why), false)
	s.forget(sub)
}

func (s *session) forget(sub *subscription) {
	if s.subs[sub.object] == sub {
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
	case e.ID != 0 && sub.live && e.ID <= sub.sent:
	case !sub.live:
		// An object's removal is not part of any later view's history.
		if e.Type == objects.ObjectRemoved && sub.correlation == nil {
			s.deliver(sub, e, frame)
		}
	default:
		_, pending := s.echo.own(e.Origin)
		if !pending && len(sub.held) == 0 {
			s.deliver(sub, e, frame)
		} else if len(sub.held) < heldEvents {
			sub.held = append(sub.held, held{e, frame()})
		} else {
			sub.held = nil
			s.fallBehind(sub)
		}
	}
}

// deliver sends a live event on, unless it echoes what the session's own reply
// has told.
func (s *session) deliver(sub *subscription, e *objects.Event, frame func() []byte) {
	own, _ := s.echo.own(e.Origin)
	switch {
	case own && (e.Type == objects.ItemRemoved || e.Type == objects.MessagePublished):
	case e.Type == objects.MessagePublished:
		s.server.metrics.dropped.Add(float64(s.outbox.offerLossy(frame())))
		return
	case e.Type == objects.ObjectRemoved:
		s.outbox.push(frame(), false)
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
// the outbox is empty again.
func (s *session) fallBehind(sub *subscription) {
	sub.live = false
	sub.known, sub.replayed = sub.sent, 0
	s.replays = append(s.replays, sub)
	s.server.metrics.behind.Inc()
	s.outbox.signal()
}

// release lets events go that waited for the reply to a command.
func (s *session) release(id fsm.CommandID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echo.answered(id)
	for _, sub := range s.subs {
		for len(sub.held) > 0 && sub.live {
			h := sub.held[0]
			if _, pending := s.echo.own(h.event.Origin); pending {
				break
			}
			sub.held = sub.held[1:]
			s.deliver(sub, h.event, func() []byte { return h.frame })
		}
		if len(sub.held) == 0 || !sub.live {
			sub.held = nil
		}
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
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if sub.live {
			sub.held = nil
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
