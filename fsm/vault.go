package fsm

import (
	"strings"

	"lockstep/objects"
)

// The vault has what the nodes keep together and clients never see: the certificate
// of the cluster's domain, with its key. Whoever stores something seals it with a key
// that follows from the cluster's, so that a backup or a copy of the log has nothing
// of use; the store passes the bytes on. Leases say which node is at work on it.

// Bounds of the vault; all nodes have to agree on them.
const (
	MaxSealed      = 256 << 10 // bytes of one
	maxVault       = 4 << 20   // of all
	maxVaultNames  = 1024
	maxVaultName   = 512
	maxLeases      = 64
	maxLeaseMillis = 10 * 60 * 1000
)

// Sealed is something in the vault. Published values are never written to.
type Sealed struct {
	Name     string `cbor:"1,keyasint"`
	Key      KeyID  `cbor:"2,keyasint"` // the cluster's key that it is sealed with
	Data     []byte `cbor:"3,keyasint"`
	Modified int64  `cbor:"4,keyasint"`
	Index    uint64 `cbor:"5,keyasint"` // the log entry that stored it
}

// Lease is held by one node at a time, until it ends by the cluster's clock.
type Lease struct {
	Name   string `cbor:"1,keyasint"`
	Holder string `cbor:"2,keyasint"`
	Until  int64  `cbor:"3,keyasint"`
}

func lessSealed(a, b *Sealed) bool { return a.Name < b.Name }
func lessLease(a, b Lease) bool    { return a.Name < b.Name }

func sealedSize(s *Sealed) int64 { return int64(len(s.Name) + len(s.Data)) }

// Sealed returns what has a name.
func (v *View) Sealed(name string) (*Sealed, bool) { return v.sealed.Get(&Sealed{Name: name}) }

// EachSealed calls visit for what the vault has, in the order of the names, until it
// returns false.
func (v *View) EachSealed(visit func(*Sealed) bool) { v.sealed.Scan(visit) }

// Lease returns who holds a lease now; the zero Lease if nobody does.
func (v *View) Lease(name string) Lease {
	l, ok := v.leases.Get(Lease{Name: name})
	if !ok || l.Until <= v.Time() {
		return Lease{}
	}
	return l
}

// SealingKey names the cluster's key to seal with: that of a change as soon as all
// members have it. It is zero before the first change, when there is only one.
func (v *View) SealingKey() KeyID {
	if r := v.meta.Rotation; r != nil && r.Stage == KeyUsed {
		return r.Key
	}
	return v.meta.ClusterKey
}

// SealedOtherwise returns something that is sealed with another key than this one,
// if there is anything: then the keys of before are still needed.
func (v *View) SealedOtherwise(key KeyID) (other *Sealed) {
	v.sealed.Scan(func(s *Sealed) bool {
		if s.Key != key {
			other = s
		}
		return other == nil
	})
	return other
}

// StoreSealed puts something into the vault.
type StoreSealed struct {
	Name string `cbor:"1,keyasint"`
	Key  KeyID  `cbor:"2,keyasint"` // that it is sealed with
	Data []byte `cbor:"3,keyasint"`

	// Instead is the index of what it takes the place of; if something else is there,
	// or nothing, it is not stored. Zero: it takes the place of whatever is there.
	Instead uint64 `cbor:"4,keyasint,omitempty"`
}

func (op *StoreSealed) apply(tx *tx) Result {
	v := tx.view
	old, had := v.Sealed(op.Name)
	switch key := v.SealingKey(); {
	case op.Instead != 0 && (!had || old.Index != op.Instead):
		return refuse(objects.ErrParameter.With("It was changed meanwhile"))
	case key != KeyID{} && op.Key != key:
		return refuse(objects.ErrParameter.With("The cluster's key was changed meanwhile"))
	case op.Name == "" || len(op.Name) > maxVaultName || len(op.Data) > MaxSealed:
		return refuse(objects.ErrParameter.With("It is too large for the vault"))
	}
	next := &Sealed{Name: op.Name, Key: op.Key, Data: op.Data, Modified: tx.now(), Index: v.Index()}
	size, count := v.sealed.bytes+sealedSize(next), v.sealed.Len()+1
	if had {
		size, count = size-sealedSize(old), count-1
	}
	if size > maxVault || count > maxVaultNames {
		return refuse(objects.ErrParameter.With("The vault is full"))
	}
	v.sealed.Set(next)
	return Result{}
}

// RemoveSealed takes out of the vault what has a name, and all whose names begin with
// that and a slash.
type RemoveSealed struct {
	Name string `cbor:"1,keyasint"`

	// Instead is the index of what is taken out, as in StoreSealed.
	Instead uint64 `cbor:"2,keyasint,omitempty"`
}

func (op *RemoveSealed) apply(tx *tx) Result {
	for _, s := range tx.view.sealed.Items() {
		named := s.Name == op.Name || strings.HasPrefix(s.Name, op.Name+"/")
		if named && (op.Instead == 0 || op.Instead == s.Index) {
			tx.view.sealed.Delete(s)
		}
	}
	return Result{}
}

// TakeLease gives a lease to a node, or makes the one that it holds longer. While
// another one holds it, nothing happens: View.Lease says who has it.
type TakeLease struct {
	Name   string `cbor:"1,keyasint"`
	Holder string `cbor:"2,keyasint"`
	Millis int64  `cbor:"3,keyasint"`
}

func (op *TakeLease) apply(tx *tx) Result {
	v := tx.view
	for _, l := range v.leases.Items() {
		if l.Until <= tx.now() {
			v.leases.Delete(l)
		}
	}
	held, ok := v.leases.Get(Lease{Name: op.Name})
	if ok && held.Holder != op.Holder {
		return Result{}
	}
	if op.Name == "" || len(op.Name) > maxVaultName || len(op.Holder) > maxVaultName || !ok && v.leases.Len() >= maxLeases {
		return refuse(objects.ErrParameter.With("There are too many leases"))
	}
	v.leases.Set(Lease{Name: op.Name, Holder: op.Holder, Until: tx.now() + min(max(op.Millis, 1), maxLeaseMillis)})
	return Result{}
}

// EndLease gives a lease back before it ends.
type EndLease struct {
	Name   string `cbor:"1,keyasint"`
	Holder string `cbor:"2,keyasint"`
}

func (op *EndLease) apply(tx *tx) Result {
	if held, ok := tx.view.leases.Get(Lease{Name: op.Name}); ok && held.Holder == op.Holder {
		tx.view.leases.Delete(held)
	}
	return Result{}
}

// emptyVault leaves nothing of another cluster, whose key is not this one's.
func (tx *tx) emptyVault() {
	for _, s := range tx.view.sealed.Items() {
		tx.view.sealed.Delete(s)
	}
	for _, l := range tx.view.leases.Items() {
		tx.view.leases.Delete(l)
	}
}
