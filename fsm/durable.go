package fsm

import (
	"cmp"
	"slices"

	"lockstep/objects"
)

// Durable is what a list is as a durable stream (an open protocol over HTTP), beyond
// what every list is. A list without one is a stream of JSON that is open.
type Durable struct {
	Object      uint64   `cbor:"1,keyasint"`           // number of the list
	ContentType string   `cbor:"2,keyasint,omitempty"` // as it was given; empty: JSON
	TTL         int64    `cbor:"3,keyasint,omitempty"` // seconds after the last read or write at which it expires; 0: that does not count
	Closed      bool     `cbor:"4,keyasint,omitempty"` // no item is added or changed any more
	Seq         string   `cbor:"5,keyasint,omitempty"` // the greatest of its writers' own sequence
	Closer      Producer `cbor:"6,keyasint,omitempty"` // whose write closed it; without an id: nobody's
}

// takes reports whether what has a content type can be in the stream.
func (d *Durable) takes(contentType string) bool {
	return mediaType(d.ContentType) == mediaType(contentType)
}

// mediaType is that of a content type; JSON goes without saying.
func mediaType(contentType string) string {
	return cmp.Or(objects.MediaType(contentType), objects.JSONType)
}

// Producer is a place in the writes of one writer, who numbers them from 0 on in each
// epoch: its last one, or the one that is made.
type Producer struct {
	ID    string `cbor:"1,keyasint,omitempty"`
	Epoch uint64 `cbor:"2,keyasint,omitempty"`
	Seq   uint64 `cbor:"3,keyasint,omitempty"`
}

// knownProducer is the last write of a producer to a list.
type knownProducer struct {
	Object uint64   `cbor:"1,keyasint"`
	Last   Producer `cbor:"2,keyasint"`
	At     int64    `cbor:"3,keyasint"`
}

// maxProducers is how many producers are known of one list. Beyond it the one that has
// been silent for longest is forgotten.
const maxProducers = 1000

// MaxAppend is how many items may be appended to a list at once.
const MaxAppend = 1000

func lessProducer(a, b *knownProducer) bool {
	return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Last.ID, b.Last.ID)) < 0
}

// Durable returns what a list is as a durable stream.
func (v *View) Durable(o *objects.Object) Durable {
	if v.durables.Len() > 0 {
		if d, ok := v.durables.Get(&Durable{Object: o.Num}); ok {
			return *d
		}
	}
	return Durable{Object: o.Num}
}

// ItemsAfter returns at most limit items of a collection whose last change is after an
// event, in the order of those changes.
func (v *View) ItemsAfter(o *objects.Object, after objects.EventID, limit int) []*objects.Item {
	return collect(v.changes, &objects.Item{Object: o.Num, EventID: after + 1}, limit,
		func(i *objects.Item) bool { return i.Object == o.Num })
}

func (v *View) producer(o *storedObject, id string) (*knownProducer, bool) {
	return v.producers.Get(&knownProducer{Object: o.Num, Last: Producer{ID: id}})
}

func (v *View) producersOf(object uint64, limit int) []*knownProducer {
	return collect(v.producers, &knownProducer{Object: object}, limit, func(p *knownProducer) bool { return p.Object == object })
}

// putDurable replaces what a list is as a durable stream. next is the list's next
// record, still being made.
func (tx *tx) putDurable(next *storedObject, d *Durable) {
	if old, replaced := tx.view.durables.Set(d); replaced {
		next.PartBytes -= uint64(durableSize(old))
	}
	next.PartBytes += uint64(durableSize(d))
}

// putProducer notes the last write of a producer.
func (tx *tx) putProducer(next *storedObject, last Producer) {
	p := &knownProducer{Object: next.Num, Last: last, At: tx.now()}
	old, replaced := tx.view.producers.Set(p)
	if replaced {
		next.PartBytes -= uint64(producerSize(old))
	}
	next.PartBytes += uint64(producerSize(p))
	if replaced {
		return
	}
	if all := tx.view.producersOf(next.Num, maxProducers+1); len(all) > maxProducers {
		oldest := slices.MinFunc(all, func(a, b *knownProducer) int {
			if a == p || b == p {
				return compareBool(a == p, b == p)
			}
			return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Last.ID, b.Last.ID))
		})
		tx.view.producers.Delete(oldest)
		next.PartBytes -= uint64(producerSize(oldest))
	}
}

