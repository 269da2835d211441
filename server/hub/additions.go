package hub

import (
	"lockstep/objects"
)

// maxAdditions bounds what Additions remembers.
const maxAdditions = 4096

// Additions are the items of which a subscription was told, while it catches up,
// that they were added. A replay comes in parts, each from the state as it is
// then: an item that was told in one part, and changed before the next, is one
// that was added since the client knew the object, in both. Told so again, some
// clients ignore what became of it. The zero value knows none; one goroutine at a
// time uses it.
//
// Beyond the first 4096 of one replay it forgets, and an item may be told as
// added twice.
type Additions struct {
	told map[objects.EventID]struct{} // by the event that added them
}

// Correct has the events of a part tell of each item once only that it was added.
// more says that another part follows.
func (a *Additions) Correct(events []objects.Event, more bool) {
	for i := range events {
		e := &events[i]
		if e.Type != objects.ItemAdded {
			continue
		}
		if _, told := a.told[e.Item.Added]; told {
			e.Type = objects.ItemUpdated
		} else if more && len(a.told) < maxAdditions {
			if a.told == nil {
				a.told = make(map[objects.EventID]struct{})
			}
			a.told[e.Item.Added] = struct{}{}
		}
	}
	if !more {
		a.told = nil
	}
}
