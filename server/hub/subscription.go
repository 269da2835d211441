package hub

import (
	"lockstep/fsm"
	"lockstep/objects"
)

// Source reads and encodes what a subscription is about. Its methods append
// complete frames to b.
//
// Fill calls Replay without holding a lock. The other methods may be called from
// any goroutine with the queue locked, and must not block or call the queue.
type Source interface {
	// Form returns the form in which the client reads events. It never changes.
	Form() Form

	// Check returns why the subscription must end in this state, or nil if it may
	// go on.
	Check(view *fsm.View) *objects.Error

	// Replay appends the events after a given one up to now, or the first part of
	// them. reached is the last event that the client knows afterwards, and more
	// reports whether there are later ones. The client knows the state at the
	// event known, and of the later events those up to after. A non-nil refused
	// ends the subscription.
	//
	// If until is not zero, Replay must not append events beyond it: reached is at
	// most until, and more is true.
	Replay(b []byte, view *fsm.View, known, after, until objects.EventID) (out []byte, reached objects.EventID, more bool, refused *objects.Error)

	// Established appends the notice that the client knows everything up to an
	// event and will be told of later ones. It is called once, when the
	// subscription becomes live for the first time.
	Established(b []byte, at objects.EventID) []byte

	// Ended appends the notice that the subscription has ended, and why.
	Ended(b []byte, why *objects.Error) []byte
}

// Subscription is a client's cursor in the events of one object, or in the
// changes of something derived from one. The lock of its queue guards it.
type Subscription struct {
	queue  *Queue
	name   string
	object objects.SID // the client's writes to it hold the subscription back; zero: none do
	source Source
	form   Form
	leave  func() // removes it from the hub, or from whatever else offers its changes

	state        state
	due          bool // it is in queue.due
	established  bool
	known        objects.EventID // while behind: the state from which it catches up
	sent         objects.EventID // the last event in the queue, or before the queue
	offeredUpTo  objects.EventID // the last one offered while it was behind
	catchUpAgain bool            // what happened while it was behind is found only by catching up anew
	held         []change        // behind an own write whose answer is still to come
	why          *objects.Error  // when it is ending
}

type state uint8

const (
	waiting   state = iota // for Start
	behind                 // it catches up when it is its turn
	live                   // events go into the queue
	ending                 // the client is told why it ended when it is its turn
	ended                  // no more events come; queued ones are still sent
	cancelled              // queued events are skipped
)

// change is one event of a subscription.
type change struct {
	id     objects.EventID // 0: it has none
	frame  Frame
	origin fsm.CommandID
	echo   EchoKey
	lossy  bool // it may be dropped: a message of a stream
	last   bool // nothing follows it
}

// Subscribe makes a subscription under a name and replaces an earlier one of that
// name. join registers the subscription wherever its changes come from, and
// returns a function that undoes this. The subscription is silent until Start.
// Subscribe and Unsubscribe of one name must not run concurrently.
func (q *Queue) Subscribe(name string, object objects.SID, source Source, join func(*Subscription) (leave func())) *Subscription {
	s := &Subscription{queue: q, name: name, object: object, source: source, form: source.Form()}
	q.Unsubscribe(name)
	q.mu.Lock()
	q.subs[name] = s
	q.unlock()
	leave := join(s)
	q.mu.Lock()
	s.leave = leave
	finished := s.state >= ended // join itself ended it, before there was a leave function
	q.unlock()
	if finished {
		leave()
	}
	return s
}

// SubscribeObject is Subscribe for an object, whose events the hub offers.
func (q *Queue) SubscribeObject(object objects.SID, source Source) *Subscription {
	return q.Subscribe(object.String(), object, source, func(s *Subscription) func() {
		return q.hub.Follow(object, s).Stop
	})
}

// Unsubscribe cancels a subscription: its events that still wait are not sent. It
// reports whether there was such a subscription.
func (q *Queue) Unsubscribe(name string) bool {
	q.mu.Lock()
	s := q.subs[name]
	if s == nil {
		q.unlock()
		return false
	}
	s.finish(cancelled)
	leave := s.leave
	q.unlock()
	leave()
	return true
}

// UnsubscribeAll cancels all subscriptions and returns how many there were.
func (q *Queue) UnsubscribeAll() int {
	q.mu.Lock()
	names := make([]string, 0, len(q.subs))
	for name := range q.subs {
		names = append(names, name)
	}
	q.unlock()
	for _, name := range names {
		q.Unsubscribe(name)
	}
	// Subscriptions may have ended by themselves until now, and there may be
	// nobody left to call Fill.
	q.mu.Lock()
	leaving := q.leaving
	q.leaving = nil
	q.unlock()
	for _, leave := range leaving {
		leave()
	}
	return len(names)
}

