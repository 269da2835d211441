package validate

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Event is one change of an object, as a subscriber hears it.
type Event struct {
	ID   uint64
	Type Type
	Key  string // of the item; empty: the object itself
	Data string // as it is now; of what was removed it does not matter
}

// Type is what happened.
type Type string

// The types of events. A replay may tell of an item that was added and updated
// since as one that was added, and of one that was updated by its last update.
const (
	Added   Type = "added"
	Updated Type = "updated"
	Removed Type = "removed"
)

// says reports whether two events tell the same of the same thing.
func (e Event) says(other Event) bool {
	return e.Key == other.Key && (e.Type == Removed) == (other.Type == Removed) && (e.Type == Removed || e.Data == other.Data)
}

// Events is all that ever happened to an object, by event id. The zero value
// holds none; its methods may be called from any goroutine.
type Events struct {
	mu   sync.Mutex
	byID map[uint64]Event
}

// Add notes an event that a node told of. It returns an error if another one
// was told under the same id.
func (a *Events) Add(e Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.byID[e.ID]; ok && !known.says(e) {
		return fmt.Errorf("validate: event %d is told as %+v and as %+v", e.ID, known, e)
	}
	if a.byID == nil {
		a.byID = make(map[uint64]Event)
	}
	a.byID[e.ID] = e
	return nil
}

// Through returns an error unless every event of a range of ids is known.
func (a *Events) Through(first, last uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var faults []string
	for id := first; id <= last; id++ {
		if _, ok := a.byID[id]; !ok {
			faults = append(faults, fmt.Sprintf("nobody told of event %d", id))
		}
	}
	return faultsOf("events", faults)
}

// Transcript is what one subscriber to one object was told, over all its
// connections to whatever nodes. It keeps the subscriber's own copy of the
// object, made of that alone. The zero value is that of a subscriber that knows
// nothing yet, from before the object's first event; its methods may be called
// from any goroutine.
type Transcript struct {
	mu          sync.Mutex
	items       map[string]string
	opened      uint64 // the event as of which the copy was read
	last        uint64 // event
	heard       []Event
	established int
	returned    bool // with what it knows, and has not been established since
	faults      []string
	past        []stretch // before it was opened anew
}

// stretch is what a subscriber heard between opening the object and its end.
type stretch struct {
	opened, last uint64
	heard        []Event
}

func (t *Transcript) fault(format string, args ...any) {
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

// Open says that the subscriber reads the object anew, as of an event: its
// history could not be replayed.
func (t *Transcript) Open(at uint64, items map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at < t.last {
		t.fault("opened as of event %d by a subscriber that knows event %d", at, t.last)
	}
	t.past = append(t.past, stretch{t.opened, t.last, t.heard})
	t.items, t.opened, t.last, t.heard = maps.Clone(items), at, at, nil
}

// Last returns the event from behind which the subscriber goes on.
func (t *Transcript) Last() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// Returned says that the subscriber connects again, and asks for what is behind the
// last event that it knows. If the connection before ended in the middle of a
// replay, there may be an item that was added before that event, which the
// subscriber has not heard of since it was changed after it: a replay has items in
// the order of their last events. Until it is established, such an item may be told
// as one that was updated.
func (t *Transcript) Returned() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.returned = t.last > t.opened
}

// Established says that the subscriber was told that it knows everything up to
// an event.
func (t *Transcript) Established(at uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.established++
	t.returned = false
	if at != t.last {
		t.fault("established at event %d, and the last one told is %d", at, t.last)
	}
}

// Times returns how often the subscription was established.
func (t *Transcript) Times() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.established
}

// Heard notes an event that the subscriber was told of.
func (t *Transcript) Heard(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.ID <= t.last {
		t.fault("event %d behind event %d", e.ID, t.last)
	}
	if t.items == nil {
		t.items = make(map[string]string)
	}
	_, known := t.items[e.Key]
	switch {
	case e.Type == Added && known && e.Key != "":
		t.fault("event %d adds %q, which is there", e.ID, e.Key)
	case e.Type == Updated && !known && e.Key != "" && !t.returned:
		t.fault("event %d updates %q, which is not there", e.ID, e.Key)
	}
	if e.Type == Removed {
		delete(t.items, e.Key)
	} else {
		t.items[e.Key] = e.Data
	}
	t.last = max(t.last, e.ID)
	t.heard = append(t.heard, e)
}

// Fault notes what the subscriber should not have been told at all.
func (t *Transcript) Fault(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault("%s", what)
}

// All calls f with each event that was heard.
func (t *Transcript) All(f func(Event) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range append(slices.Clone(t.past), stretch{heard: t.heard}) {
		for _, e := range s.heard {
			if err := f(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Check returns an error unless the subscriber heard what happened: in order,
// each event at most once, as it was, and all of it. Of an item's events a
// replay leaves out those that a later one of the item, which it has, makes
// void; of what has no later event nothing may be missing.
func (t *Transcript) Check(all *Events) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	all.mu.Lock()
	defer all.mu.Unlock()
	faults := slices.Clone(t.faults)
	for _, s := range append(slices.Clone(t.past), stretch{t.opened, t.last, t.heard}) {
		faults = append(faults, s.check(all.byID)...)
	}
	return faultsOf("subscriber", faults)
}

func (s stretch) check(all map[uint64]Event) (faults []string) {
	newest := make(map[string]uint64) // event that was heard of an item
	heard := make(map[uint64]bool)
	for _, e := range s.heard {
		heard[e.ID], newest[e.Key] = true, max(newest[e.Key], e.ID)
		if truth, ok := all[e.ID]; !ok || !truth.says(e) {
			faults = append(faults, fmt.Sprintf("heard %+v, which was %+v", e, truth))
		}
	}
	for id, e := range all {
		if id > s.opened && id <= s.last && !heard[id] && newest[e.Key] < id {
			faults = append(faults, fmt.Sprintf("%+v was missed between events %d and %d", e, s.opened, s.last))
		}
	}
	return faults
}

// EndsIn returns an error unless the subscriber's copy is the object as of its
// last event.
func (t *Transcript) EndsIn(last uint64, items map[string]string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.last != last:
		return fmt.Errorf("validate: subscriber: it knows event %d, and the last one is %d", t.last, last)
	case maps.Equal(t.items, items):
		return nil
	}
	var faults []string
	for key, data := range items {
		if have, ok := t.items[key]; !ok || have != data {
			faults = append(faults, fmt.Sprintf("%q is %q, and %q in its copy", key, data, have))
		}
	}
	for key := range t.items {
		if _, ok := items[key]; !ok {
			faults = append(faults, fmt.Sprintf("%q is only in its copy", key))
		}
	}
	return faultsOf("subscriber", faults)
}
