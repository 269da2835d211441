package webhook

import (
	"container/heap"
	"container/list"
	"net/url"
	"slices"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
)

// queue decides what is sent next. Deliveries of one stream (an object, or an
// identity) follow one another; different streams go side by side, as far as
// the bounds allow. It belongs to one goroutine, and every step of it costs at
// most the logarithm of what waits.
//
// Receivers that hang hold up nobody else:
//
//   - Of all services that have something to send the one with the fewest
//     requests under way is next, and none has more than an equal share.
//   - Each receiver (a service's URL) has a window of requests under way, which
//     starts at one and opens with every prompt answer. One that hangs is back
//     at one, and is left alone for a while that grows (backoff).
//   - Those that have not just answered promptly have half of all slots between
//     them. So there are always slots for those that do answer.
//   - No host has more than a part of the slots, however many URLs it has.
type queue struct {
	total, perService, perHost int

	// receiver returns the current URL of a service. Deliveries that were placed
	// before it changed go to the new URL when the old one has its turn.
	receiver func(service uint64) string

	seen     uint64
	streams  map[streamKey]*stream
	lanes    map[laneKey]*lane
	idle     *list.List          // lanes that nothing waits for, the longest idle first
	services map[uint64]*service // that have requests under way or to send
	hosts    map[string]*host    // likewise

	turns    [2]turns // the services whose turn it may be, by the class of their lanes
	alarms   alarms   // what is due later
	turn     uint64   // rises with each delivery sent
	sending  int
	unproven int // of these, to receivers that did not answer promptly the last time
	waiting  int // deliveries, those under way included
}

// streamKey names a sequence of deliveries that must be sent in order: those of an
// object, or those of an identity's endpoints.
type streamKey struct {
	service  uint64
	object   objects.SID
	identity string // without an object
}

func streamOf(d *fsm.Delivery) streamKey {
	if d.Fact.Object == (objects.SID{}) {
		return streamKey{service: d.Service, identity: d.Fact.Identity}
	}
	return streamKey{service: d.Service, object: d.Fact.Object}
}

// stream is in one place at a time: in its lane's ready list, in alarms, or under
// way.
type stream struct {
	key     streamKey
	waiting []*fsm.Delivery
	lane    *lane
	sending bool
}

type laneKey struct {
	service uint64
	url     string
}

// lane is one receiver. It, too, is in one place at a time: in a service's list, in
// alarms, parked at its host, or nowhere, if it is not queued.
type lane struct {
	key     laneKey
	host    string
	streams int       // that are placed in it
	ready   []*stream // whose first delivery is due
	queued  bool
	idle    *list.Element

	sending  int
	window   int
	prompt   bool      // the last answer came in good time
	hung     int       // time-outs in a row
	hungAt   time.Time // the last one
	resumeAt time.Time
}

// service holds the requests of one service that are under way or to be sent.
type service struct {
	sending int
	turn    uint64     // in which it was served last
	lanes   [2][]*lane // by class
	at      [2]int     // place in turns; -1: none
}

type host struct {
	sending int
	parked  []*lane
}

// The classes of lanes.
const (
	classPrompt = iota
	classUnproven
)

func (l *lane) class() int {
	if l.prompt {
		return classPrompt
	}
	return classUnproven
}

// maxIdleLanes is the number of receivers that are remembered while there is nothing
// to send to them.
const maxIdleLanes = 4096

// forever is how long the sender sleeps when nothing is due.
const forever = time.Hour

func newQueue(total, perService, perHost int, receiver func(service uint64) string) *queue {
	return &queue{
		receiver: receiver, total: total, perService: perService, perHost: perHost,
		streams: map[streamKey]*stream{}, lanes: map[laneKey]*lane{}, idle: list.New(),
		services: map[uint64]*service{}, hosts: map[string]*host{},
		turns: [2]turns{{class: classPrompt}, {class: classUnproven}},
	}
}

