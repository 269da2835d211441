package fsm

import (
	"fmt"
	"reflect"

	"lockstep/objects"
)

// MaxParts is how many operations a transaction may have.
const MaxParts = 50

// Transact carries out operations on objects of one service: all of them in their
// order, each on what those before it have made, or, if one is refused, none.
type Transact struct {
	Parts []Part `cbor:"1,keyasint"`
}

// Part is one operation of a transaction, of those that MayBePart.
type Part struct{ Op Op }

// MayBePart reports whether an operation can be a part of a transaction: those that
// write objects, items and messages can.
func MayBePart(op Op) bool {
	switch op.(type) {
	case *CreateObject, *UpdateObject, *RemoveObject, *WriteItem, *HoldItem, *RemoveItem, *Publish:
		return true
	}
	return false
}

// MarshalCBOR implements cbor.Marshaler: the operation's kind, and the operation.
func (p Part) MarshalCBOR() ([]byte, error) {
	row, known := rows[reflect.TypeOf(p.Op)]
	if !known {
		return nil, fmt.Errorf("fsm: %T is not in the table of operations", p.Op)
	}
	b := appendHead(nil, cborArray, 2)
	b = appendHead(b, cborUint, uint64(row.kind))
	return encode(b, p.Op)
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (p *Part) UnmarshalCBOR(b []byte) error {
	f := startReading(b)
	defer f.release()
	if f.readHead(cborArray) != 2 {
		f.fail()
	}
	kind := readUint[opKind](f)
	row, known := kinds[kind]
	if f.strange || !known || !MayBePart(row.new()) {
		return fmt.Errorf("%w: kind %d as part of a transaction", ErrCommand, kind)
	}
	p.Op = row.new()
	return decode(f.b, p.Op)
}

func (op *Transact) apply(tx *tx) Result {
	if len(op.Parts) == 0 || len(op.Parts) > MaxParts {
		return refuse(objects.ErrParameter.With("A transaction has 1 to %d operations", MaxParts))
	}
	before, events := tx.view.copy(), len(tx.events)
	r := Result{Parts: make([]Result, len(op.Parts))}
	for i, part := range op.Parts {
		r.Parts[i] = part.Op.apply(tx)
		if refused := r.Parts[i].Err; refused != nil {
			*tx.view = *before
			tx.events = tx.events[:events]
			return Result{Err: refused, RefusedPart: uint64(i + 1)}
		}
	}
	return r
}
