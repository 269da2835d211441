package fsm

import (
	"cmp"

	"lockstep/objects"
)

// The webhooks that wait in the whole cluster are bounded in number and in
// bytes. Beyond that the service that holds most gives up its oldest: writes never
// wait for a receiver, and no service loses a delivery to make room for one of a
// service that holds more.
const (
	maxDeliveries  = 100_000
	maxOutboxBytes = 256 << 20
)

// Delivery is a webhook request that waits to be sent, or to be sent again: what
// happened, and how often it was tried. Where and in which form it is told is
// decided when it is sent.
type Delivery struct {
	Seq       uint64 `cbor:"1,keyasint"` // rising; also its idempotency token
	Service   uint64 `cbor:"2,keyasint"`
	Fact      Fact   `cbor:"3,keyasint"`
	Created   int64  `cbor:"6,keyasint"`           // Unix milliseconds
	Attempts  int    `cbor:"7,keyasint,omitempty"` // failed ones
	NotBefore int64  `cbor:"8,keyasint,omitempty"` // of the next attempt
}

// Fact is what happened, as far as webhooks tell it: to an object, to an item of
// one, or to an endpoint.
type Fact struct {
	Type     objects.EventType `cbor:"1,keyasint"`
	Identity string            `cbor:"2,keyasint"`           // who did it; of an endpoint, whose it is
	Endpoint string            `cbor:"3,keyasint,omitempty"` // of a client

	Object         objects.SID      `cbor:"4,keyasint,omitempty"` // zero for endpoints
	UniqueName     string           `cbor:"5,keyasint,omitempty"`
	ObjectRevision objects.Revision `cbor:"6,keyasint,omitempty"` // for events of the object
	Data           []byte           `cbor:"7,keyasint,omitempty"` // of the document or the item; none when it was removed

	EventID      objects.EventID  `cbor:"8,keyasint,omitempty"`  // these four for events of an item
	Index        uint64           `cbor:"9,keyasint,omitempty"`  // of a list's
	Key          string           `cbor:"10,keyasint,omitempty"` // of a map's
	ItemRevision objects.Revision `cbor:"11,keyasint,omitempty"`
}

// share is what one service holds of the outbox.
type share struct {
	service uint64
	count   int
	bytes   int64
}

// weight makes number and bytes one measure: a service that has all of either has
// all of the outbox.
func (s share) weight() int64 { return s.bytes + int64(s.count)*(maxOutboxBytes/maxDeliveries) }

func lessByWeight(a, b share) bool {
	return cmp.Or(cmp.Compare(a.weight(), b.weight()), cmp.Compare(a.service, b.service)) < 0
}

func lessByService(a, b *Delivery) bool {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Seq, b.Seq)) < 0
}

// Deliveries calls visit for the waiting deliveries whose number is greater
// than after, by number, until it returns false.
func (v *View) Deliveries(after uint64, visit func(*Delivery) bool) {
	v.outbox.Ascend(&Delivery{Seq: after + 1}, func(d *Delivery) bool { return !v.wanted(d) || visit(d) })
}

// NewestDelivery returns the number of the newest delivery ever queued.
func (v *View) NewestDelivery() uint64 { return v.meta.NextSeq }

// Delivery finds one waiting delivery.
func (v *View) Delivery(seq uint64) (*Delivery, bool) {
	d, ok := v.outbox.Get(&Delivery{Seq: seq})
	return d, ok && v.wanted(d)
}

// wanted reports whether a delivery's service is still there. Those of a removed
// one are out of reach, and cleared bit by bit.
func (v *View) wanted(d *Delivery) bool {
	_, ok := v.services.Get(&objects.Service{Num: d.Service})
	return ok
}

// WaitingDeliveries returns the length of the outbox.
func (v *View) WaitingDeliveries() int { return v.outbox.Len() }

// DroppedDeliveries returns how many deliveries were ever given up for want of
// room.
func (v *View) DroppedDeliveries() uint64 { return v.meta.Dropped }

// addDelivery puts a new delivery into the outbox.
func (v *View) addDelivery(d *Delivery) {
	v.outbox.Set(d)
	v.waiting.Set(d)
	v.weigh(d, 1)
}

