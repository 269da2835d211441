package fsm

import (
	"crypto/sha256"
	"slices"
	"strings"

	"lockstep/objects"
)

// The cluster's key, with which members know each other, is not part of the
// state: it never stands in the log. What is replicated is how far its change has
// come, so that every node knows what to do next, whoever leads.

// KeyID names a cluster key without telling it.
type KeyID [16]byte

// KeyIDOf returns the name of a key.
func KeyIDOf(key [32]byte) (id KeyID) {
	sum := sha256.Sum256(append([]byte("lockstep cluster key"), key[:]...))
	copy(id[:], sum[:])
	return id
}

// KeyStage is a stage in the change of the cluster's key.
type KeyStage uint8

const (
	// KeySpreads: every member gets the new key, and accepts it beside the old one.
	KeySpreads KeyStage = 1
	// KeyUsed: every member shows the new key to the others, and accepts the old one still.
	KeyUsed KeyStage = 2
)

// KeyRotation is a change of the cluster's key that is under way. Published
// values are never written to.
type KeyRotation struct {
	Key   KeyID    `cbor:"1,keyasint"`
	Stage KeyStage `cbor:"2,keyasint"`
	Done  []string `cbor:"3,keyasint,omitempty"` // servers that have come as far, in order
}

// KeyRotation returns the change of the cluster's key that is under way, or nil.
func (v *View) KeyRotation() *KeyRotation { return v.meta.Rotation }

// ClusterKey names the key that the last change has led to; zero before the first.
func (v *View) ClusterKey() KeyID { return v.meta.ClusterKey }

// RotateKey begins to change the cluster's key. A change whose key is used
// already goes on in its place; one whose key only spreads is given up for it, as
// the node that made that key may be lost with it.
type RotateKey struct {
	Key KeyID `cbor:"1,keyasint"`
}

func (op *RotateKey) apply(tx *tx) Result {
	m := &tx.view.meta
	switch {
	case op.Key == KeyID{} || op.Key == m.ClusterKey:
		return refuse(objects.ErrParameter)
	case m.Rotation != nil && (m.Rotation.Stage == KeyUsed || m.Rotation.Key == op.Key):
		return Result{}
	}
	m.Rotation = &KeyRotation{Key: op.Key, Stage: KeySpreads}
	return Result{}
}

// ReachKeyStage says that a server has come as far as a stage.
type ReachKeyStage struct {
	Key    KeyID    `cbor:"1,keyasint"`
	Stage  KeyStage `cbor:"2,keyasint"`
	Server string   `cbor:"3,keyasint"`
}

func (op *ReachKeyStage) apply(tx *tx) Result {
	r := tx.view.meta.Rotation
	if r == nil || r.Key != op.Key || r.Stage != op.Stage {
		return Result{}
	}
	at, known := slices.BinarySearchFunc(r.Done, op.Server, strings.Compare)
	if !known {
		tx.view.meta.Rotation = &KeyRotation{Key: r.Key, Stage: r.Stage, Done: slices.Insert(slices.Clone(r.Done), at, op.Server)}
	}
	return Result{}
}

// AdvanceKey ends a stage that all members have reached; the leader knows who
// they are.
type AdvanceKey struct {
	Key   KeyID    `cbor:"1,keyasint"`
	Stage KeyStage `cbor:"2,keyasint"`
}

func (op *AdvanceKey) apply(tx *tx) Result {
	m := &tx.view.meta
	switch r := m.Rotation; {
	case r == nil || r.Key != op.Key || r.Stage != op.Stage:
	case r.Stage == KeySpreads:
		m.Rotation = &KeyRotation{Key: r.Key, Stage: KeyUsed}
	case tx.view.SealedOtherwise(r.Key) != nil: // the old key is needed to seal it anew
	default:
		m.ClusterKey, m.Rotation = r.Key, nil
	}
	return Result{}
}
