package fsm

import (
	"cmp"
	"math"

	"lockstep/objects"
)

// An item of a map may be held: it is there for as long as one of those who hold it
// is. A holder is an endpoint, which holds what its sessions wrote for as long as one
// of them is connected and some time after that, or a lease, which whoever uses REST
// has to renew. So nothing is written while a session lives, and it does not matter to
// the item which node the session is connected to.

// Holder is one that holds items. Published values are never written to.
type Holder struct {
	Service  uint64 `cbor:"1,keyasint"`
	Identity string `cbor:"2,keyasint,omitempty"` // of the endpoint; empty: it is a lease
	ID       string `cbor:"3,keyasint"`           // of the endpoint or lease
	Grace    int64  `cbor:"4,keyasint"`           // milliseconds after the last connection, or renewal, at which it lets go
	Until    int64  `cbor:"5,keyasint,omitempty"` // when it lets go; 0: its endpoint is connected
	Created  int64  `cbor:"6,keyasint"`
	Items    uint64 `cbor:"7,keyasint,omitempty"` // that it holds
}

// hold says that a holder holds an item of a map.
type hold struct {
	Service  uint64 `cbor:"1,keyasint"`
	Object   uint64 `cbor:"2,keyasint"` // number of the map
	Key      string `cbor:"3,keyasint"`
	Identity string `cbor:"4,keyasint,omitempty"` // of the holder, as is the next
	ID       string `cbor:"5,keyasint"`
}

// settleMillis is how long those who let go are given after a new leader began at
// least: nobody could come back, or renew a lease, while there was none.
const settleMillis = 10_000

func lessHolder(a, b *Holder) bool {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.ID, b.ID)) < 0
}

// lessLapse orders holders by when they let go.
func lessLapse(a, b *Holder) bool {
	if a.Until != b.Until {
		return a.Until < b.Until
	}
	return lessHolder(a, b)
}

func lessHold(a, b hold) bool {
	return cmp.Or(
		cmp.Compare(a.Object, b.Object), cmp.Compare(a.Key, b.Key),
		cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.ID, b.ID),
	) < 0
}

// lessHeld orders holds by who has them.
func lessHeld(a, b hold) bool {
	return cmp.Or(
		cmp.Compare(a.Service, b.Service), cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.Object, b.Object), cmp.Compare(a.Key, b.Key),
	) < 0
}

// Holder finds who holds items: the endpoint of an identity or, without one, a lease.
func (v *View) Holder(service uint64, identity, id string) (*Holder, bool) {
	if v.holders.Len() == 0 {
		return nil, false
	}
	return v.holders.Get(&Holder{Service: service, Identity: identity, ID: id})
}

// holdersOf returns at most limit holds of an item.
func (v *View) holdersOf(object uint64, key string, limit int) []hold {
	if v.holds.Len() == 0 {
		return nil
	}
	return collect(v.holds, hold{Object: object, Key: key}, limit, func(x hold) bool { return x.Object == object && x.Key == key })
}

// heldBy returns at most limit holds of a holder.
func (v *View) heldBy(h *Holder, limit int) []hold {
	return collect(v.held, hold{Service: h.Service, Identity: h.Identity, ID: h.ID}, limit, func(x hold) bool {
		return x.Service == h.Service && x.Identity == h.Identity && x.ID == h.ID
	})
}

func (v *View) setHolder(h *Holder) {
	if old, replaced := v.holders.Set(h); replaced && old.Until != 0 {
		v.lapses.Delete(old)
	}
	if h.Until != 0 {
		v.lapses.Set(h)
	}
}

func (v *View) dropHolder(h *Holder) {
	if old, there := v.holders.Delete(h); there && old.Until != 0 {
		v.lapses.Delete(old)
	}
}

func (v *View) setHold(x hold) {
	v.holds.Set(x)
	v.held.Set(x)
}

// dropHold removes a hold. A session that holds nothing is no holder any more. o is the
// map's next record, still being made.
func (tx *tx) dropHold(o *storedObject, x hold) {
	v := tx.view
	v.holds.Delete(x)
	v.held.Delete(x)
	o.PartBytes -= uint64(holdSize(x))
	h, there := v.Holder(x.Service, x.Identity, x.ID)
	if !there {
		return
	}
	next := *h
	next.Items--
	if next.Items == 0 && next.Identity != "" {
		v.dropHolder(h)
		return
	}
	v.setHolder(&next)
}