// Has reports whether there is a subscription of that name.
func (q *Queue) Has(name string) bool {
	q.mu.Lock()
	defer q.unlock()
	return q.subs[name] != nil
}

// Subscriptions returns how many subscriptions there are.
func (q *Queue) Subscriptions() int {
	q.mu.Lock()
	defer q.unlock()
	return len(q.subs)
}

// Start lets a subscription catch up, beginning after the given event, and then
// become live.
func (s *Subscription) Start(after objects.EventID) {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	if s.state == waiting {
		s.known, s.sent, s.state = after, after, behind
		s.queue.schedule(s)
	}
}

// End tells the client that the subscription has ended, unless it has already.
func (s *Subscription) End(why *objects.Error) {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	s.end(why)
}

// OnEvent implements Follower.
func (s *Subscription) OnEvent(e *Event) (more bool) {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	return s.onEvent(e)
}

// onEvents is OnEvent for several: the client's queue has all of them before it
// wakes somebody.
func (s *Subscription) onEvents(run []Event) (more bool) {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	for i := range run {
		if !s.onEvent(&run[i]) {
			return false
		}
	}
	return true
}

func (s *Subscription) onEvent(e *Event) (more bool) {
	switch {
	case e.Type == objects.PermissionChanged && e.Identity == s.queue.identity:
		s.recheck()
	case isTold(e.Event):
		s.offer(change{
			id: e.ID, origin: e.origin, echo: echoKeyOf(e.Event),
			lossy: e.Type == objects.MessagePublished, last: e.Type == objects.ObjectRemoved,
		}, &e.frames)
	}
	return s.state < ending
}

// OnGap implements Follower.
func (s *Subscription) OnGap(view *fsm.View) (more bool) {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	if s.state != live {
		s.catchUpAgain = true
		return s.state < ending
	}
	if why := s.source.Check(view); why != nil {
		s.end(why)
	} else if s.object.Kind() != objects.KindStream {
		s.fallBehind()
	}
	return s.state < ending
}

// OnPanic implements Follower. The subscription's place is no longer known, so
// the client's queue ends, and the client connects again.
func (s *Subscription) OnPanic() {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	s.queue.abandon()
}

// Offer hands a derived subscription its next change. more reports whether the
// subscription takes further changes.
func (s *Subscription) Offer(id objects.EventID, frames *Frames) (more bool) {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	s.offer(change{id: id}, frames)
	return s.state < ending
}

// FallBehind makes a live subscription catch up from its source.
func (s *Subscription) FallBehind() (more bool) {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	if s.state != live {
		s.catchUpAgain = true // it may be reading an older state now
	}
	s.fallBehind()
	return s.state < ending
}

// Recheck ends the subscription if the client has lost the permission for it.
func (s *Subscription) Recheck() (more bool) {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	s.recheck()
	return s.state < ending
}

// Recheck ends the subscriptions for which the client has lost the permission.
func (q *Queue) Recheck() {
	q.mu.Lock()
	defer q.unlock()
	for _, s := range q.subs {
		s.recheck()
	}
}

// Identity returns the identity of the client.
func (q *Queue) Identity() string { return q.identity }

// recheck ends a live subscription whose permission is gone, judged by the latest
// view, which may be newer than the event that made the check necessary.
// Subscriptions that have yet to start or to catch up are checked when they
// replay. The removal of the object itself is told by its event.
func (s *Subscription) recheck() {
	if s.state != live {
		s.catchUpAgain = true
		return
	}
	if why := s.source.Check(s.queue.hub.config.View()); why != nil && why.Is(objects.ErrForbidden) {
		s.end(why)
	}
}

func (s *Subscription) offer(c change, frames *Frames) {
	q := s.queue
	switch {
	case s.state >= ending:
		return
	case s.state != live:
		s.offeredUpTo = max(s.offeredUpTo, c.id)
		s.catchUpAgain = s.catchUpAgain || c.last
		return
	case c.id != 0 && c.id <= s.queuedUpTo():
		return
	case !s.object.IsZero() && c.id > s.queuedUpTo()+1:
		s.fallBehind() // event ids of an object have no gaps, so one was missed
		return
	}
	c.frame = frames.In(s.form)
	if len(s.held) == 0 && !q.writes.isPending(c.origin) {
		s.deliver(c)
		return
	}
	switch {
	case q.fits(c.frame.Bytes):
		s.hold(c)
	case c.lossy:
		q.hub.config.Dropped.Inc()
	default:
		s.fallBehind()
	}
}

