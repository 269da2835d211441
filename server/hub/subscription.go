package hub

import (
	"lockstep/fsm"
	"lockstep/objects"
)

// Source is what a subscription is about, in the words of the wire. Its
// methods append complete frames to b.
//
// Replay is called by Fill without any lock; the others may be called from
// anywhere, with the queue locked, and must not block or call the queue.
type Source interface {
	// Form returns the form in which the client is told of what happens. It
	// stays the same.
	Form() Form

	// Check says why the subscription must end in this state; nil: it need not.
	Check(view *fsm.View) *objects.Error

	// Replay tells what happened after an event up to now, or a part of it:
	// reached is the last event that the client knows then, more says that
	// there are later ones. The client knows the state at the event known, and
	// of what came later the part up to after. refused ends the subscription.
	//
	// Of events beyond until it must not tell, if that is not zero: reached is
	// at most until then, and more is true.
	Replay(b []byte, view *fsm.View, known, after, until objects.EventID) (out []byte, reached objects.EventID, more bool, refused *objects.Error)

	// Established says that the client knows everything up to an event and will
	// hear what comes. It is called once, when the subscription first is live.
	Established(b []byte, at objects.EventID) []byte

	// Ended says that the subscription is over, and why.
	Ended(b []byte, why *objects.Error) []byte
}

// Subscription is a client's cursor in the events of one object, or of
// something derived from it. Its queue's lock guards it.
type Subscription struct {
	queue  *Queue
	name   string
	object objects.SID // own writes to it hold the subscription back; zero: none do
	source Source
	form   Form
	leave  func() // has the hub, or whoever else offers changes, forget it

	state       state
	due         bool // it is in queue.due
	established bool
	known       objects.EventID // when it is behind: the state from which it catches up
	sent        objects.EventID // the last event in the queue, or before the queue
	seen        objects.EventID // the last one offered while it was behind
	again       bool            // what happened while it was behind is found only by catching up anew
	held        []change        // behind an own write whose answer is still to come
	why         *objects.Error  // when it is ending
}

type state uint8

const (
	waiting state = iota // for Start
	behind               // it catches up when it is its turn
	live                 // events go into the queue
	ending               // that it is over, and why, is told when it is its turn
	over                 // nothing more comes; what is queued counts
	void                 // given up: what is queued for it is skipped
)

// change is one event of a subscription.
type change struct {
	id     objects.EventID // 0: it has none
	frame  []byte
	origin fsm.CommandID
	mute   Mute
	lossy  bool // it may be dropped: a message of a stream
	last   bool // nothing follows it
}

// Subscribe makes a subscription under a name, in the place of an earlier one
// of that name. join has its changes offered from then on and gives how to end
// that. The subscription is silent until Start. Subscribe and Unsubscribe of
// one name must not run side by side.
func (q *Queue) Subscribe(name string, object objects.SID, source Source, join func(*Subscription) (leave func())) *Subscription {
	s := &Subscription{queue: q, name: name, object: object, source: source, form: source.Form()}
	q.Unsubscribe(name)
	q.mu.Lock()
	q.subs[name] = s
	q.mu.Unlock()
	leave := join(s)
	q.mu.Lock()
	s.leave = leave
	ended := s.state >= over // by what it joined: nobody knew yet how to leave
	q.mu.Unlock()
	if ended {
		leave()
	}
	return s
}

// SubscribeObject is Subscribe for an object: the hub offers its events.
func (q *Queue) SubscribeObject(object objects.SID, source Source) *Subscription {
	return q.Subscribe(object.String(), object, source, func(s *Subscription) func() {
		return q.hub.Follow(object, s).Stop
	})
}

// Unsubscribe gives up a subscription: what still waits for it is not sent. It
// reports whether there was one.
func (q *Queue) Unsubscribe(name string) bool {
	q.mu.Lock()
	s := q.subs[name]
	if s == nil {
		q.mu.Unlock()
		return false
	}
	s.give(void)
	leave := s.leave
	q.mu.Unlock()
	leave()
	return true
}