// letItemGo removes the holds of an item that is removed.
func (tx *tx) letItemGo(o *storedObject, i *objects.Item) {
	for _, x := range tx.view.holdersOf(i.Object, i.Key, objects.MaxHolders) {
		tx.dropHold(o, x)
	}
}

// HoldItem is a WriteItem of a map's item, with data, that is held from then on: by a
// lease, or by the actor's endpoint, of which a session is connected to a node.
type HoldItem struct {
	Write   WriteItem `cbor:"1,keyasint"`
	Lease   string    `cbor:"2,keyasint,omitempty"`
	Node    string    `cbor:"3,keyasint,omitempty"` // where there is no lease, as are the next two
	Session string    `cbor:"4,keyasint,omitempty"`
	Grace   int64     `cbor:"5,keyasint,omitempty"` // milliseconds
}

func (op *HoldItem) apply(tx *tx) Result {
	if op.Write.Kind != objects.KindMap || op.Write.Data == nil {
		return refuse(objects.ErrParameter.With("What is held is an item of a map, written with its data"))
	}
	s, o, refused := tx.object(objects.KindMap, op.Write.Object, objects.Write)
	if refused != nil {
		return refuse(refused)
	}
	h, refused := op.holder(tx, s)
	if refused != nil {
		return refuse(refused)
	}
	x := hold{Service: s.Num, Object: o.Num, Key: op.Write.Item.Key, Identity: h.Identity, ID: h.ID}
	old, exists := tx.view.Item(&o.Object, op.Write.Item)
	if refused := op.Write.check(&o.Object, old, exists); refused != nil {
		return refuse(refused)
	}
	_, known := tx.view.holds.Get(x)
	switch {
	case known:
	case h.Items >= objects.MaxHeld:
		return refuse(objects.ErrHeldItems)
	case len(tx.view.holdersOf(o.Num, x.Key, objects.MaxHolders)) >= objects.MaxHolders:
		return refuse(objects.ErrItemHolders)
	}
	r := op.Write.apply(tx)
	if r.Err != nil {
		return r
	}
	if !known {
		h.Items++
		o, _ = tx.view.object(s.Num, objects.KindMap, o.Num)
		next := *o
		next.PartBytes += uint64(holdSize(x))
		tx.replaceObject(o, &next)
		tx.view.setHold(x)
	}
	tx.view.setHolder(h)
	if op.Lease == "" {
		tx.connect(s, Endpoint{Service: s.Num, Identity: h.Identity, ID: h.ID, Node: op.Node, Session: op.Session})
	}
	return r
}

// holder returns the next record of who is to hold the item, still being made.
func (op *HoldItem) holder(tx *tx, s *objects.Service) (*Holder, *objects.Error) {
	if op.Lease != "" {
		h, refused := tx.lease(s, op.Lease)
		if refused != nil {
			return nil, objects.ErrLeaseEnded
		}
		next := *h
		return &next, nil
	}
	a := tx.command.Actor
	if a.Identity == "" || a.Endpoint == "" {
		return nil, objects.ErrParameter.With("Only a session of the realtime protocol, or a lease, holds items")
	}
	next := Holder{Service: s.Num, Identity: a.Identity, ID: a.Endpoint, Created: tx.now()}
	if h, there := tx.view.Holder(s.Num, a.Identity, a.Endpoint); there {
		next = *h
	}
	next.Grace = op.Grace
	return &next, nil
}

// lease finds a lease that has not ended.
func (tx *tx) lease(s *objects.Service, id string) (*Holder, *objects.Error) {
	h, there := tx.view.Holder(s.Num, "", id)
	if !there || h.Until <= tx.now() {
		return nil, objects.ErrLeaseGone
	}
	return h, nil
}

// ownLease is lease in the service of the command.
func (tx *tx) ownLease(id string) (*Holder, *objects.Error) {
	s, refused := tx.service()
	if refused != nil {
		return nil, refused
	}
	return tx.lease(s, id)
}