// queuedUpTo returns the last event that is in the queue or held back for it.
func (s *Subscription) queuedUpTo() objects.EventID {
	if n := len(s.held); n > 0 {
		return max(s.sent, s.held[n-1].id)
	}
	return s.sent
}

// deliver puts a change into the queue.
func (s *Subscription) deliver(c change) {
	q := s.queue
	e := entry{frame: c.frame.Bytes, part: c.frame.Part, sub: s, lossy: c.lossy}
	switch {
	case q.writes.isSuppressed(c.echo):
		s.sent = max(s.sent, c.id)
		q.moved.Broadcast()
	case c.lossy:
		if q.makeRoom(e.frame) {
			q.push(e)
		} else {
			q.hub.config.Dropped.Inc()
		}
	case q.fits(e.frame):
		q.push(e)
		s.sent = c.id
		q.moved.Broadcast()
		if c.last {
			s.finish(ended)
		}
	default: // the last event too: catching up finds that the object is gone
		s.fallBehind()
	}
}

// hold keeps a change back until the answer to the client's write is queued.
func (s *Subscription) hold(c change) {
	if len(s.held) == 0 {
		s.queue.writes.holding = append(s.queue.writes.holding, s)
	}
	s.held = append(s.held, c)
	s.queue.held.add(1, c.frame.Bytes)
}

// release delivers the changes that were held back, up to the client's next
// pending write.
func (s *Subscription) release() {
	q := s.queue
	for len(s.held) > 0 {
		c := s.held[0]
		if q.writes.isPending(c.origin) {
			q.writes.holding = append(q.writes.holding, s)
			return
		}
		s.held = s.held[1:]
		q.held.add(-1, c.frame.Bytes)
		s.deliver(c)
	}
	s.held = nil
}

func (s *Subscription) dropHeld() {
	for _, c := range s.held {
		s.queue.held.add(-1, c.frame.Bytes)
	}
	s.held = nil
	s.queue.freed()
}

// fallBehind gives up the place of a live subscription, which then catches up.
func (s *Subscription) fallBehind() {
	if s.state != live {
		return
	}
	s.dropHeld()
	s.state, s.known, s.offeredUpTo = behind, s.sent, s.sent
	s.queue.hub.config.Behind.Inc()
	s.queue.schedule(s)
}

// end schedules the notice that the subscription has ended. Until the client is
// told, the subscription keeps its place among those of the client.
func (s *Subscription) end(why *objects.Error) {
	if s.state >= ending {
		return
	}
	s.dropHeld()
	s.state, s.why = ending, why
	s.queue.moved.Broadcast()
	s.queue.schedule(s)
}

// tellEnd appends the notice that the subscription has ended.
func (s *Subscription) tellEnd(b []byte) []byte {
	s.finish(ended)
	return s.source.Ended(b, s.why)
}

// finish makes a subscription ended or cancelled and removes it from the queue.
func (s *Subscription) finish(final state) {
	q := s.queue
	s.dropHeld()
	if q.subs[s.name] == s {
		delete(q.subs, s.name)
		if s.leave != nil && final == ended {
			q.leaving = append(q.leaving, s.leave)
			q.signal()
		}
	}
	s.state = final
	q.moved.Broadcast()
}

// replayRange is the range of events that a subscription lacks, as Replay takes it.
type replayRange struct{ known, after, until objects.EventID }

func (s *Subscription) replayRange() replayRange {
	until, _ := s.queue.writes.limit(s.object)
	return replayRange{known: s.known, after: s.sent, until: until}
}

// catchUp appends the events that the subscription lacks. Fill calls it without
// holding the lock.
func (s *Subscription) catchUp(b []byte, view *fsm.View, part replayRange) []byte {
	out, reached, more, refused := s.source.Replay(b, view, part.known, part.after, part.until)
	q := s.queue
	q.mu.Lock()
	defer q.unlock()
	switch {
	case s.state != behind:
		return b // cancelled meanwhile
	case refused != nil && part.until != 0 && !exists(view, s.object):
		// The client's own write may have removed the object: the answer comes first.
		s.sent = part.until
		q.moved.Broadcast()
		q.schedule(s)
		return b
	case refused != nil:
		s.why = refused
		return s.tellEnd(b)
	}
	s.sent = reached
	q.moved.Broadcast()
	if !more {
		s.known = reached
	}
	if more || s.catchUpAgain || s.offeredUpTo > reached {
		q.schedule(s)
		return out
	}
	s.state = live
	if !s.established {
		s.established = true
		out = s.source.Established(out, reached)
	}
	return out
}

func exists(view *fsm.View, object objects.SID) bool {
	_, ok := view.ObjectBySID(object)
	return ok
}
