package fsm

import (
	"fmt"

	"lockstep/objects"
)

// Result is the answer to one command. A domain refusal is a Result with Err.
//
// Data of documents and items is left out of results, because the client that
// sent it has it, except when the command carried none (an update of the TTL
// alone).
type Result struct {
	Err        *objects.Error      `cbor:"1,keyasint,omitempty"`
	Index      uint64              `cbor:"2,keyasint,omitempty"` // log index at which it was decided
	Service    *objects.Service    `cbor:"3,keyasint,omitempty"`
	Object     *objects.Object     `cbor:"4,keyasint,omitempty"` // right after the command; right before, if it was removed
	Item       *objects.Item       `cbor:"5,keyasint,omitempty"`
	Permission *objects.Permission `cbor:"6,keyasint,omitempty"`
	Message    objects.SID         `cbor:"7,keyasint,omitempty"`
	Created    bool                `cbor:"8,keyasint,omitempty"`  // an upsert made the item
	More       bool                `cbor:"9,keyasint,omitempty"`  // an expire command left due work behind
	Repeated   bool                `cbor:"10,keyasint,omitempty"` // the answer of an earlier command with this id

	// Parts are those of a transaction. If it is refused, RefusedPart is the number,
	// from 1 on, of the operation that was; 0 if none was.
	Parts       []Result `cbor:"11,keyasint,omitempty"`
	RefusedPart uint64   `cbor:"12,keyasint,omitempty"`

	Durable *DurableResult `cbor:"13,keyasint,omitempty"` // of a list as a durable stream
}

func (r *Result) describe(f *form) {
	uintField(f, 2, &r.Index, optional)
	if f.field(4, r.Object != nil) {
		if f.reading {
			r.Object = new(objects.Object)
		}
		f.record((*objectForm)(r.Object))
	}
	if f.field(5, r.Item != nil) {
		if f.reading {
			r.Item = new(objects.Item)
		}
		f.record((*itemForm)(r.Item))
	}
	f.array(7, r.Message[:])
	f.bool(8, &r.Created)
	f.bool(9, &r.More)
	f.bool(10, &r.Repeated)
	uintField(f, 12, &r.RefusedPart, optional)
}

// plain reports whether a result is one of the many that have a form.
func (r *Result) plain() bool {
	return r.Err == nil && r.Service == nil && r.Permission == nil && r.Parts == nil && r.Durable == nil
}

// Append appends the result's bytes for the way back from the leader, and for the
// dedup window.
func (r *Result) Append(b []byte) ([]byte, error) {
	if r.plain() {
		return appendForm(b, r), nil
	}
	own, err := encoding.Marshal(r)
	return append(b, own...), err
}

// Encode returns the result's bytes.
func (r *Result) Encode() ([]byte, error) { return r.Append(make([]byte, 0, 192)) }

// DecodeResult reads what Encode wrote.
func DecodeResult(b []byte) (*Result, error) {
	r := new(Result)
	if err := decode(b, r); err != nil {
		return nil, fmt.Errorf("fsm: decode result: %w", err)
	}
	return r, nil
}

func refuse(err *objects.Error) Result { return Result{Err: err} }

// keepsData reports whether the dedup window keeps a result with its data. It is
// asked for by KeepData, for commands that carry none: when such a one is repeated,
// its first answer could not be made again, since the data may have changed.
func keepsData(op Op) bool {
	switch op := op.(type) {
	case *UpdateObject:
		return op.KeepData && op.Data == nil
	case *WriteItem:
		return op.KeepData && op.Data == nil
	}
	return false
}

// withoutData returns the result as the dedup window keeps most.
func (r Result) withoutData() Result {
	if r.Object != nil && r.Object.Data != nil {
		r.Object = leanObject(r.Object)
	}
	if r.Item != nil && r.Item.Data != nil {
		r.Item = leanItem(r.Item)
	}
	if r.Parts != nil {
		parts := make([]Result, len(r.Parts))
		for i, part := range r.Parts {
			parts[i] = part.withoutData()
		}
		r.Parts = parts
	}
	return r
}

func leanObject(o *objects.Object) *objects.Object {
	c := *o
	c.Data = nil
	return &c
}

func leanItem(i *objects.Item) *objects.Item {
	c := *i
	c.Data = nil
	return &c
}
