package fsm

import (
	"cmp"

	"lockstep/objects"
)

// Clients who were away are told of what was removed meanwhile. A collection
// remembers at most this many removed items, and this many bytes of their last
// data; all collections together this much memory; and each at most this long.
const (
	maxTombstones      = 10_000
	maxTombstoneBytes  = 4 << 20
	maxTombstonesTotal = 128 << 20
	maxTombstoneMillis = 24 * 60 * 60 * 1000
)

// Tombstone is a removed item.
type Tombstone struct {
	Object  uint64          `cbor:"1,keyasint"`
	EventID objects.EventID `cbor:"2,keyasint"` // of the removal
	At      int64           `cbor:"3,keyasint"`
	Item    *objects.Item   `cbor:"4,keyasint"` // as it was last
	Service uint64          `cbor:"5,keyasint"` // of the collection
	Kind    objects.Kind    `cbor:"6,keyasint"` // likewise
}

// lessByAge orders tombstones by age.
func lessByAge(a, b *Tombstone) bool {
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Object, b.Object), cmp.Compare(a.EventID, b.EventID)) < 0
}

func lessTombstone(a, b *Tombstone) bool {
	if a.Object != b.Object {
		return a.Object < b.Object
	}
	return a.EventID < b.EventID
}

func (t *Tombstone) size() uint64 { return uint64(len(t.Item.Key) + len(t.Item.Data)) }

// addTombstone keeps a removed item for replay and forgets the oldest ones beyond
// the bounds. next is the collection's next record, still being made.
func (tx *tx) addTombstone(next *storedObject, i *objects.Item) {
	v := tx.view
	t := &Tombstone{Object: next.Num, EventID: next.EventID, At: tx.now(), Item: i, Service: next.Service, Kind: next.Kind()}
	v.tombstones.Set(t)
	v.byAge.Set(t)
	next.Tombstones++
	next.TombstoneBytes += t.size()
	for next.Tombstones > maxTombstones || next.TombstoneBytes > maxTombstoneBytes {
		tx.evictTombstone(next, v.tombstonesAfter(next.Num, 0, 1)[0])
	}
	for v.tombstones.bytes > maxTombstonesTotal {
		oldest, _ := v.byAge.Min()
		if oldest.Object == next.Num {
			tx.evictTombstone(next, oldest)
		} else {
			tx.forgetRemoval(oldest)
		}
	}
}

// evictTombstone forgets the oldest removal of a collection, whose next record is
// being made.
func (tx *tx) evictTombstone(next *storedObject, t *Tombstone) {
	tx.dropTombstone(t)
	next.Tombstones--
	next.TombstoneBytes -= t.size()
	next.HistoryFloor = max(next.HistoryFloor, t.EventID)
}

func (tx *tx) dropTombstone(t *Tombstone) {
	tx.view.tombstones.Delete(t)
	tx.view.byAge.Delete(t)
}

// forgetRemoval forgets the oldest removal of whichever collection.
func (tx *tx) forgetRemoval(t *Tombstone) {
	o, ok := tx.view.object(t.Service, t.Kind, t.Object)
	if !ok { // removed, and its parts are still to be cleared
		tx.dropTombstone(t)
		return
	}
	next := *o
	tx.evictTombstone(&next, t)
	tx.replaceObject(o, &next)
}

// forgetRemovals forgets at most limit removals whose time is over.
func (tx *tx) forgetRemovals(limit int) {
	for range limit {
		oldest, ok := tx.view.byAge.Min()
		if !ok || oldest.At+maxTombstoneMillis > tx.now() {
			return
		}
		tx.forgetRemoval(oldest)
	}
}

func (v *View) tombstonesAfter(object uint64, after objects.EventID, limit int) []*Tombstone {
	return collect(v.tombstones, &Tombstone{Object: object, EventID: after + 1}, limit,
		func(t *Tombstone) bool { return t.Object == object })
}

// CanReplay reports whether the history of an object reaches back to an event: no
// removal after it is forgotten, and it is one that the object had.
func (v *View) CanReplay(o *objects.Object, after objects.EventID) bool {
	stored, ok := v.object(o.Service, o.Kind(), o.Num)
	return ok && stored.HistoryFloor <= after && after <= o.EventID
}

// Replay returns what a client must hear that knows an object up to the event
// known, and has heard the replay up to the event after (at first the same): at
// most limit events in the order of their ids, each with the present state.
// What was overwritten meanwhile is left out. The last event's id is where to
// go on; fewer than limit events mean that this was all.
//
// ErrHistory means that removals after that event are forgotten (or that the
// client knows events which this object never had): it must open the object
// anew.
func (v *View) Replay(o *objects.Object, known, after objects.EventID, limit int) ([]objects.Event, *objects.Error) {
	if !v.CanReplay(o, after) {
		return nil, objects.ErrHistory
	}
	s, ok := v.ServiceOf(o)
	if !ok {
		return nil, objects.ErrServiceGone
	}
	base := objects.Event{Service: s, Object: o}
	if o.Kind() == objects.KindDocument {
		if after == o.EventID {
			return nil, nil
		}
		base.Type, base.ID, base.At = objects.ObjectUpdated, o.EventID, o.Updated
		return []objects.Event{base}, nil
	}
	changed := collect(v.changes, &objects.Item{Object: o.Num, EventID: after + 1}, limit,
		func(i *objects.Item) bool { return i.Object == o.Num })
	removed := v.tombstonesAfter(o.Num, after, limit)
	contextDue := o.ContextEvent > after
	out := make([]objects.Event, 0, min(limit, len(changed)+len(removed)+1))
	for len(out) < limit {
		e := base
		switch {
		case contextDue && (len(changed) == 0 || o.ContextEvent < changed[0].EventID) && (len(removed) == 0 || o.ContextEvent < removed[0].EventID):
			e.Type, e.ID, e.At = objects.ContextUpdated, o.ContextEvent, o.ContextAt
			contextDue = false
		case len(changed) > 0 && (len(removed) == 0 || changed[0].EventID < removed[0].EventID):
			e.Item, changed = changed[0], changed[1:]
			e.Type, e.ID, e.At = objects.ItemUpdated, e.Item.EventID, e.Item.Updated
			if e.Item.Added > known {
				e.Type = objects.ItemAdded
			}
		case len(removed) > 0:
			t := removed[0]
			removed = removed[1:]
			e.Type, e.ID, e.At, e.Item = objects.ItemRemoved, t.EventID, t.At, t.Item
		default:
			return out, nil
		}
		out = append(out, e)
	}
	return out, nil
}
