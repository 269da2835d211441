package fsm

import (
	"cmp"

	"lockstep/objects"
)

// expiry is one entry of the expiry index: an object, an item of it, or an
// endpoint whose disconnection is to be told after the debounce window.
type expiry struct {
	At      int64        `cbor:"1,keyasint"`
	Service uint64       `cbor:"2,keyasint"`
	Kind    objects.Kind `cbor:"3,keyasint,omitempty"` // none: an endpoint
	Object  uint64       `cbor:"4,keyasint,omitempty"`
	IsItem  bool         `cbor:"5,keyasint,omitempty"`
	Item    ItemKey      `cbor:"6,keyasint,omitempty"`

	Identity string `cbor:"7,keyasint,omitempty"`
	Endpoint string `cbor:"8,keyasint,omitempty"`
}

func lessExpiry(a, b expiry) bool {
	return cmp.Or(
		cmp.Compare(a.At, b.At), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Object, b.Object),
		cmp.Compare(a.Item.Index, b.Item.Index), cmp.Compare(a.Item.Key, b.Item.Key),
		compareBool(a.IsItem, b.IsItem), cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.Endpoint, b.Endpoint),
	) < 0
}

// lessAbsence orders the expiries of endpoints by whose they are.
func lessAbsence(a, b expiry) bool {
	return cmp.Or(
		cmp.Compare(a.Service, b.Service), cmp.Compare(a.Identity, b.Identity),
		cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.At, b.At),
	) < 0
}

func (v *View) setExpiry(e expiry) {
	v.expiries.Set(e)
	if e.Kind == objects.KindNone {
		v.absences.Set(e)
	}
}

func (v *View) dropExpiry(e expiry) {
	v.expiries.Delete(e)
	if e.Kind == objects.KindNone {
		v.absences.Delete(e)
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func objectExpiry(o *storedObject) expiry {
	return expiry{At: o.Expires, Service: o.Service, Kind: o.Kind(), Object: o.Num}
}

func itemExpiry(o *storedObject, i *objects.Item) expiry {
	return expiry{At: i.Expires, Service: o.Service, Kind: o.Kind(), Object: o.Num, IsItem: true, Item: ItemKey{i.Index, i.Key}}
}

// NextExpiry returns the time, in Unix milliseconds, at which something is due to
// be removed or forgotten; it is in the past when removed collections wait to be cleared.
func (v *View) NextExpiry() (unixMilli int64, ok bool) {
	if v.garbage.Len() > 0 {
		return v.Time(), true
	}
	e, ok := v.expiries.Min()
	unixMilli = e.At
	if h, some := v.lapses.Min(); some && (!ok || h.Until < unixMilli) {
		unixMilli, ok = h.Until, true
	}
	if t, some := v.byAge.Min(); some {
		if end := t.At + maxTombstoneMillis; !ok || end < unixMilli {
			unixMilli, ok = end, true
		}
	}
	return unixMilli, ok
}

// At most this much is done by one expire command, so that applying never
// stalls the log.
const (
	maxExpired = 1000
	maxCleared = 5000
)

// expire removes what is due at the batch's stamp.
type expire struct{}

// Expire returns the command by which a leader removes what has expired. Its
// Result says in More whether another one is needed at once.
func Expire(id CommandID) *Command { return &Command{ID: id, Op: &expire{}} }

func (*expire) apply(tx *tx) Result {
	for n := 0; n < maxExpired; n++ {
		e, ok := tx.view.expiries.Min()
		if !ok || e.At > tx.now() {
			break
		}
		tx.view.dropExpiry(e)
		tx.expired(e)
	}
	tx.lapse(maxExpired)
	tx.forgetRemovals(maxExpired)
	tx.clear(maxCleared)
	due, ok := tx.view.NextExpiry()
	return Result{More: ok && due <= tx.now()}
}

func (tx *tx) expired(e expiry) {
	if e.Kind == objects.KindNone {
		tx.endpointGone(e)
		return
	}
	o, ok := tx.view.object(e.Service, e.Kind, e.Object)
	if !ok {
		return
	}
	s, ok := tx.view.ServiceOf(&o.Object)
	if !ok {
		return
	}
	if !e.IsItem {
		tx.removeObject(s, o)
		return
	}
	if i, ok := tx.view.Item(&o.Object, e.Item); ok {
		tx.removeItem(s, o, i)
	}
}

// garbage is a removed collection or service whose parts are still in the
// trees. They are out of reach already; expire commands clear them bit by bit,
// so that removing a million items is as quick as removing one.
type garbage struct {
	Num       uint64       `cbor:"1,keyasint"` // of the object, or of the service
	IsService bool         `cbor:"2,keyasint,omitempty"`
	Service   uint64       `cbor:"3,keyasint,omitempty"` // of the object
	Kind      objects.Kind `cbor:"4,keyasint,omitempty"`
}

func lessGarbage(a, b garbage) bool {
	return cmp.Or(cmp.Compare(a.Num, b.Num), compareBool(a.IsService, b.IsService)) < 0
}

// clear removes at most limit records of garbage.
func (tx *tx) clear(limit int) {
	for limit > 0 {
		g, ok := tx.view.garbage.Min()
		if !ok {
			return
		}
		var done int
		if g.IsService {
			done = tx.clearService(g.Num, limit)
		} else {
			done = tx.clearObject(g, limit)
		}
		if done == 0 {
			tx.view.garbage.Delete(g)
			done = 1
		}
		limit -= done
	}
}

func (tx *tx) clearService(num uint64, limit int) (done int) {
	for kind := objects.KindDocument; kind <= objects.KindStream; kind++ {
		for _, o := range tx.view.storedObjects(num, kind, Span[uint64]{Limit: limit - done}) {
			tx.dropObject(o)
			done++
		}
	}
	for _, d := range tx.view.deliveriesOf(num, limit-done) {
		tx.view.dropDelivery(d.Seq)
		done++
	}
	for _, e := range tx.view.endpointsOf(num, limit-done) {
		tx.view.dropEndpoint(e)
		done++
	}
	for _, h := range tx.view.holdersIn(num, limit-done) {
		tx.view.dropHolder(h)
		done++
	}
	return done
}

func (tx *tx) clearObject(g garbage, limit int) (done int) {
	v := tx.view
	o := &storedObject{Object: objects.Object{Num: g.Num, Service: g.Service}}
	o.SID[0] = byte(g.Kind)
	var items []*objects.Item
	v.EachItem(&o.Object, func(i *objects.Item) bool {
		items = append(items, i)
		return len(items) < limit
	})
	for _, i := range items {
		tx.replaceItem(o, i, nil)
	}
	done = len(items)
	for _, t := range v.tombstonesAfter(g.Num, 0, limit-done) {
		tx.dropTombstone(t)
		done++
	}
	for _, p := range v.producersOf(g.Num, limit-done) {
		v.producers.Delete(p)
		done++
	}
	for _, p := range v.Permissions(&o.Object, Span[string]{Limit: limit - done}) {
		v.permissions.Delete(p)
		done++
	}
	return done
}
