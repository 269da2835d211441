package fsm

import (
	"bytes"

	"lockstep/objects"
)

// MaxImported is how many records an Import may have.
const MaxImported = 100

// Import makes records as they are elsewhere, in another cluster or in Twilio's: with
// their SIDs, revisions, indexes, dates and creators. What is there in the same form
// already stays, so that doing it twice is like doing it once. Each record is decided
// by itself: the result has a part for each, with the object if that has a greater
// revision than its record. Subscribers are told; webhooks are not.
type Import struct {
	Records []Imported `cbor:"1,keyasint"`
}

// Imported is one record: one of Service, Object, Item and Permission is set.
type Imported struct {
	Of         objects.SID         `cbor:"1,keyasint,omitempty"` // the service of an object, the object of an item or permission
	Service    *objects.Service    `cbor:"2,keyasint,omitempty"`
	Object     *objects.Object     `cbor:"3,keyasint,omitempty"`
	Item       *objects.Item       `cbor:"4,keyasint,omitempty"`
	Permission *objects.Permission `cbor:"5,keyasint,omitempty"`

	// Whole says of a list or map that all its items came before: it gets its revision
	// and its dates now. The events of the items are counted from 0 on until then. It
	// has as many items as its record says, or nothing is done and More is the result.
	Whole bool `cbor:"6,keyasint,omitempty"`

	// Remove takes an object, item or permission away, if it is there.
	Remove bool `cbor:"7,keyasint,omitempty"`
}

// Difference is how what is there differs from a record that an import would make.
type Difference uint8

// The differences.
const (
	Same    Difference = iota
	Missing            // it is not there
	Other              // it is another one
	Extra              // a list or map has items that are not of the import
	Ahead              // all is the same, but for a revision that is already greater
)

func (op *Import) apply(tx *tx) Result {
	if len(op.Records) == 0 || len(op.Records) > MaxImported {
		return refuse(objects.ErrParameter.With("An import has 1 to %d records", MaxImported))
	}
	r := Result{Parts: make([]Result, len(op.Records))}
	for i := range op.Records {
		r.Parts[i] = tx.bring(&op.Records[i])
	}
	return r
}

// bring makes one record, or takes it away.
func (tx *tx) bring(r *Imported) Result {
	switch {
	case r.Service != nil:
		return tx.bringService(r.Service)
	case r.Object != nil:
		return tx.bringObject(r)
	}
	o, ok := tx.view.objectBySID(r.Of)
	if !ok {
		return refuse(objects.ErrGone(r.Of.Kind()))
	}
	s, ok := tx.view.ServiceOf(&o.Object)
	if !ok {
		return refuse(objects.ErrServiceGone)
	}
	switch {
	case r.Item != nil:
		return tx.bringItem(s, o, r)
	case r.Permission != nil:
		tx.bringPermission(s, o, r)
	}
	return Result{}
}

func (tx *tx) bringService(r *objects.Service) Result {
	v := tx.view
	old, exists := v.Service(Ref{SID: r.SID})
	if !exists && r.UniqueName != "" {
		if old, exists = v.Service(Ref{Name: r.UniqueName}); exists && !v.unused(old) {
			return refuse(objects.ErrNameExists.With("The service %s is in use here, as %s", r.UniqueName, old.SID))
		}
	}
	next := r
	if !exists {
		made := *r
		made.Num, next = tx.nextNum(), &made
	} else if next = importedService(old, r); *next == *old {
		return Result{}
	}
	v.services.Set(next)
	if exists && old.SID != next.SID {
		v.sids.Delete(sidEntryOf(old.SID, 0, 0))
		tx.emit(objects.Event{Type: objects.ServiceRemoved, Service: old}) // under this SID it is not found any more
	}
	v.sids.Set(sidEntryOf(next.SID, 0, next.Num))
	if next.UniqueName != "" {
		v.names.Set(nameEntryOf(0, objects.KindService, next.UniqueName, next.Num))
	}
	if exists {
		tx.rememberEndpoints(old, next)
		tx.emit(objects.Event{Type: objects.ServiceChanged, Service: next})
	}
	return Result{}
}

// importedService returns what a service becomes by a record.
func importedService(old, r *objects.Service) *objects.Service {
	next := *r
	next.Num, next.UniqueName = old.Num, old.UniqueName
	next.Created, next.Updated = inTime(old.Created, r.Created), inTime(old.Updated, r.Updated)
	return &next
}

// inTime returns a time that comes from elsewhere, unless the one that is here lies
// within the same second: the API tells times to the second.
func inTime(here, there int64) int64 {
	if here/1000 == there/1000 {
		return here
	}
	return there
}

// unused reports whether a service has no object, and no API key that is bound to it:
// it may take over another SID.
func (v *View) unused(s *objects.Service) bool {
	for kind := objects.KindDocument; kind <= objects.KindStream; kind++ {
		if len(v.storedObjects(s.Num, kind, Span[uint64]{Limit: 1})) > 0 {
			return false
		}
	}
	for _, k := range v.Keys() {
		if k.Service == s.SID {
			return false
		}
	}
	return true
}