// OpenLease makes a lease, which ends some time after its last renewal.
type OpenLease struct {
	ID    string `cbor:"1,keyasint"`
	Grace int64  `cbor:"2,keyasint"` // milliseconds
}

func (op *OpenLease) apply(tx *tx) Result {
	s, refused := tx.service()
	if refused != nil {
		return refuse(refused)
	}
	tx.view.setHolder(&Holder{Service: s.Num, ID: op.ID, Grace: op.Grace, Until: tx.now() + op.Grace, Created: tx.now()})
	return Result{}
}

// RenewLease puts the end of a lease off, and may change how long it lasts from now on.
type RenewLease struct {
	ID    string `cbor:"1,keyasint"`
	Grace int64  `cbor:"2,keyasint,omitempty"` // milliseconds; 0: as it is
}

func (op *RenewLease) apply(tx *tx) Result {
	h, refused := tx.ownLease(op.ID)
	if refused != nil {
		return refuse(refused)
	}
	next := *h
	next.Grace = cmp.Or(op.Grace, h.Grace)
	next.Until = tx.now() + next.Grace
	tx.view.setHolder(&next)
	return Result{}
}

// CloseLease ends a lease, and removes at once what nobody else holds.
type CloseLease struct {
	ID string `cbor:"1,keyasint"`
}

func (op *CloseLease) apply(tx *tx) Result {
	h, refused := tx.ownLease(op.ID)
	if refused != nil {
		return refuse(refused)
	}
	tx.letGo(h, objects.MaxHeld+1)
	return Result{}
}

// holdOn is called when an endpoint connects: what it holds stays.
func (tx *tx) holdOn(e Endpoint) {
	if h, there := tx.view.Holder(e.Service, e.Identity, e.ID); there && h.Until != 0 {
		next := *h
		next.Until = 0
		tx.view.setHolder(&next)
	}
}

// lettingGo is called when the last connection of an endpoint ended: unless it comes
// back in time, it lets go of what it holds.
func (tx *tx) lettingGo(e Endpoint) {
	if h, there := tx.view.Holder(e.Service, e.Identity, e.ID); there {
		next := *h
		next.Until = tx.now() + h.Grace
		tx.view.setHolder(&next)
	}
}

// lapse has those let go whose time has come, of at most limit items.
func (tx *tx) lapse(limit int) {
	for limit > 0 {
		h, ok := tx.view.lapses.Min()
		if !ok || h.Until > tx.now() {
			return
		}
		limit -= tx.letGo(h, limit)
	}
}

// letGo ends at most limit holds of a holder, and removes the items that nobody else
// holds. The holder goes with the last. It returns how much it has done.
func (tx *tx) letGo(h *Holder, limit int) (done int) {
	held := tx.view.heldBy(h, limit)
	for _, x := range held {
		tx.endHold(x)
	}
	if len(held) < limit {
		tx.view.dropHolder(h)
	}
	return len(held) + 1
}

func (tx *tx) endHold(x hold) {
	v := tx.view
	o, there := v.object(x.Service, objects.KindMap, x.Object)
	if !there {
		tx.dropHold(new(storedObject), x) // the map was removed, and is being cleared
		return
	}
	s, known := v.ServiceByNumber(x.Service)
	i, ok := v.Item(&o.Object, ItemKey{Key: x.Key})
	if known && ok && len(v.holdersOf(x.Object, x.Key, 2)) == 1 {
		tx.removeItem(s, o, i)
		return
	}
	next := *o
	tx.dropHold(&next, x)
	tx.replaceObject(o, &next)
}

// settle gives those who are letting go time after a new leader began.
func (tx *tx) settle() {
	until := tx.now() + settleMillis
	for _, h := range collect(tx.view.lapses, &Holder{Until: math.MinInt64}, math.MaxInt, func(h *Holder) bool { return h.Until < until }) {
		next := *h
		next.Until = until
		tx.view.setHolder(&next)
	}
}

// holdersIn returns some of those who hold items of a service.
func (v *View) holdersIn(service uint64, limit int) []*Holder {
	return collect(v.holders, &Holder{Service: service}, limit, func(h *Holder) bool { return h.Service == service })
}
