package fsm

import "lockstep/objects"

// WriteMode says what a WriteItem expects to find.
type WriteMode uint8

const (
	AppendItem WriteMode = 1 // lists: a new item with the next index
	AddItem    WriteMode = 2 // maps: the key must be new
	UpdateItem WriteMode = 3 // the item must exist
	PutItem    WriteMode = 4 // maps: create or update
)

// WriteItem creates or changes an item of a list or map. What is nil stays as
// it is.
type WriteItem struct {
	Kind          objects.Kind         `cbor:"1,keyasint"`
	Object        Ref                  `cbor:"2,keyasint"`
	Item          ItemKey              `cbor:"3,keyasint"`
	Mode          WriteMode            `cbor:"4,keyasint"`
	Data          []byte               `cbor:"5,keyasint,omitempty"`
	TTL           *int64               `cbor:"6,keyasint,omitempty"` // seconds; 0: never expires
	CollectionTTL *int64               `cbor:"7,keyasint,omitempty"`
	Match         objects.Precondition `cbor:"8,keyasint,omitempty"`
	KeepData      bool                 `cbor:"9,keyasint,omitempty"` // see keepsData
}

func (op *WriteItem) describe(f *form) {
	uintField(f, 1, &op.Kind, needed)
	f.part(2, &op.Object, needed)
	f.part(3, &op.Item, needed)
	uintField(f, 4, &op.Mode, needed)
	f.bytes(5, &op.Data, optional)
	f.intOrNone(6, &op.TTL)
	f.intOrNone(7, &op.CollectionTTL)
	f.part(8, (*preconditionForm)(&op.Match), op.Match != objects.Precondition{})
	f.bool(9, &op.KeepData)
}

func (op *WriteItem) apply(tx *tx) Result {
	s, o, refused := tx.object(op.Kind, op.Object, objects.Write)
	if refused != nil {
		return refuse(refused)
	}
	if op.Kind == objects.KindList && op.Data != nil && tx.view.Durable(&o.Object).Closed {
		return refuse(objects.ErrClosed)
	}
	key := op.Item
	if op.Mode == AppendItem {
		key = ItemKey{Index: o.NextIndex}
	}
	old, exists := tx.view.Item(&o.Object, key)
	if refused := op.check(&o.Object, old, exists); refused != nil {
		return refuse(refused)
	}
	next := *o
	tx.slide(&next)
	if op.CollectionTTL != nil {
		next.Expires = tx.expiry(*op.CollectionTTL)
		next.Updated = tx.now()
	}
	switch {
	case !exists:
		return tx.addItem(s, o, &next, key, op)
	case op.Data != nil:
		return tx.updateItem(s, o, &next, old, op)
	}
	return tx.touchItem(o, &next, old, op)
}

// check refuses a write that does not fit what is there.
func (op *WriteItem) check(o *objects.Object, old *objects.Item, exists bool) *objects.Error {
	switch {
	case exists && op.Mode == AddItem:
		return objects.ErrMapItemExists
	case exists && !op.Match.Holds(old.Revision):
		return objects.ErrMismatch(op.Kind)
	case exists:
		return nil
	case op.Mode == UpdateItem:
		return objects.ErrItemGone(op.Kind)
	case op.Match.Kind == objects.MatchRevision || op.Match.Kind == objects.MatchAny:
		return objects.ErrMismatch(op.Kind)
	case op.Data == nil:
		return objects.ErrNull(op.Kind)
	case o.Items >= objects.MaxItems:
		return objects.ErrTooManyItems
	}
	return nil
}

func (tx *tx) addItem(s *objects.Service, o, next *storedObject, key ItemKey, op *WriteItem) Result {
	next.EventID++
	next.Updated = tx.now()
	next.Items++
	if op.Mode == AppendItem {
		next.NextIndex++
	}
	i := &objects.Item{
		Object: o.Num, Index: key.Index, Key: key.Key,
		// Starting at the collection's event id, no revision of a key returns
		// when the key is removed and added again.
		Revision: objects.Revision(next.EventID), EventID: next.EventID, Added: next.EventID,
		Created: tx.now(), Updated: tx.now(), CreatedBy: tx.command.Actor.name(), Data: op.Data,
	}
	if op.TTL != nil {
		i.Expires = tx.expiry(*op.TTL)
	}
	tx.replaceItem(next, nil, i)
	tx.replaceObject(o, next)
	tx.emit(objects.Event{Type: objects.ItemAdded, ID: next.EventID, Service: s, Object: &next.Object, Item: i})
	return Result{Object: leanObject(&next.Object), Item: leanItem(i), Created: true}
}