// add queues the deliveries that are new in a view.
func (q *queue) add(v *fsm.View, now time.Time) {
	v.Deliveries(q.seen, func(d *fsm.Delivery) bool {
		q.seen = d.Seq
		q.waiting++
		key := streamOf(d)
		if st := q.streams[key]; st != nil {
			st.waiting = append(st.waiting, d)
			return true
		}
		st := &stream{key: key, waiting: []*fsm.Delivery{d}}
		q.streams[key] = st
		q.place(st, now)
		return true
	})
	if q.waiting > 2*v.WaitingDeliveries()+spare {
		q.prune(v, now)
	}
}

// spare is how many more deliveries than the outbox the queue may hold before it
// looks for dropped ones.
const spare = 1024

// prune forgets deliveries that the outbox has dropped, so that the bound of the
// outbox is this queue's, too. Those under way stay.
func (q *queue) prune(v *fsm.View, now time.Time) {
	for key, st := range q.streams {
		first := 0
		if st.sending {
			first = 1
		}
		before, head := len(st.waiting), st.waiting[0]
		rest := slices.DeleteFunc(st.waiting[first:], func(d *fsm.Delivery) bool {
			_, there := v.Delivery(d.Seq)
			return !there
		})
		st.waiting = slices.Clone(st.waiting[:first+len(rest)])
		q.waiting -= before - len(st.waiting)
		switch {
		case len(st.waiting) == 0:
			delete(q.streams, key)
		case st.waiting[0] != head:
			// The next one has a place of its own. The empty stream leaves the old
			// one when its turn comes.
			again := &stream{key: key, waiting: st.waiting}
			st.waiting = nil
			q.streams[key] = again
			q.place(again, now)
		}
	}
}

// place puts a stream where its first delivery belongs.
func (q *queue) place(st *stream, now time.Time) {
	d := st.waiting[0]
	if l := st.lane; l == nil || l.key != q.laneOf(d) {
		q.abandon(st)
		st.lane = q.lane(d)
		st.lane.streams++
	}
	if at := time.UnixMilli(d.NotBefore); at.After(now) {
		heap.Push(&q.alarms, alarm{at: at, stream: st})
		return
	}
	st.lane.ready = append(st.lane.ready, st)
	q.enqueue(st.lane, now)
}

func (q *queue) laneOf(d *fsm.Delivery) laneKey { return laneKey{d.Service, q.receiver(d.Service)} }

// lane returns the lane of a delivery.
func (q *queue) lane(d *fsm.Delivery) *lane {
	key := q.laneOf(d)
	l := q.lanes[key]
	if l == nil {
		l = &lane{key: key, window: 1}
		if u, err := url.Parse(key.url); err == nil {
			l.host = u.Host
		}
		q.lanes[l.key] = l
	}
	if l.idle != nil {
		q.idle.Remove(l.idle)
		l.idle = nil
	}
	return l
}

// abandon takes a stream out of its lane.
func (q *queue) abandon(st *stream) {
	l := st.lane
	if l == nil {
		return
	}
	st.lane = nil
	if l.streams--; l.streams > 0 {
		return
	}
	l.idle = q.idle.PushBack(l)
	if q.idle.Len() > maxIdleLanes {
		oldest := q.idle.Remove(q.idle.Front()).(*lane)
		delete(q.lanes, oldest.key)
	}
}

// enqueue puts a lane that may send into its service's list.
func (q *queue) enqueue(l *lane, now time.Time) {
	if l.queued || len(l.ready) == 0 || l.sending >= l.window {
		return
	}
	l.queued = true
	if l.resumeAt.After(now) {
		heap.Push(&q.alarms, alarm{at: l.resumeAt, lane: l})
		return
	}
	s := q.service(l.key.service)
	class := l.class()
	s.lanes[class] = append(s.lanes[class], l)
	q.reorder(s)
}

