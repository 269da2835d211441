package fsm

import (
	"cmp"
	"strconv"

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

// Delivery is one webhook request that waits to be sent, or to be sent again.
type Delivery struct {
	Seq       uint64  `cbor:"1,keyasint"` // rising; also its idempotency token
	Service   uint64  `cbor:"2,keyasint"`
	Stream    string  `cbor:"3,keyasint"` // deliveries of one stream (object, or identity) are sent in order
	URL       string  `cbor:"4,keyasint"`
	Params    []Param `cbor:"5,keyasint"`
	Created   int64   `cbor:"6,keyasint"`
	Attempts  int     `cbor:"7,keyasint,omitempty"` // failed ones
	NotBefore int64   `cbor:"8,keyasint,omitempty"` // of the next attempt
}

// Param is one form parameter of a webhook.
type Param struct {
	Name  string `cbor:"1,keyasint"`
	Value string `cbor:"2,keyasint"`
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
func (v *View) NewestDelivery() uint64 { return v.NextSeq }

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
func (v *View) DroppedDeliveries() uint64 { return v.Dropped }

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
	params := webhookParams(e)
	if params == nil {
		return
	}
	if a := tx.command.Actor; a.Token && a.Endpoint != "" {
		params = append(params, Param{"EndpointId", a.Endpoint})
	}
	tx.deliver(s, e.Object.SID.String(), tx.command.Actor.name(), params)
}

// deliver appends to the outbox; the first of params is the event type.
func (tx *tx) deliver(s *objects.Service, stream, identity string, params []Param) {
	v := tx.view
	v.NextSeq++
	params = append(params,
		Param{"AccountSid", v.AccountSID}, Param{"ServiceSid", s.SID.String()}, Param{"Identity", identity})
	v.addDelivery(&Delivery{Seq: v.NextSeq, Service: s.Num, Stream: stream, URL: s.WebhookURL, Params: params, Created: tx.now()})
	for v.outbox.Len() > maxDeliveries || v.outbox.bytes > maxOutboxBytes {
		most, _ := v.byWeight.Max()
		v.dropDelivery(v.deliveriesOf(most.service, 1)[0].Seq)
		v.Dropped++
	}
}

// webhookParams gives the parameters of an event (rest-api, webhooks), nil for
// events that are not told.
func webhookParams(e objects.Event) []Param {
	o := e.Object
	switch e.Type {
	case objects.ObjectCreated, objects.ObjectUpdated, objects.ObjectRemoved:
	case objects.ItemAdded, objects.ItemUpdated, objects.ItemRemoved:
		return itemParams(e)
	default:
		return nil
	}
	kind := o.Kind()
	if kind == objects.KindStream {
		return nil
	}
	verb := map[objects.EventType]string{
		objects.ObjectCreated: "_created", objects.ObjectUpdated: "_updated", objects.ObjectRemoved: "_removed",
	}[e.Type]
	params := append([]Param{{"EventType", kind.String() + verb}}, objectParams(o)...)
	params = append(params, Param{paramPrefix(kind) + "Revision", o.Revision().String()})
	if kind == objects.KindDocument && e.Type != objects.ObjectRemoved {
		params = append(params, Param{"DocumentData", string(o.Data)})
	}
	return params
}

func itemParams(e objects.Event) []Param {
	o, i := e.Object, e.Item
	verb := map[objects.EventType]string{
		objects.ItemAdded: "_item_added", objects.ItemUpdated: "_item_updated", objects.ItemRemoved: "_item_removed",
	}[e.Type]
	params := append([]Param{{"EventType", o.Kind().String() + verb}}, objectParams(o)...)
	params = append(params,
		Param{"EventId", strconv.FormatUint(uint64(e.ID), 10)}, Param{"ItemRevision", i.Revision.String()})
	if o.Kind() == objects.KindList {
		params = append(params, Param{"ItemIndex", strconv.FormatUint(i.Index, 10)})
	} else {
		params = append(params, Param{"ItemKey", i.Key})
	}
	if e.Type != objects.ItemRemoved {
		params = append(params, Param{"ItemData", string(i.Data)})
	}
	return params
}

func objectParams(o *objects.Object) []Param {
	prefix := paramPrefix(o.Kind())
	params := []Param{{prefix + "Sid", o.SID.String()}}
	if o.UniqueName != "" {
		params = append(params, Param{prefix + "UniqueName", o.UniqueName})
	}
	return params
}

func paramPrefix(k objects.Kind) string {
	return map[objects.Kind]string{
		objects.KindDocument: "Document", objects.KindList: "List", objects.KindMap: "Map",
	}[k]
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

func (*SettleDeliveries) kind() opKind { return opSettleDeliveries }

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