func (tx *tx) bringObject(r *Imported) Result {
	v, kind := tx.view, r.Object.SID.Kind()
	s, ok := v.Service(Ref{SID: r.Of})
	if !ok {
		return refuse(objects.ErrServiceGone)
	}
	old, exists := v.lookUp(s.Num, kind, Ref{SID: r.Object.SID})
	switch {
	case r.Remove && exists:
		tx.removeObject(s, old)
		return Result{}
	case r.Remove:
		return Result{}
	case exists && r.Whole && old.Items != r.Object.Items:
		return Result{More: true}
	case exists:
		next := old.imported(r)
		if next != old {
			tx.replaceObject(old, next)
		}
		if kind == objects.KindDocument && !bytes.Equal(old.Data, next.Data) {
			tx.emit(objects.Event{Type: objects.ObjectUpdated, ID: next.EventID, Service: s, Object: &next.Object})
		}
		if ahead(&next.Object, r) {
			return Result{Object: leanObject(&next.Object)}
		}
		return Result{}
	}
	if _, taken := v.objectBySID(r.Object.SID); taken {
		return refuse(objects.ErrNameExists.With("%s is in another service", r.Object.SID))
	}
	if name := r.Object.UniqueName; name != "" {
		if other, taken := v.Object(s.Num, kind, Ref{Name: name}); taken {
			return refuse(objects.ErrNameExists.With("The name is that of %s here", other.SID))
		}
	}
	tx.putNewObject(s, r.Object)
	return Result{Created: true}
}

// putNewObject makes an object that comes from elsewhere. Its items, if it has any,
// are still to come.
func (tx *tx) putNewObject(s *objects.Service, r *objects.Object) {
	v := tx.view
	o := &storedObject{Object: *r}
	o.Num, o.Service, o.ServiceSID = tx.nextNum(), s.Num, s.SID
	o.Items, o.ContextEvent, o.ContextAt = 0, 0, 0
	if o.Kind() != objects.KindDocument {
		o.EventID, o.Data = 0, nil
	}
	v.objects.Set(o)
	v.sids.Set(sidEntryOf(o.SID, s.Num, o.Num))
	if o.UniqueName != "" {
		v.names.Set(nameEntryOf(s.Num, o.Kind(), o.UniqueName, o.Num))
	}
	if o.Expires != 0 {
		v.expiries.Set(objectExpiry(o))
	}
	v.charge(s.Num, footprint(o))
	tx.emit(objects.Event{Type: objects.ObjectCreated, Service: s, Object: &o.Object})
}

// imported returns what an object becomes by a record: itself, if that is the same.
func (o *storedObject) imported(r *Imported) *storedObject {
	kind := o.Kind()
	collection := kind == objects.KindList || kind == objects.KindMap
	if collection && !r.Whole {
		return o
	}
	next := *o
	next.Created, next.Updated, next.Expires = inTime(o.Created, r.Object.Created), inTime(o.Updated, r.Object.Updated), inTime(o.Expires, r.Object.Expires)
	next.CreatedBy = r.Object.CreatedBy
	switch {
	case kind == objects.KindDocument:
		if next.Data = r.Object.Data; !bytes.Equal(o.Data, next.Data) {
			next.EventID++
		}
		next.EventID = max(next.EventID, r.Object.EventID)
	case collection && r.Object.EventID > o.EventID:
		// Whoever knows an event between the two knows it from elsewhere, and opens
		// the object anew.
		next.EventID, next.HistoryFloor = r.Object.EventID, r.Object.EventID
	}
	if next.EventID == o.EventID && next.Created == o.Created && next.Updated == o.Updated && next.Expires == o.Expires && next.CreatedBy == o.CreatedBy {
		return o
	}
	return &next
}

func (tx *tx) bringItem(s *objects.Service, o *storedObject, r *Imported) Result {
	kind := o.Kind()
	if kind != objects.KindList && kind != objects.KindMap {
		return refuse(objects.ErrGone(kind))
	}
	if (kind == objects.KindMap) != (r.Item.Key != "") || kind == objects.KindMap && r.Item.Index != 0 {
		return refuse(objects.ErrParameter.With("It is not an item of a %s", kind))
	}
	old, exists := tx.view.Item(&o.Object, ItemKey{r.Item.Index, r.Item.Key})
	if r.Remove {
		if exists {
			tx.removeItem(s, o, old)
		}
		return Result{}
	}
	if exists && sameItem(old, r.Item) {
		return Result{}
	}
	if kind == objects.KindList && tx.view.Durable(&o.Object).Closed {
		return refuse(objects.ErrClosed)
	}
	if !exists && o.Items >= objects.MaxItems {
		return refuse(objects.ErrTooManyItems)
	}
	next, i := *o, *r.Item
	i.Object = o.Num
	event := objects.ItemUpdated
	switch {
	case !exists:
		next.EventID++
		next.Items++
		i.EventID, i.Added = next.EventID, next.EventID
		event = objects.ItemAdded
	case bytes.Equal(old.Data, i.Data) && old.Revision == i.Revision: // other dates are no event
		i.EventID, i.Added = old.EventID, old.Added
	default:
		next.EventID++
		i.EventID, i.Added = next.EventID, old.Added
	}
	if kind == objects.KindList {
		next.NextIndex = max(next.NextIndex, i.Index+1)
	}
	tx.replaceItem(&next, old, &i)
	tx.replaceObject(o, &next)
	if next.EventID != o.EventID {
		tx.emit(objects.Event{Type: event, ID: next.EventID, Service: s, Object: &next.Object, Item: &i})
	}
	return Result{Created: !exists}
}

