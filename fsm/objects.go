package fsm

import "lockstep/objects"

// storedObject is an object in the store: what it is, and what the store has to
// remember about it. The numbers of the fields are among those of objects.Object.
// Only the former leaves this package.
type storedObject struct {
	objects.Object
	NextIndex      uint64          `cbor:"13,keyasint,omitempty"` // lists: index of the next item
	Tombstones     uint64          `cbor:"14,keyasint,omitempty"` // number of those kept
	TombstoneBytes uint64          `cbor:"15,keyasint,omitempty"` // their size
	HistoryFloor   objects.EventID `cbor:"16,keyasint,omitempty"` // removals up to this event are forgotten
	PartBytes      uint64          `cbor:"19,keyasint,omitempty"` // what its items and permissions take in memory
}

func (o *storedObject) describe(f *form) {
	if f.reading {
		o.Num = 0 // a write comes first, as for items
	}
	(*objectForm)(&o.Object).begin(f)
	uintField(f, 13, &o.NextIndex, optional)
	uintField(f, 14, &o.Tombstones, optional)
	uintField(f, 15, &o.TombstoneBytes, optional)
	uintField(f, 16, &o.HistoryFloor, optional)
	(*objectForm)(&o.Object).end(f)
	uintField(f, 19, &o.PartBytes, optional)
}

// CreateObject makes a document, list, map or stream, as its SID says.
type CreateObject struct {
	SID        objects.SID `cbor:"1,keyasint"`
	UniqueName string      `cbor:"2,keyasint,omitempty"`
	Data       []byte      `cbor:"3,keyasint,omitempty"` // documents: the value; lists: the context
	TTL        int64       `cbor:"4,keyasint,omitempty"` // seconds; 0: it never expires
}

func (op *CreateObject) describe(f *form) {
	f.array(1, op.SID[:])
	f.text(2, &op.UniqueName, optional)
	f.bytes(3, &op.Data, optional)
	f.int(4, &op.TTL, optional)
}

func (op *CreateObject) apply(tx *tx) Result {
	s, refused := tx.service()
	if refused != nil {
		return refuse(refused)
	}
	kind := op.SID.Kind()
	if op.UniqueName != "" {
		if _, taken := tx.view.Object(s.Num, kind, Ref{Name: op.UniqueName}); taken {
			return refuse(objects.ErrNameExists)
		}
	}
	o := &storedObject{Object: objects.Object{
		Num: tx.nextNum(), SID: op.SID, Service: s.Num, ServiceSID: s.SID, UniqueName: op.UniqueName,
		Created: tx.now(), Updated: tx.now(), Expires: tx.expiry(op.TTL),
		CreatedBy: tx.command.Actor.name(), Data: op.Data,
	}}
	if a := tx.command.Actor; a.Token && s.ACLEnabled && kind != objects.KindStream {
		tx.putPermission(o, &objects.Permission{Object: o.Num, Identity: a.Identity, Rights: objects.Read | objects.Write | objects.Manage})
	}
	tx.view.objects.Set(o)
	tx.view.sids.Set(sidEntryOf(o.SID, s.Num, o.Num))
	if o.UniqueName != "" {
		tx.view.names.Set(nameEntryOf(s.Num, kind, o.UniqueName, o.Num))
	}
	if o.Expires != 0 {
		tx.view.expiries.Set(objectExpiry(o))
	}
	tx.view.charge(s.Num, footprint(o))
	tx.emit(objects.Event{Type: objects.ObjectCreated, Service: s, Object: &o.Object})
	return Result{Object: leanObject(&o.Object)}
}

// expiry returns the time at which something with this TTL expires.
func (tx *tx) expiry(ttlSeconds int64) int64 {
	if ttlSeconds == 0 {
		return 0
	}
	return tx.now() + ttlSeconds*1000
}

