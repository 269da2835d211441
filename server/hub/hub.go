// Package hub is subscriptions and fan-out. It follows the store's feed, finds
// the subscribers of each event, has the event encoded once for all of them that
// read the same form, and keeps a bounded queue for every connected client.
//
//   - A Hub knows the followers of each topic: an object, a service, an API key.
//   - A Queue holds the frames that wait for one client. It knows which writes of
//     the client are under way, so that a reply comes before the echo of its
//     write.
//   - A Subscription is a client's cursor in the events of one object. While it
//     is live, events go straight into the queue. While it is behind, the events
//     it lacks are replayed from the state when the queue is empty. It starts
//     behind, and it falls behind when the queue is full, when the feed was lost,
//     and when the state was replaced. So a slow client loses its place, never
//     its data, and there is one way to catch up. Messages of streams are not
//     kept in the state: a full queue drops the oldest of them.
//   - Events that wait for one subscription are written in one frame, where they are
//     of one kind and their form allows it.
//
// Goroutines: Run is the only one, and belongs to the caller. Everything else
// may be called from any goroutine, but Fill of one queue by one at a time.
// Nothing here blocks for a client.
//
// Locks are taken in the order topics (one shard of the Hub's), the Follower's
// own, Queue. A Follower is called with its topics locked and must not call the
// hub. A panic in a Follower ends that follower and its client's queue.
//
// The package knows neither connections nor the wire: frames are bytes that its
// caller makes.
package hub

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/panics"
)

// Config sets up a Hub.
type Config struct {
	Feed   *fsm.Feed
	View   func() *fsm.View                 // the latest published state
	Encode func(*objects.Event, Form) Frame // of a live event, the same for all subscribers of a form

	// Join appends one frame with several events whose parts are of one kind, in their
	// order. It is not called if Encode makes no parts.
	Join func(b []byte, kind string, events [][]byte) []byte

	QueueLength int // frames of events that wait for one client; 1024
	QueueBytes  int // and their bytes; 1 MiB

	Panics *panics.Catcher // of followers; nil: caught, and not reported

	Behind  prometheus.Counter // subscriptions that lost their place
	Dropped prometheus.Counter // stream messages that a full queue lost

	// Framed is told, once for each round of the feed, how long after it was applied its
	// events were in the queues of all their subscribers. SinceApplied knows when that
	// was; nil: nobody is told.
	Framed       prometheus.Observer
	SinceApplied func(index uint64) (time.Duration, bool)

	// Told is told of the events of each round, and when they were handed to their
	// subscribers. Nil: nobody is told.
	Told func(events []fsm.Event, begun, ended time.Time)
}

func (c Config) withDefaults() Config {
	if c.QueueLength <= 0 {
		c.QueueLength = 1024
	}
	if c.QueueBytes <= 0 {
		c.QueueBytes = 1 << 20
	}
	if c.Behind == nil {
		c.Behind = prometheus.NewCounter(prometheus.CounterOpts{Name: "behind"})
	}
	if c.Dropped == nil {
		c.Dropped = prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"})
	}
	return c
}

// Event is an event on its way to the followers of its topic.
type Event struct {
	*objects.Event
	origin fsm.CommandID
	frames Frames
}

// Hub knows the followers of every topic.
type Hub struct {
	config Config
	cursor *fsm.Cursor

	seed   maphash.Seed
	topics [topicShards]topics
}

// New makes a hub for everything applied from now on. Run has to be called.
func New(c Config) *Hub {
	h := &Hub{config: c.withDefaults(), cursor: c.Feed.Follow(), seed: maphash.MakeSeed()}
	for i := range h.topics {
		h.topics[i].panics, h.topics[i].bySID = c.Panics, make(map[objects.SID]*topic)
	}
	return h
}

// Run follows the feed until the context ends.
func (h *Hub) Run(ctx context.Context) {
	for {
		batch, err := h.cursor.Next(ctx)
		switch {
		case errors.Is(err, fsm.ErrBehind):
			h.dispatchGap()
		case err != nil:
			return
		default:
			h.dispatchRound(batch)
		}
	}
}

func (h *Hub) dispatchRound(batch fsm.Batch) {
	if h.config.Told != nil {
		defer func(begun time.Time) { h.config.Told(batch.Events, begun, time.Now()) }(time.Now())
	}
	h.dispatchAll(batch.Events)
	h.measure(batch.Index)
}

// measure tells how long it has been since the round that ends with an entry.
func (h *Hub) measure(index uint64) {
	if h.config.SinceApplied == nil || h.config.Framed == nil {
		return
	}
	if took, ok := h.config.SinceApplied(index); ok {
		h.config.Framed.Observe(took.Seconds())
	}
}

// dispatchAll tells followers of the events of a round, those of one topic that
// follow each other together.
func (h *Hub) dispatchAll(events []fsm.Event) {
	for len(events) > 0 {
		sid, n := topicOf(&events[0].Event), 1
		for n < len(events) && topicOf(&events[n].Event) == sid {
			n++
		}
		h.dispatch(sid, events[:n])
		events = events[n:]
	}
}

func (h *Hub) event(e *fsm.Event) Event {
	return Event{Event: &e.Event, origin: e.Origin, frames: Frames{Encode: func(form Form) Frame { return h.config.Encode(&e.Event, form) }}}
}

// topicOf returns the topic of an event.
func topicOf(e *objects.Event) objects.SID {
	switch e.Type {
	case objects.KeyRevoked:
		return e.Key
	case objects.ServiceChanged, objects.ServiceRemoved:
		return e.Service.SID
	}
	return e.Object.SID
}

// dispatch tells followers of a topic's events. It encodes the events first, before
// it takes a lock.
func (h *Hub) dispatch(sid objects.SID, events []fsm.Event) {
	all := h.topicsOf(sid)
	forms, followed := all.followed(sid)
	if !followed {
		return
	}
	run := make([]Event, 0, len(events))
	for i := range events {
		run = append(run, h.event(&events[i]))
		if h.encode(&run[len(run)-1], forms) {
			continue
		}
		all.tell(sid, run[:len(run)-1])
		run = run[:0]
		view := h.config.View()
		all.call(sid, func(f Follower) bool { return f.OnGap(view) })
	}
	all.tell(sid, run)
}

// encode makes the frames that subscribers read. It returns false if encoding
// panics; then the subscribers have to catch up from the state.
func (h *Hub) encode(e *Event, forms [Forms]int) (ok bool) {
	defer h.config.Panics.Catch("encoding of an event", nil)
	for form, readers := range forms {
		if readers > 0 && isTold(e.Event) {
			e.frames.In(Form(form))
		}
	}
	return true
}

// isTold reports whether subscribers are told of an event. The others only have
// an effect on subscriptions.
func isTold(e *objects.Event) bool {
	return e.Type != objects.PermissionChanged && e.Type != objects.ObjectCreated && e.Type != objects.ListClosed
}

func (h *Hub) dispatchGap() {
	view := h.config.View()
	for i := range h.topics {
		h.topics[i].callAll(func(f Follower) bool { return f.OnGap(view) })
	}
}

// Topics returns the number of topics that somebody follows.
func (h *Hub) Topics() (total int) {
	for i := range h.topics {
		total += h.topics[i].length()
	}
	return total
}
