package hub

import (
	"hash/maphash"
	"sync"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/panics"
)

// Follower is told of the events of a topic, in order, by one goroutine, and must
// not block. It follows the topic for as long as it returns true.
type Follower interface {
	// OnEvent is called with the next event.
	OnEvent(e *Event) (more bool)

	// OnGap is called when events were lost. The view shows what they did, and
	// contains everything that was told before.
	OnGap(view *fsm.View) (more bool)

	// OnPanic is called when another method has panicked, and is the last call.
	// The reader of the topic behind this follower must learn that it ended.
	OnPanic()
}

// topics is one shard of all topics. Following a topic of another shard does not
// wait while many followers are told of an event.
type topics struct {
	panics *panics.Catcher

	mu    sync.Mutex
	bySID map[objects.SID]*topic
}

// topicShards is the number of shards.
const topicShards = 64

type topic struct {
	followers []*Following
	forms     [Forms]int // number of subscriptions among them, by the form they read
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

// Follow has a follower told of the events of a topic from now on.
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

// Stop ends the following. When Stop returns, the follower is not being called
// and will not be called again.
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

// followed reports whether a topic has followers, and returns how many
// subscriptions among them read each form.
func (all *topics) followed(sid objects.SID) (forms [Forms]int, any bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	t := all.bySID[sid]
	if t == nil {
		return forms, false
	}
	return t.forms, true
}

// tell tells all followers of a topic of its next events.
func (all *topics) tell(sid objects.SID, run []Event) {
	if len(run) > 0 {
		all.call(sid, func(f Follower) bool { return tell(f, run) })
	}
}

func tell(f Follower, run []Event) (more bool) {
	if s, ok := f.(*Subscription); ok {
		return s.onEvents(run)
	}
	for i := range run {
		if !f.OnEvent(&run[i]) {
			return false
		}
	}
	return true
}

// call calls all followers of a topic.
func (all *topics) call(sid objects.SID, call func(Follower) (more bool)) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.callLocked(sid, call)
}

func (all *topics) callAll(call func(Follower) (more bool)) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for sid := range all.bySID {
		all.callLocked(sid, call)
	}
}

// callLocked goes from the last follower to the first, because one that stops is
// replaced by the last.
func (all *topics) callLocked(sid objects.SID, call func(Follower) (more bool)) {
	t := all.bySID[sid]
	if t == nil {
		return
	}
	for i := len(t.followers) - 1; i >= 0; i-- {
		if f := t.followers[i]; !all.callOne(f.follower, call) {
			all.remove(f)
		}
	}
}

// callOne calls one follower and keeps its panic from the others.
func (all *topics) callOne(f Follower, call func(Follower) (more bool)) (more bool) {
	defer all.panics.Catch("event", func(error) {
		defer all.panics.Catch("end of a follower", nil)
		f.OnPanic()
	})
	return call(f)
}

func (all *topics) length() int {
	all.mu.Lock()
	defer all.mu.Unlock()
	return len(all.bySID)
}