func (tx *tx) updateItem(s *objects.Service, o, next *storedObject, old *objects.Item, op *WriteItem) Result {
	next.EventID++
	next.Updated = tx.now()
	i := *old
	i.Revision++
	i.EventID = next.EventID
	i.Updated = tx.now()
	i.Data = op.Data
	if op.TTL != nil {
		i.Expires = tx.expiry(*op.TTL)
	}
	tx.replaceItem(next, old, &i)
	tx.replaceObject(o, next)
	tx.emit(objects.Event{Type: objects.ItemUpdated, ID: next.EventID, Service: s, Object: &next.Object, Item: &i})
	return Result{Object: leanObject(&next.Object), Item: leanItem(&i)}
}

// touchItem changes only the TTL: no event, no new revision.
func (tx *tx) touchItem(o, next *storedObject, old *objects.Item, op *WriteItem) Result {
	i := *old
	if op.TTL != nil {
		i.Expires = tx.expiry(*op.TTL)
	}
	i.Updated = tx.now()
	tx.replaceItem(next, old, &i)
	tx.replaceObject(o, next)
	return Result{Object: leanObject(&next.Object), Item: &i}
}

// replaceItem puts a new record of an item in the place of the old one; either
// may be nil. o is the collection's next record, still being made.
func (tx *tx) replaceItem(o *storedObject, old, next *objects.Item) {
	v := tx.view
	if old != nil {
		o.PartBytes -= uint64(itemSize(old))
		if next == nil {
			tx.letItemGo(o, old)
			v.items.Delete(old)
		}
		if next == nil || next.EventID != old.EventID {
			v.changes.Delete(old)
		}
		if old.Expires != 0 && (next == nil || next.Expires != old.Expires) {
			v.expiries.Delete(itemExpiry(o, old))
		}
	}
	if next != nil {
		o.PartBytes += uint64(itemSize(next))
		v.items.Set(next)
		v.changes.Set(next)
		if next.Expires != 0 {
			v.expiries.Set(itemExpiry(o, next))
		}
	}
}

// RemoveItem removes an item.
type RemoveItem struct {
	Kind   objects.Kind         `cbor:"1,keyasint"`
	Object Ref                  `cbor:"2,keyasint"`
	Item   ItemKey              `cbor:"3,keyasint"`
	Match  objects.Precondition `cbor:"4,keyasint,omitempty"`
}

func (op *RemoveItem) describe(f *form) {
	uintField(f, 1, &op.Kind, needed)
	f.part(2, &op.Object, needed)
	f.part(3, &op.Item, needed)
	f.part(4, (*preconditionForm)(&op.Match), op.Match != objects.Precondition{})
}

func (op *RemoveItem) apply(tx *tx) Result {
	s, o, refused := tx.object(op.Kind, op.Object, objects.Write)
	if refused != nil {
		return refuse(refused)
	}
	i, ok := tx.view.Item(&o.Object, op.Item)
	if !ok {
		return refuse(objects.ErrItemGone(op.Kind))
	}
	if !op.Match.Holds(i.Revision) {
		return refuse(objects.ErrMismatch(op.Kind))
	}
	next := tx.removeItem(s, o, i)
	gone := leanItem(i)
	gone.EventID = next.EventID
	gone.Updated = next.Updated
	return Result{Object: leanObject(&next.Object), Item: gone}
}

func (tx *tx) removeItem(s *objects.Service, o *storedObject, i *objects.Item) *storedObject {
	next := *o
	next.EventID++
	next.Updated = tx.now()
	next.Items--
	tx.replaceItem(&next, i, nil)
	tx.addTombstone(&next, i)
	tx.replaceObject(o, &next)
	tx.emit(objects.Event{Type: objects.ItemRemoved, ID: next.EventID, Service: s, Object: &next.Object, Item: i})
	return &next
}
