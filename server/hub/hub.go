// Package hub is subscriptions and fan-out: it follows the store's feed, finds
// who subscribes to what an event is about, has the event encoded once for all
// of them that read the same form, and keeps for every connected client a bounded queue of what waits
// to be written.
//
//   - A Hub knows who follows which topic: an object, a service, an API key.
//   - A Queue is what waits for one client. It knows the client's own writes
//     under way, so that a reply comes before the echo of its write.
//   - A Subscription is a client's cursor in the events of one object. It is
//     live, and then events go straight into the queue, or it is behind, and
//     then the events it lacks are replayed from the state when the queue is
//     empty. It starts behind; it falls behind when the queue is full, when the
//     feed was lost, and when the state was replaced. So a slow client loses
//     its place, never its data, and there is one way to catch up. Messages of
//     streams are kept nowhere: of those, a full queue drops the oldest.
//
// Goroutines: Run is the only one, and belongs to the caller. Everything else
// may be called from anywhere; Fill of one queue by one goroutine at a time.
// Nothing here blocks for a client.
//
// Locks are taken in the order Hub, whatever a Follower has of its own, Queue.
// A Follower is called with the hub locked and must not call the hub.
//
// The package knows neither connections nor the wire: frames are bytes that
// its user makes.
package hub

import (
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
	"lockstep/objects"
)

// Config sets up a Hub.
type Config struct {
	Feed   *fsm.Feed
	View   func() *fsm.View                  // the latest published state
	Encode func(*objects.Event, Form) []byte // the frame of a live event, the same for all subscribers of a form

	QueueLength int // frames of events that wait for one client; 1024
	QueueBytes  int // and their bytes; 1 MiB

	Behind  prometheus.Counter // subscriptions that lost their place
	Dropped prometheus.Counter // stream messages that a full queue lost
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
	frames Frames
}

// Follower is told what happens to a topic, in order, by one goroutine, and
// must not block. It goes on following while it answers with true.
type Follower interface {
	// Happened tells of one event.
	Happened(e *Event) (more bool)

	// Missed says that events were not told: what they did is to be found in
	// the view, which contains all that was told before.
	Missed(view *fsm.View) (more bool)
}

// Hub knows who follows what.
type Hub struct {
	config Config
	cursor *fsm.Cursor

	mu     sync.Mutex
	topics map[objects.SID][]*Following
}

// New makes a hub that tells what is applied from now on, once Run runs.
func New(c Config) *Hub {
	return &Hub{config: c.withDefaults(), cursor: c.Feed.Follow(), topics: make(map[objects.SID][]*Following)}
}

// Run follows the feed until the context ends.
func (h *Hub) Run(ctx context.Context) {
	for {
		batch, err := h.cursor.Next(ctx)
		switch {
		case errors.Is(err, fsm.ErrBehind):
			h.missed()
		case err != nil:
			return
		default:
			for i := range batch.Events {
				h.happened(h.event(&batch.Events[i]))
			}
		}
	}
}

func (h *Hub) event(e *objects.Event) *Event {
	return &Event{Event: e, frames: Frames{Encode: func(form Form) []byte { return h.config.Encode(e, form) }}}
}

// topicOf says what an event is about.
func topicOf(e *objects.Event) objects.SID {
	switch e.Type {
	case objects.KeyRevoked:
		return e.Key
	case objects.ServiceChanged, objects.ServiceRemoved:
		return e.Service.SID
	}
	return e.Object.SID
}

func (h *Hub) happened(e *Event) {
	topic := topicOf(e.Event)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell(topic, func(f Follower) bool { return f.Happened(e) })
}

func (h *Hub) missed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	view := h.config.View()
	for topic := range h.topics {
		h.tell(topic, func(f Follower) bool { return f.Missed(view) })
	}
}

// tell calls all followers of a topic. It goes from the last to the first,
// since whoever stops is replaced by the last one.
func (h *Hub) tell(topic objects.SID, call func(Follower) (more bool)) {
	followers := h.topics[topic]
	for i := len(followers) - 1; i >= 0; i-- {
		if f := followers[i]; !call(f.follower) {
			h.remove(f)
		}
	}
}

// Following is one follower's place in a topic.
type Following struct {
	hub      *Hub
	topic    objects.SID
	place    int // among the followers of the topic; -1: it stopped
	follower Follower
}

// Follow has a follower told what happens to a topic from now on.
func (h *Hub) Follow(topic objects.SID, follower Follower) *Following {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &Following{hub: h, topic: topic, place: len(h.topics[topic]), follower: follower}
	h.topics[topic] = append(h.topics[topic], f)
	return f
}

// Stop ends it. When Stop returns, the follower is not being called and will
// not be called again.
func (f *Following) Stop() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.hub.remove(f)
}

func (h *Hub) remove(f *Following) {
	if f.place < 0 {
		return
	}
	followers := h.topics[f.topic]
	last := followers[len(followers)-1]
	followers[f.place], last.place = last, f.place
	followers[len(followers)-1] = nil
	h.topics[f.topic] = followers[:len(followers)-1]
	f.place = -1
	if len(followers) == 1 {
		delete(h.topics, f.topic)
	}
}

// Topics gives the number of topics that somebody follows.
func (h *Hub) Topics() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.topics)
}
