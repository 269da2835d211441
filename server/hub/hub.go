// Package hub tells subscribers what happens to the objects they follow. It
// follows the store's feed with one goroutine (Run), finds the subscribers of
// each event's object, has the event encoded once, and hands every subscriber
// the same bytes.
//
// A subscriber must not block: it has a bounded queue of its own and decides
// what to do when that is full. The hub knows neither connections nor protocols.
//
// Locks: Hub.mu is held while subscribers are told, so a subscriber must not
// call the hub from its methods.
package hub

import (
	"context"
	"errors"
	"sync"

	"lockstep/fsm"
	"lockstep/objects"
)

// Subscriber follows objects.
type Subscriber interface {
	// Tell hands over an event of an object that the subscriber follows. frame
	// gives its encoding, made once and shared by all who ask for it.
	Tell(e *objects.Event, frame func() []byte)

	// Lost says that events were missed: the subscriber must look at the state.
	Lost()

	// Notice hands over an event that concerns whole services or keys.
	Notice(e *objects.Event)
}

// Encoder makes the frame of an event.
type Encoder func(e *objects.Event) []byte

// Hub knows who follows what.
type Hub struct {
	cursor *fsm.Cursor
	encode Encoder

	mu     sync.RWMutex
	topics map[objects.SID]map[Subscriber]struct{}
	all    map[Subscriber]struct{}
}

// New makes a hub. Everything that the feed gets from now on is told, once Run
// is called.
func New(feed *fsm.Feed, encode Encoder) *Hub {
	return &Hub{
		cursor: feed.Follow(), encode: encode,
		topics: map[objects.SID]map[Subscriber]struct{}{}, all: map[Subscriber]struct{}{},
	}
}

// Run follows the feed until the context ends. It is called once.
func (h *Hub) Run(ctx context.Context) {
	for {
		batch, err := h.cursor.Next(ctx)
		switch {
		case errors.Is(err, fsm.ErrBehind):
			h.each(func(s Subscriber) { s.Lost() })
		case err != nil:
			return
		default:
			for i := range batch.Events {
				h.tell(&batch.Events[i])
			}
		}
	}
}

func (h *Hub) tell(e *objects.Event) {
	switch e.Type {
	case objects.ObjectCreated:
		return // who follows the object by now has learnt of it otherwise
	case objects.ServiceChanged, objects.ServiceRemoved, objects.KeyRevoked:
		h.each(func(s Subscriber) { s.Notice(e) })
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	subscribers := h.topics[e.Object.SID]
	if len(subscribers) == 0 {
		return
	}
	frame := sync.OnceValue(func() []byte { return h.encode(e) })
	for s := range subscribers {
		s.Tell(e, frame)
	}
}

func (h *Hub) each(f func(Subscriber)) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for s := range h.all {
		f(s)
	}
}

// Join adds a subscriber, which follows nothing yet.
func (h *Hub) Join(s Subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[s] = struct{}{}
}

// Leave removes a subscriber that follows nothing any more.
func (h *Hub) Leave(s Subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, s)
}

// Follow has a subscriber told of an object's events from now on.
func (h *Hub) Follow(s Subscriber, object objects.SID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	followers := h.topics[object]
	if followers == nil {
		followers = map[Subscriber]struct{}{}
		h.topics[object] = followers
	}
	followers[s] = struct{}{}
}

// Unfollow ends what Follow began.
func (h *Hub) Unfollow(s Subscriber, object objects.SID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	followers := h.topics[object]
	delete(followers, s)
	if len(followers) == 0 {
		delete(h.topics, object)
	}
}

// Topics gives the number of objects that somebody follows.
func (h *Hub) Topics() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.topics)
}