// sameItem reports whether two records of an item are the same, but for the events
// that made them.
func sameItem(a, b *objects.Item) bool {
	return a.Revision == b.Revision && a.Created/1000 == b.Created/1000 && a.Updated/1000 == b.Updated/1000 && a.Expires/1000 == b.Expires/1000 &&
		a.CreatedBy == b.CreatedBy && bytes.Equal(a.Data, b.Data)
}

func (tx *tx) bringPermission(s *objects.Service, o *storedObject, r *Imported) {
	old, exists := tx.view.Permission(&o.Object, r.Permission.Identity)
	next := *o
	switch {
	case r.Remove && exists:
		tx.view.permissions.Delete(old)
		next.PartBytes -= uint64(permissionSize(old))
	case !r.Remove && (!exists || old.Rights != r.Permission.Rights):
		tx.putPermission(&next, &objects.Permission{Object: o.Num, Identity: r.Permission.Identity, Rights: r.Permission.Rights})
	default:
		return
	}
	tx.replaceObject(o, &next)
	tx.emit(objects.Event{Type: objects.PermissionChanged, Service: s, Object: &o.Object, Identity: r.Permission.Identity})
}

// Compare returns how what is there differs from what an import of a record makes.
func (v *View) Compare(r *Imported) Difference {
	switch {
	case r.Service != nil:
		return v.compareService(r.Service)
	case r.Object != nil:
		return v.compareObject(r)
	}
	o, ok := v.objectBySID(r.Of)
	if !ok {
		return Missing.unless(r.Remove)
	}
	same, ok := false, false
	if r.Item != nil {
		var i *objects.Item
		if i, ok = v.Item(&o.Object, ItemKey{r.Item.Index, r.Item.Key}); ok {
			same = sameItem(i, r.Item)
		}
	} else {
		var p *objects.Permission
		if p, ok = v.Permission(&o.Object, r.Permission.Identity); ok {
			same = p.Rights == r.Permission.Rights
		}
	}
	switch {
	case !ok:
		return Missing.unless(r.Remove)
	case !same || r.Remove:
		return Other
	}
	return Same
}

// unless returns the difference, or none if there is to be nothing.
func (d Difference) unless(removed bool) Difference {
	if removed {
		return Same
	}
	return d
}

func (v *View) compareService(r *objects.Service) Difference {
	s, ok := v.Service(Ref{SID: r.SID})
	if !ok {
		return Missing
	}
	if *importedService(s, r) != *s {
		return Other
	}
	return Same
}

func (v *View) compareObject(r *Imported) Difference {
	o, ok := v.objectBySID(r.Object.SID)
	switch {
	case !ok:
		return Missing.unless(r.Remove)
	case r.Whole && o.Items != r.Object.Items:
		return Extra
	case r.Remove || o.ServiceSID != r.Of || o.imported(r) != o || o.UniqueName != r.Object.UniqueName:
		return Other
	case ahead(&o.Object, r):
		return Ahead
	}
	return Same
}

// ahead reports whether an object has a greater revision than its record.
func ahead(o *objects.Object, r *Imported) bool {
	return (r.Whole || o.Kind() == objects.KindDocument) && o.EventID > r.Object.EventID
}

// importGrowth returns by how much an import would grow the state.
func (v *View) importGrowth(op *Import) (bytes int64) {
	for i := range op.Records {
		switch r := &op.Records[i]; {
		case r.Remove:
		case r.Service != nil:
			if _, exists := v.Service(Ref{SID: r.Service.SID}); !exists {
				bytes += serviceSize(r.Service)
			}
		case r.Object != nil:
			old, exists := v.objectBySID(r.Object.SID)
			switch {
			case !exists:
				bytes += objectSize(r.Object)
			case r.Object.SID.Kind() == objects.KindDocument:
				bytes += max(0, int64(len(r.Object.Data)-len(old.Data)))
			}
		case r.Item != nil:
			before := int64(0)
			if o, ok := v.objectBySID(r.Of); ok {
				if old, exists := v.Item(&o.Object, ItemKey{r.Item.Index, r.Item.Key}); exists {
					before = itemSize(old)
				}
			}
			bytes += max(0, itemSize(r.Item)-before)
		case r.Permission != nil:
			if o, ok := v.objectBySID(r.Of); ok {
				if _, exists := v.Permission(&o.Object, r.Permission.Identity); exists {
					continue
				}
			}
			bytes += permissionSize(r.Permission)
		}
	}
	return bytes
}