// appendItems adds items at the end of a list.
func (tx *tx) appendItems(s *objects.Service, o *storedObject, items [][]byte) *storedObject {
	for _, data := range items {
		next := *o
		tx.addItem(s, o, &next, ItemKey{Index: o.NextIndex}, &WriteItem{Mode: AppendItem, Data: data})
		o = &next
	}
	return o
}

// slide puts off the end of a list that expires some time after the last read or
// write. next is its next record, still being made.
func (tx *tx) slide(next *storedObject) {
	if d := tx.view.Durable(&next.Object); d.TTL > 0 {
		next.Expires = tx.expiry(d.TTL)
	}
}

// OpenDurable makes a list that is a durable stream, with its first items, unless
// there is one already that is the same but for its items.
type OpenDurable struct {
	List        Ref         `cbor:"1,keyasint"`
	SID         objects.SID `cbor:"2,keyasint"` // of the list, if it is made
	ContentType string      `cbor:"3,keyasint"`
	TTL         int64       `cbor:"4,keyasint,omitempty"` // as in Durable
	Expires     int64       `cbor:"5,keyasint,omitempty"` // Unix milliseconds
	Closed      bool        `cbor:"6,keyasint,omitempty"`
	Items       [][]byte    `cbor:"7,keyasint,omitempty"`
}

func (op *OpenDurable) apply(tx *tx) Result {
	s, refused := tx.service()
	if refused != nil {
		return refuse(refused)
	}
	if o, exists := tx.view.lookUp(s.Num, objects.KindList, op.List); exists {
		return op.confirm(tx, s, o)
	}
	if op.List.Name == "" || op.SID.Kind() != objects.KindList {
		return refuse(op.List.Gone(objects.KindList))
	}
	made := (&CreateObject{SID: op.SID, UniqueName: op.List.Name}).apply(tx)
	if made.Err != nil {
		return made
	}
	o, _ := tx.view.lookUp(s.Num, objects.KindList, op.List)
	next := *o
	next.Expires = op.Expires
	if op.TTL > 0 {
		next.Expires = tx.expiry(op.TTL)
	}
	d := &Durable{Object: o.Num, ContentType: op.ContentType, TTL: op.TTL, Closed: op.Closed}
	tx.putDurable(&next, d)
	tx.replaceObject(o, &next)
	o = tx.appendItems(s, &next, op.Items)
	return Result{Object: leanObject(&o.Object), Created: true, Durable: &DurableResult{Durable: *d}}
}

// confirm answers for a list that is there.
func (op *OpenDurable) confirm(tx *tx, s *objects.Service, o *storedObject) Result {
	if !tx.view.May(tx.command.Actor, s, &o.Object, objects.Read) {
		return refuse(objects.ErrForbidden)
	}
	d := tx.view.Durable(&o.Object)
	expires := o.Expires
	if d.TTL > 0 {
		expires = 0
	}
	if !d.takes(op.ContentType) || d.Closed != op.Closed || d.TTL != op.TTL || expires != op.Expires {
		return refuse(objects.ErrDurableConfig)
	}
	return Result{Object: leanObject(&o.Object), Durable: &DurableResult{Durable: d}}
}

// AppendDurable adds items at the end of a list, and may close it.
type AppendDurable struct {
	List        Ref       `cbor:"1,keyasint"`
	ContentType string    `cbor:"2,keyasint,omitempty"` // of the items
	Items       [][]byte  `cbor:"3,keyasint,omitempty"`
	Close       bool      `cbor:"4,keyasint,omitempty"`
	Seq         string    `cbor:"5,keyasint,omitempty"` // greater than those before; empty: none
	Producer    *Producer `cbor:"6,keyasint,omitempty"` // which of whose writes it is
}

