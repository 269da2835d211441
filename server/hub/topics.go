package hub

import (
	"hash/maphash"
	"sync"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/panics"
)

// Follower is told what happens to a topic, in order, by one goroutine, and
// must not block. It goes on following while it answers with true.
type Follower interface {
	// Happened tells of one event.
	Happened(e *Event) (more bool)

	// Missed says that events were not told: what they did is to be found in
	// the view, which contains all that was told before.
	Missed(view *fsm.View) (more bool)

	// Failed is called when another method has panicked, and is the last call:
	// whoever hears of the topic through this follower must learn that it is over.
	Failed()
}

// topics are a part of all topics. Following one of another part does not wait
// while many are told of an event.
type topics struct {
	panics *panics.Catcher

	mu    sync.Mutex
	bySID map[objects.SID]*topic
}

// topicShards is how many parts there are.
const topicShards = 64

type topic struct {
	followers []*Following
	forms     [Forms]int // subscriptions among them, by the form that they read
}

// Following is one follower's place in a topic.
type Following struct {
	topics   *topics
	topic    objects.SID
	place    int // among the followers of the topic; -1: it stopped
	follower Follower
}

func (h *Hub) topicsOf(sid objects.SID) *topics {
	return &h.topics[maphash.Comparable(h.seed, sid)%topicShards]
}

// Follow has a follower told what happens to a topic from now on.
func (h *Hub) Follow(sid objects.SID, follower Follower) *Following {
	all := h.topicsOf(sid)
	all.mu.Lock()
	defer all.mu.Unlock()
	t := all.bySID[sid]
	if t == nil {
		t = new(topic)
		all.bySID[sid] = t
	}
	f := &Following{topics: all, topic: sid, place: len(t.followers), follower: follower}
	t.followers = append(t.followers, f)
	t.count(f, 1)
	return f
}

// Stop ends it. When Stop returns, the follower is not being called and will
// not be called again.
func (f *Following) Stop() {
	f.topics.mu.Lock()
	defer f.topics.mu.Unlock()
	f.topics.remove(f)
}

func (all *topics) remove(f *Following) {
	if f.place < 0 {
		return
	}
	t := all.bySID[f.topic]
	t.count(f, -1)
	end := len(t.followers) - 1
	last := t.followers[end]
	t.followers[f.place], last.place = last, f.place
	t.followers[end] = nil
	t.followers = t.followers[:end]
	f.place = -1
	if end == 0 {
		delete(all.bySID, f.topic)
	}
}

func (t *topic) count(f *Following, sign int) {
	if s, ok := f.follower.(*Subscription); ok {
		t.forms[s.form] += sign
	}
}

// followed reports whether anybody follows a topic, and how many subscriptions
// read which form.
func (all *topics) followed(sid objects.SID) (forms [Forms]int, any bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	t := all.bySID[sid]
	if t == nil {
		return forms, false
	}
	return t.forms, true
}

// tell calls all followers of a topic.
func (all *topics) tell(sid objects.SID, call func(Follower) (more bool)) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.tellLocked(sid, call)
}

func (all *topics) tellAll(call func(Follower) (more bool)) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for sid := range all.bySID {
		all.tellLocked(sid, call)
	}
}

// tellLocked goes from the last to the first, since whoever stops is replaced by
// the last one.
func (all *topics) tellLocked(sid objects.SID, call func(Follower) (more bool)) {
	t := all.bySID[sid]
	if t == nil {
		return
	}
	for i := len(t.followers) - 1; i >= 0; i-- {
		if f := t.followers[i]; !all.tellOne(f.follower, call) {
			all.remove(f)
		}
	}
}

// tellOne keeps a fault of one follower from the others.
func (all *topics) tellOne(f Follower, call func(Follower) (more bool)) (more bool) {
	defer all.panics.Catch("event", func(error) {
		defer all.panics.Catch("end of a follower", nil)
		f.Failed()
	})
	return call(f)
}

func (all *topics) length() int {
	all.mu.Lock()
	defer all.mu.Unlock()
	return len(all.bySID)
}
