package fsm

import "lockstep/objects"

// Another cluster begins with a state by moving all numbers on that clients know
// things by. The old cluster may have gone on after the state, so they are moved on
// by more than it can have got to: by gapPerMilli for each millisecond since the
// state's last write, while no store applies as many writes in one, to however many
// objects, and by leastGap, which makes up for clocks that differ by seconds. So
// clusters that begin with the same state at different times do not meet either.
// All gaps together take as long to reach 2^53, up to where clients can count, as
// a gap of 285 years.
const (
	leastGap    = 1 << 24
	gapPerMilli = 1000
)

// GapAfter returns by how much Recover is to move numbers on, so many milliseconds
// after the last write that the state has.
func GapAfter(millis int64) uint64 { return leastGap + gapPerMilli*uint64(max(0, millis)) }

// Recover makes the state the beginning of another cluster, after the quorum of
// the old one was lost for good, or from a backup. What the old one acknowledged
// after it may be lost, and clients may know it. So no event id, revision or index
// that the old one may have given is given again, and no client's knowledge of an
// object is gone on from: each has to open its objects anew.
type Recover struct {
	ClusterID string `cbor:"1,keyasint"`
	Key       KeyID  `cbor:"2,keyasint"` // of the new cluster
	Gap       uint64 `cbor:"3,keyasint"` // see GapAfter
}

func (op *Recover) apply(tx *tx) Result {
	v := tx.view
	if op.ClusterID == "" || v.meta.ClusterID == op.ClusterID {
		return Result{}
	}
	gap := max(op.Gap, leastGap)
	v.meta.ClusterID, v.meta.ClusterKey, v.meta.Rotation = op.ClusterID, op.Key, nil
	v.meta.NextNum += gap
	tx.emptyVault() // it is sealed with the old cluster's key
	for _, t := range v.tombstones.Items() {
		tx.dropTombstone(t)
	}
	for _, o := range v.objects.Items() {
		next := *o
		next.EventID += objects.EventID(gap)
		next.HistoryFloor = next.EventID
		next.Tombstones, next.TombstoneBytes = 0, 0
		if next.ContextEvent > 0 {
			next.ContextEvent += objects.EventID(gap)
		}
		if next.Kind() == objects.KindList {
			next.NextIndex += gap
		}
		tx.replaceObject(o, &next)
	}
	// A client keeps, of an item, what has the greatest event id, its removal included,
	// even when it opens the collection anew.
	for _, i := range v.items.Items() {
		next := *i
		next.Revision += objects.Revision(gap)
		next.EventID, next.Added = i.EventID+objects.EventID(gap), i.Added+objects.EventID(gap)
		v.items.Set(&next)
		v.changes.Delete(i)
		v.changes.Set(&next)
	}
	return Result{}
}