// DurableResult is what an OpenDurable or AppendDurable found, or left behind. It
// goes with refusals, too.
type DurableResult struct {
	Durable Durable `cbor:"1,keyasint"`

	// Producer is the last write of the producer whose this one is, and Expected the
	// number of the one that must come next. Known says that it was there already.
	Producer Producer `cbor:"2,keyasint,omitempty"`
	Expected uint64   `cbor:"3,keyasint,omitempty"`
	Known    bool     `cbor:"4,keyasint,omitempty"`
}

func (op *AppendDurable) apply(tx *tx) Result {
	s, o, refused := tx.object(objects.KindList, op.List, objects.Write)
	if refused != nil {
		return refuse(refused)
	}
	d := tx.view.Durable(&o.Object)
	found := &DurableResult{Durable: d}
	refused = op.check(tx, o, found)
	if refused != nil || found.Known {
		return Result{Err: refused, Object: leanObject(&o.Object), Durable: found}
	}
	o = tx.appendItems(s, o, op.Items)
	next := *o
	tx.slide(&next)
	if op.Producer != nil {
		tx.putProducer(&next, *op.Producer)
		found.Producer, found.Expected = *op.Producer, op.Producer.Seq+1
	}
	closes := op.Close && !d.Closed
	if closes || op.Seq != "" {
		d.Seq = cmp.Or(op.Seq, d.Seq)
		d.Closed = d.Closed || op.Close
		if closes && op.Producer != nil {
			d.Closer = *op.Producer
		}
		tx.putDurable(&next, &d)
	}
	tx.replaceObject(o, &next)
	if closes {
		tx.emit(objects.Event{Type: objects.ListClosed, Service: s, Object: &next.Object})
	}
	found.Durable = d
	return Result{Object: leanObject(&next.Object), Durable: found}
}

// check refuses a write that may not be made, or finds that it was made already.
func (op *AppendDurable) check(tx *tx, o *storedObject, found *DurableResult) *objects.Error {
	d := &found.Durable
	var last *knownProducer
	if op.Producer != nil {
		var known bool
		if last, known = tx.view.producer(o, op.Producer.ID); known {
			found.Producer, found.Expected = last.Last, last.Last.Seq+1
		}
		if known && op.Producer.Epoch < last.Last.Epoch {
			return objects.ErrStaleEpoch
		}
	}
	if d.Closed {
		switch {
		case op.Producer != nil && *op.Producer == d.Closer:
			found.Known = true
			return nil
		case op.Producer == nil && op.Close && len(op.Items) == 0:
			found.Known = true
			return nil
		}
		return objects.ErrClosed
	}
	if len(op.Items) > 0 && !d.takes(op.ContentType) {
		return objects.ErrDurableConfig.With("The content type is not the stream's, which is %s", cmp.Or(d.ContentType, objects.JSONType))
	}
	if op.Producer != nil {
		if refused := op.next(last, found); refused != nil || found.Known {
			return refused
		}
	}
	switch {
	case op.Seq != "" && op.Seq <= d.Seq:
		return objects.ErrSequence
	case o.Items+uint64(len(op.Items)) > objects.MaxItems:
		return objects.ErrTooManyItems
	}
	return nil
}

// next finds out whether the write is the one that its producer has to make next, or
// was made already. last is nil for a producer that is not known.
func (op *AppendDurable) next(last *knownProducer, found *DurableResult) *objects.Error {
	p := op.Producer
	switch {
	case last == nil && p.Seq != 0:
		return objects.ErrSequence
	case last == nil:
		return nil
	case p.Epoch > last.Last.Epoch && p.Seq != 0:
		return objects.ErrParameter.With("A new epoch of a producer begins with Producer-Seq 0")
	case p.Epoch > last.Last.Epoch:
		found.Expected = 0
	case p.Seq <= last.Last.Seq:
		found.Known = true
	case p.Seq != found.Expected:
		return objects.ErrSequence
	}
	return nil
}

// TouchDurable puts off the end of a list that expires some time after the last read
// or write: it was read.
type TouchDurable struct {
	List objects.SID `cbor:"1,keyasint"`
}

func (op *TouchDurable) apply(tx *tx) Result {
	_, o, refused := tx.object(objects.KindList, Ref{SID: op.List}, objects.Read)
	if refused != nil {
		return refuse(refused)
	}
	next := *o
	tx.slide(&next)
	tx.replaceObject(o, &next)
	return Result{}
}