// UnsubscribeAll gives up all subscriptions. It says how many there were.
func (q *Queue) UnsubscribeAll() int {
	q.mu.Lock()
	names := make([]string, 0, len(q.subs))
	for name := range q.subs {
		names = append(names, name)
	}
	q.mu.Unlock()
	for _, name := range names {
		q.Unsubscribe(name)
	}
	// Those that ended by themselves, the last of them while the others were
	// given up: nobody may be left to call Fill.
	q.mu.Lock()
	leaving := q.leaving
	q.leaving = nil
	q.mu.Unlock()
	for _, leave := range leaving {
		leave()
	}
	return len(names)
}

// Has reports whether there is a subscription of that name, and how many there are.
func (q *Queue) Has(name string) (there bool, count int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.subs[name] != nil, len(q.subs)
}

// Start lets a subscription catch up from the events after the given one on,
// and then be live.
func (s *Subscription) Start(after objects.EventID) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if s.state == waiting {
		s.known, s.sent, s.state = after, after, behind
		s.queue.schedule(s)
	}
}

// End tells the client that the subscription is over, unless it is already.
func (s *Subscription) End(why *objects.Error) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.end(why)
}

// Happened implements Follower.
func (s *Subscription) Happened(e *Event) (more bool) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	switch {
	case e.Type == objects.PermissionChanged && e.Identity == s.queue.identity:
		s.recheck()
	case isTold(e.Event):
		s.offer(change{
			id: e.ID, origin: e.origin, mute: muteOf(e.Event),
			lossy: e.Type == objects.MessagePublished, last: e.Type == objects.ObjectRemoved,
		}, &e.frames)
	}
	return s.state < ending
}

// Missed implements Follower.
func (s *Subscription) Missed(view *fsm.View) (more bool) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if s.state != live {
		s.again = true
		return s.state < ending
	}
	if why := s.source.Check(view); why != nil {
		s.end(why)
	} else if s.object.Kind() != objects.KindStream {
		s.lapse()
	}
	return s.state < ending
}

// Failed implements Follower: what its place is nobody knows any more. The
// client's queue ends, and the client comes back.
func (s *Subscription) Failed() {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.queue.abandon()
}

// Offer hands a derived subscription its next change. more is false when the
// subscription takes no more.
func (s *Subscription) Offer(id objects.EventID, frames *Frames) (more bool) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.offer(change{id: id}, frames)
	return s.state < ending
}

// Lapse has a live subscription catch up from its source.
func (s *Subscription) Lapse() (more bool) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if s.state != live {
		s.again = true // what it is reading now may be of before
	}
	s.lapse()
	return s.state < ending
}

// Recheck ends the subscription if the client has lost the permission for it.
func (s *Subscription) Recheck() (more bool) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.recheck()
	return s.state < ending
}

// Recheck is that of all subscriptions of a client.
func (q *Queue) Recheck() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.subs {
		s.recheck()
	}
}

// Identity is that of the client.
func (q *Queue) Identity() string { return q.identity }

// recheck looks at the latest state: what made it necessary may be older than
// what the subscription has caught up with. It leaves those alone that have yet
// to start or to catch up: replaying checks, too, and then it is known what the
// client is waiting for. That the object is gone is told by an event in its turn.
func (s *Subscription) recheck() {
	if s.state != live {
		s.again = true
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
		s.seen = max(s.seen, c.id)
		s.again = s.again || c.last
		return
	case c.id != 0 && c.id <= s.taken():
		return
	case !s.object.IsZero() && c.id > s.taken()+1:
		s.lapse() // the ids of an object have no gaps: something was missed
		return
	}
	c.frame = frames.In(s.form)
	if len(s.held) == 0 && !q.own.isPending(c.origin) {
		s.deliver(c)
		return
	}
	switch {
	case q.fits(c.frame):
		s.hold(c)
	case c.lossy:
		q.hub.config.Dropped.Inc()
	default:
		s.lapse()
	}
}

