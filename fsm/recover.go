package fsm

import "lockstep/objects"

// recoveryGap is by how much a recovery moves all numbers on that clients know
// things by. It is more than a cluster writes to one object while a member that
// counts as one is behind.
const recoveryGap = 1 << 24

// Recover makes the state the beginning of another cluster, after the quorum of
// the old one was lost for good. What the old one acknowledged last may be lost
// with it, and clients may know it. So no event id, revision or index that the
// old one may have given is given again, and no client's knowledge of an object
// is gone on from: each has to open its objects anew.
type Recover struct {
	ClusterID string `cbor:"1,keyasint"`
	Key       KeyID  `cbor:"2,keyasint"` // of the new cluster
}

func (op *Recover) apply(tx *tx) Result {
	v := tx.view
	if op.ClusterID == "" || v.meta.ClusterID == op.ClusterID {
		return Result{}
	}
	v.meta.ClusterID, v.meta.ClusterKey, v.meta.Rotation = op.ClusterID, op.Key, nil
	v.meta.NextNum += recoveryGap
	for _, t := range v.tombstones.Items() {
		tx.dropTombstone(t)
	}
	for _, o := range v.objects.Items() {
		next := *o
		next.EventID += recoveryGap
		next.HistoryFloor = next.EventID
		next.Tombstones, next.TombstoneBytes = 0, 0
		if next.Kind() == objects.KindList {
			next.NextIndex += recoveryGap
		}
		tx.replaceObject(o, &next)
	}
	for _, i := range v.items.Items() {
		next := *i
		next.Revision += recoveryGap
		v.items.Set(&next)
		v.changes.Set(&next)
	}
	return Result{}
}
