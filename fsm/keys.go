package fsm

import "lockstep/objects"

// CreateKey adds an API key.
type CreateKey struct {
	SID          objects.SID `cbor:"1,keyasint"`
	Secret       string      `cbor:"2,keyasint"`
	FriendlyName string      `cbor:"3,keyasint,omitempty"`

	Scope objects.KeyScope `cbor:"4,keyasint"`
}

func (op *CreateKey) apply(tx *tx) Result {
	tx.view.keys.Set(&objects.APIKey{SID: op.SID, Secret: op.Secret, FriendlyName: op.FriendlyName, Created: tx.now(), KeyScope: op.Scope})
	return Result{}
}

// RevokeKey removes an API key. Tokens that it signed are void from then on.
type RevokeKey struct {
	SID objects.SID `cbor:"1,keyasint"`
}

func (op *RevokeKey) apply(tx *tx) Result {
	if _, ok := tx.view.keys.Delete(&objects.APIKey{SID: op.SID}); !ok {
		return refuse(objects.ErrNotFound)
	}
	tx.emit(objects.Event{Type: objects.KeyRevoked, Key: op.SID})
	return Result{}
}