// taken is the last event that is in the queue or held back for it.
func (s *Subscription) taken() objects.EventID {
	if n := len(s.held); n > 0 {
		return max(s.sent, s.held[n-1].id)
	}
	return s.sent
}

// deliver puts a change into the queue.
func (s *Subscription) deliver(c change) {
	q := s.queue
	e := entry{frame: c.frame, sub: s, lossy: c.lossy}
	switch {
	case q.own.isMuted(c.mute):
		s.sent = max(s.sent, c.id)
		q.move()
	case c.lossy:
		if q.makeRoom(c.frame) {
			q.push(e)
		} else {
			q.hub.config.Dropped.Inc()
		}
	case q.fits(c.frame):
		q.push(e)
		s.sent = c.id
		q.move()
		if c.last {
			s.give(over)
		}
	default: // also for the last one: catching up finds that the object is gone
		s.lapse()
	}
}

// hold keeps a change back until the answer to an own write is in the queue.
func (s *Subscription) hold(c change) {
	if len(s.held) == 0 {
		s.queue.own.holding = append(s.queue.own.holding, s)
	}
	s.held = append(s.held, c)
	s.queue.held.add(1, c.frame)
}

// release delivers what was held back, up to the next own write.
func (s *Subscription) release() {
	q := s.queue
	for len(s.held) > 0 {
		c := s.held[0]
		if q.own.isPending(c.origin) {
			q.own.holding = append(q.own.holding, s)
			return
		}
		s.held = s.held[1:]
		q.held.add(-1, c.frame)
		s.deliver(c)
	}
	s.held = nil
}

func (s *Subscription) dropHeld() {
	for _, c := range s.held {
		s.queue.held.add(-1, c.frame)
	}
	s.held = nil
	s.queue.freed()
}

// lapse gives up a live subscription's place.
func (s *Subscription) lapse() {
	if s.state != live {
		return
	}
	s.dropHeld()
	s.state, s.known, s.seen = behind, s.sent, s.sent
	s.queue.hub.config.Behind.Inc()
	s.queue.schedule(s)
}

// end has the client told that the subscription is over. Until then it keeps
// its place among those of the client.
func (s *Subscription) end(why *objects.Error) {
	if s.state >= ending {
		return
	}
	s.dropHeld()
	s.state, s.why = ending, why
	s.queue.move()
	s.queue.schedule(s)
}

// tellEnd appends that the subscription is over.
func (s *Subscription) tellEnd(b []byte) []byte {
	s.give(over)
	return s.source.Ended(b, s.why)
}

// give makes a subscription over or void and takes it off the queue's books.
func (s *Subscription) give(final state) {
	q := s.queue
	s.dropHeld()
	if q.subs[s.name] == s {
		delete(q.subs, s.name)
		if s.leave != nil && final == over {
			q.leaving = append(q.leaving, s.leave)
			q.signal()
		}
	}
	s.state = final
	q.move()
}

// stretch is what a subscription lacks, as Replay takes it.
type stretch struct{ known, after, until objects.EventID }

func (s *Subscription) lacks() stretch {
	until, _ := s.queue.own.limit(s.object)
	return stretch{known: s.known, after: s.sent, until: until}
}

// catchUp appends what the subscription lacks. The one that fills the queue
// calls it, without the lock.
func (s *Subscription) catchUp(b []byte, view *fsm.View, part stretch) []byte {
	out, reached, more, refused := s.source.Replay(b, view, part.known, part.after, part.until)
	q := s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case s.state != behind:
		return b // given up meanwhile
	case refused != nil && part.until != 0 && !exists(view, s.object):
		// That may be the client's own doing: then the answer tells it first.
		s.sent = part.until
		q.move()
		q.schedule(s)
		return b
	case refused != nil:
		s.why = refused
		return s.tellEnd(b)
	}
	s.sent = reached
	q.move()
	if !more {
		s.known = reached
	}
	if more || s.again || s.seen > reached {
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