func (q *queue) service(number uint64) *service {
	s := q.services[number]
	if s == nil {
		s = &service{turn: q.turn, at: [2]int{-1, -1}}
		q.services[number] = s
	}
	return s
}

// reorder moves a service to its place in turns after it has changed.
func (q *queue) reorder(s *service) {
	for class := range q.turns {
		t := &q.turns[class]
		switch there := len(s.lanes[class]) > 0; {
		case there && s.at[class] < 0:
			heap.Push(t, s)
		case there:
			heap.Fix(t, s.at[class])
		case s.at[class] >= 0:
			heap.Remove(t, s.at[class])
		}
	}
}

// due returns what to send now, and counts it as under way.
func (q *queue) due(now time.Time) []attempt {
	q.wake(now)
	var out []attempt
	for q.sending < q.total {
		l, st := q.next(now)
		if st == nil {
			break
		}
		st.sending = true
		q.sending++
		l.sending++
		q.hosts[l.host].sending++
		a := attempt{delivery: st.waiting[0], unproven: !l.prompt, hanging: l.hung > 0}
		if a.unproven {
			q.unproven++
		}
		s := q.service(l.key.service)
		s.sending++
		q.turn++
		s.turn = q.turn
		q.enqueue(l, now)
		q.reorder(s)
		out = append(out, a)
	}
	return out
}

// wake brings back the streams and lanes whose time has come.
func (q *queue) wake(now time.Time) {
	for len(q.alarms) > 0 && !q.alarms[0].at.After(now) {
		switch a := heap.Pop(&q.alarms).(alarm); {
		case a.lane != nil:
			a.lane.queued = false
			q.enqueue(a.lane, now)
		case len(a.stream.waiting) == 0:
			q.abandon(a.stream)
		default:
			q.place(a.stream, now)
		}
	}
}

// next takes the lane whose turn it is, and its first stream; nil if there is none.
func (q *queue) next(now time.Time) (*lane, *stream) {
	for {
		number, class, ok := q.pick()
		if !ok {
			return nil, nil
		}
		s := q.services[number]
		l := s.lanes[class][0]
		s.lanes[class][0] = nil
		s.lanes[class] = s.lanes[class][1:]
		q.reorder(s)
		l.queued = false
		q.forget(number, s)
		st := q.first(l)
		h := q.hosts[l.host]
		if h == nil {
			h = &host{}
			q.hosts[l.host] = h
		}
		switch {
		case st == nil || l.class() != class || l.sending >= l.window || l.resumeAt.After(now):
			q.enqueue(l, now) // where it belongs now, if anywhere
			q.unpark(l.host, now)
		case h.sending >= q.perHost:
			l.queued = true
			h.parked = append(h.parked, l)
		default:
			l.ready[0] = nil
			l.ready = l.ready[1:]
			return l, st
		}
	}
}

// pick finds the service with the fewest requests under way, if it has less
// than its share.
func (q *queue) pick() (number uint64, class int, ok bool) {
	var best *service
	for c := range q.turns {
		if c == classUnproven && q.unproven >= max(1, q.total/2) {
			break
		}
		if t := q.turns[c].services; len(t) > 0 && (best == nil || less(t[0], best)) {
			best, class = t[0], c
		}
	}
	if best == nil || best.sending >= q.share() {
		return 0, 0, false
	}
	return best.lanes[class][0].key.service, class, true
}

// share returns how many requests one service may have under way: an equal part of
// all slots, counting one more service that may come next.
func (q *queue) share() int {
	return max(1, min(q.perService, q.total/(len(q.services)+1)))
}

// first returns a lane's first stream that has something to send, and removes the
// empty ones before it.
func (q *queue) first(l *lane) *stream {
	for len(l.ready) > 0 {
		st := l.ready[0]
		if len(st.waiting) > 0 {
			return st
		}
		l.ready[0] = nil
		l.ready = l.ready[1:]
		q.abandon(st)
	}
	return nil
}