// UpdateObject changes a document's data, a list's context, or the TTL of any
// object. What is nil stays as it is.
type UpdateObject struct {
	Kind     objects.Kind         `cbor:"1,keyasint"`
	Object   Ref                  `cbor:"2,keyasint"`
	Data     []byte               `cbor:"3,keyasint,omitempty"`
	TTL      *int64               `cbor:"4,keyasint,omitempty"`
	Match    objects.Precondition `cbor:"5,keyasint,omitempty"`
	KeepData bool                 `cbor:"6,keyasint,omitempty"` // see keepsData
}

func (op *UpdateObject) describe(f *form) {
	uintField(f, 1, &op.Kind, needed)
	f.part(2, &op.Object, needed)
	f.bytes(3, &op.Data, optional)
	f.intOrNone(4, &op.TTL)
	f.part(5, (*preconditionForm)(&op.Match), op.Match != objects.Precondition{})
	f.bool(6, &op.KeepData)
}

func (op *UpdateObject) apply(tx *tx) Result {
	s, o, refused := tx.object(op.Kind, op.Object, objects.Write)
	if refused != nil {
		return refuse(refused)
	}
	if op.Kind == objects.KindDocument && !op.Match.Holds(o.Revision()) {
		return refuse(objects.ErrDocumentMismatch)
	}
	next := *o
	next.Updated = tx.now()
	if op.TTL != nil {
		next.Expires = tx.expiry(*op.TTL)
	}
	if op.Data == nil {
		tx.replaceObject(o, &next)
		return Result{Object: &next.Object}
	}
	next.EventID++
	next.Data = op.Data
	event := objects.Event{Type: objects.ObjectUpdated, ID: next.EventID, Service: s, Object: &next.Object}
	if op.Kind == objects.KindList {
		event.Type = objects.ContextUpdated
		next.ContextEvent, next.ContextAt = next.EventID, tx.now()
	}
	tx.replaceObject(o, &next)
	tx.emit(event)
	return Result{Object: leanObject(&next.Object)}
}

// replaceObject puts a new record of an object in the place of the old one.
func (tx *tx) replaceObject(old, next *storedObject) {
	tx.view.objects.Set(next)
	tx.view.charge(next.Service, footprint(next)-footprint(old))
	if old.Expires == next.Expires {
		return
	}
	if old.Expires != 0 {
		tx.view.expiries.Delete(objectExpiry(old))
	}
	if next.Expires != 0 {
		tx.view.expiries.Set(objectExpiry(next))
	}
}

// RemoveObject removes an object with its items and permissions.
type RemoveObject struct {
	Kind   objects.Kind `cbor:"1,keyasint"`
	Object Ref          `cbor:"2,keyasint"`
}

func (op *RemoveObject) describe(f *form) {
	uintField(f, 1, &op.Kind, needed)
	f.part(2, &op.Object, needed)
}

func (op *RemoveObject) apply(tx *tx) Result {
	s, o, refused := tx.object(op.Kind, op.Object, objects.Manage)
	if refused != nil {
		return refuse(refused)
	}
	tx.removeObject(s, o)
	return Result{Object: leanObject(&o.Object)}
}

func (tx *tx) removeObject(s *objects.Service, o *storedObject) {
	tx.dropObject(o)
	tx.emit(objects.Event{Type: objects.ObjectRemoved, ID: o.EventID + 1, Service: s, Object: &o.Object})
}

// dropObject takes an object out of reach, and leaves its parts to be cleared.
func (tx *tx) dropObject(o *storedObject) {
	v := tx.view
	v.objects.Delete(o)
	v.charge(o.Service, -footprint(o))
	v.sids.Delete(sidEntryOf(o.SID, 0, 0))
	if o.UniqueName != "" {
		v.names.Delete(nameEntryOf(o.Service, o.Kind(), o.UniqueName, 0))
	}
	if o.Expires != 0 {
		v.expiries.Delete(objectExpiry(o))
	}
	v.durables.Delete(&Durable{Object: o.Num})
	v.garbage.Set(garbage{Num: o.Num, Service: o.Service, Kind: o.Kind()})
}