// dropDelivery takes a delivery out of the outbox.
func (v *View) dropDelivery(seq uint64) {
	if d, ok := v.outbox.Delete(&Delivery{Seq: seq}); ok {
		v.waiting.Delete(d)
		v.weigh(d, -1)
	}
}

// weigh adds a delivery to what its service holds, or takes it away.
func (v *View) weigh(d *Delivery, count int) {
	s, known := v.shares.Get(share{service: d.Service})
	if known {
		v.byWeight.Delete(s)
	}
	s.service = d.Service
	s.count += count
	s.bytes += int64(count) * deliverySize(d)
	if s.count == 0 {
		v.shares.Delete(s)
		return
	}
	v.shares.Set(s)
	v.byWeight.Set(s)
}

// deliveriesOf returns the oldest deliveries of a service.
func (v *View) deliveriesOf(service uint64, limit int) []*Delivery {
	return collect(v.waiting, &Delivery{Service: service}, limit, func(d *Delivery) bool { return d.Service == service })
}

// enqueueWebhook puts an event that the service wants to hear into the outbox.
func (tx *tx) enqueueWebhook(e objects.Event) {
	s := e.Service
	if s.WebhookURL == "" || (!tx.command.Actor.Token && !s.WebhooksFromREST) {
		return
	}
	fact, told := factOf(e)
	if !told {
		return
	}
	fact.Identity = tx.command.Actor.name()
	if a := tx.command.Actor; a.Token {
		fact.Endpoint = a.Endpoint
	}
	tx.deliver(s, fact)
}

// deliver appends to the outbox.
func (tx *tx) deliver(s *objects.Service, fact Fact) {
	v := tx.view
	v.meta.NextSeq++
	v.addDelivery(&Delivery{Seq: v.meta.NextSeq, Service: s.Num, Fact: fact, Created: tx.now()})
	for v.outbox.Len() > maxDeliveries || v.outbox.bytes > maxOutboxBytes {
		most, _ := v.byWeight.Max()
		v.dropDelivery(v.deliveriesOf(most.service, 1)[0].Seq)
		v.meta.Dropped++
	}
}

// factOf returns what webhooks tell of an event; told is false for events that
// they do not tell (rest-api, webhooks).
func factOf(e objects.Event) (fact Fact, told bool) {
	o := e.Object
	switch e.Type {
	case objects.ObjectCreated, objects.ObjectUpdated, objects.ObjectRemoved:
		if o.Kind() == objects.KindStream {
			return Fact{}, false
		}
		fact = Fact{Type: e.Type, Object: o.SID, UniqueName: o.UniqueName, ObjectRevision: o.Revision()}
		if o.Kind() == objects.KindDocument && e.Type != objects.ObjectRemoved {
			fact.Data = o.Data
		}
		return fact, true
	case objects.ItemAdded, objects.ItemUpdated, objects.ItemRemoved:
		i := e.Item
		fact = Fact{Type: e.Type, Object: o.SID, UniqueName: o.UniqueName, EventID: e.ID, Index: i.Index, Key: i.Key, ItemRevision: i.Revision}
		if e.Type != objects.ItemRemoved {
			fact.Data = i.Data
		}
		return fact, true
	}
	return Fact{}, false
}

// SettleDeliveries tells what became of deliveries: those done (or given up)
// leave the outbox, the others are to be tried again.
type SettleDeliveries struct {
	Done  []uint64 `cbor:"1,keyasint,omitempty"`
	Retry []Retry  `cbor:"2,keyasint,omitempty"`
}

// Retry is a delivery that failed for the Attempts-th time.
type Retry struct {
	Seq       uint64 `cbor:"1,keyasint"`
	Attempts  int    `cbor:"2,keyasint"`
	NotBefore int64  `cbor:"3,keyasint"` // Unix milliseconds
}

func (op *SettleDeliveries) apply(tx *tx) Result {
	for _, seq := range op.Done {
		tx.view.dropDelivery(seq)
	}
	for _, r := range op.Retry {
		if d, ok := tx.view.Delivery(r.Seq); ok && d.Attempts < r.Attempts {
			again := *d
			again.Attempts, again.NotBefore = r.Attempts, r.NotBefore
			tx.view.outbox.Set(&again)
			tx.view.waiting.Set(&again)
		}
	}
	return Result{}
}