// unpark lets the next lane of a host have its turn.
func (q *queue) unpark(name string, now time.Time) {
	h := q.hosts[name]
	if h == nil {
		return
	}
	if len(h.parked) > 0 && h.sending < q.perHost {
		l := h.parked[0]
		h.parked[0] = nil
		h.parked = h.parked[1:]
		l.queued = false
		q.enqueue(l, now)
	}
	if h.sending == 0 && len(h.parked) == 0 {
		delete(q.hosts, name)
	}
}

// forget drops a service that has nothing under way and nothing to send.
func (q *queue) forget(number uint64, s *service) {
	if s.sending == 0 && s.at == [2]int{-1, -1} {
		delete(q.services, number)
	}
}

// untilDue returns the time until the next alarm.
func (q *queue) untilDue(now time.Time) time.Duration {
	if len(q.alarms) == 0 {
		return forever
	}
	return min(forever, max(0, q.alarms[0].at.Sub(now)))
}

// finish takes the outcome of an attempt. The next delivery of its stream follows,
// or the same one again after the pause.
func (q *queue) finish(o outcome, now time.Time) {
	d := o.delivery
	st := q.streams[streamOf(d)]
	l, s, h := st.lane, q.services[d.Service], q.hosts[st.lane.host]
	st.sending = false
	q.sending--
	l.sending--
	h.sending--
	s.sending--
	if o.unproven {
		q.unproven--
	}
	q.adjustWindow(l, o, now)
	if o.retry != nil {
		again := *d
		again.Attempts, again.NotBefore = o.retry.Attempts, o.retry.NotBefore
		st.waiting[0] = &again
	} else {
		st.waiting[0] = nil
		st.waiting = st.waiting[1:]
		q.waiting--
	}
	if len(st.waiting) == 0 {
		delete(q.streams, st.key)
		q.abandon(st)
	} else {
		q.place(st, now)
	}
	q.enqueue(l, now)
	q.reorder(s)
	q.unpark(l.host, now)
	q.forget(d.Service, s)
}

// adjustWindow opens or closes a receiver's window, by the outcome of an attempt.
func (q *queue) adjustWindow(l *lane, o outcome, now time.Time) {
	switch {
	case o.skipped:
	case !o.hung:
		l.prompt, l.hung = true, 0
		l.window = min(l.window+1, q.perService)
	default:
		l.prompt, l.window = false, 1
		if o.started.After(l.hungAt) || l.hung == 0 { // attempts that hang together count once
			l.hung++
			l.hungAt = now
			l.resumeAt = now.Add(backoff[min(l.hung, len(backoff))-1])
		}
	}
}

func (q *queue) underWay() int { return q.sending }

// turns orders services: the fewest requests under way first, then the one that
// was served longest ago.
type turns struct {
	class    int
	services []*service
}

func less(a, b *service) bool {
	return a.sending < b.sending || a.sending == b.sending && a.turn < b.turn
}

func (t *turns) Len() int           { return len(t.services) }
func (t *turns) Less(i, j int) bool { return less(t.services[i], t.services[j]) }
func (t *turns) Swap(i, j int) {
	t.services[i], t.services[j] = t.services[j], t.services[i]
	t.services[i].at[t.class], t.services[j].at[t.class] = i, j
}

func (t *turns) Push(x any) {
	s := x.(*service)
	s.at[t.class] = len(t.services)
	t.services = append(t.services, s)
}

func (t *turns) Pop() any {
	last := len(t.services) - 1
	s := t.services[last]
	t.services[last] = nil
	t.services = t.services[:last]
	s.at[t.class] = -1
	return s
}

// alarm is a stream or a lane that is due later.
type alarm struct {
	at     time.Time
	stream *stream
	lane   *lane
}

type alarms []alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a alarms) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *alarms) Push(x any)        { *a = append(*a, x.(alarm)) }
func (a *alarms) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = alarm{}
	*a = (*a)[:last]
	return x
}
