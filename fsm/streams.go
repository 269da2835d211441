package fsm

import "lockstep/objects"

// Publish sends a message to a stream's subscribers. It leaves nothing behind.
type Publish struct {
	Stream Ref         `cbor:"1,keyasint"`
	SID    objects.SID `cbor:"2,keyasint"`
	Data   []byte      `cbor:"3,keyasint"`
}

func (op *Publish) describe(f *form) {
	f.part(1, &op.Stream, needed)
	f.array(2, op.SID[:])
	f.bytes(3, &op.Data, needed)
}

func (op *Publish) apply(tx *tx) Result {
	s, o, refused := tx.object(objects.KindStream, op.Stream, objects.Write)
	if refused != nil {
		return refuse(refused)
	}
	tx.emit(objects.Event{
		Type: objects.MessagePublished, Service: s, Object: &o.Object,
		Message: &objects.Message{SID: op.SID, Data: op.Data},
	})
	return Result{Message: op.SID}
}
