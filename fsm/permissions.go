package fsm

import "lockstep/objects"

// SetPermission makes or replaces what an identity may do with an object.
type SetPermission struct {
	Kind     objects.Kind   `cbor:"1,keyasint"`
	Object   Ref            `cbor:"2,keyasint"`
	Identity string         `cbor:"3,keyasint"`
	Rights   objects.Rights `cbor:"4,keyasint,omitempty"`
}

func (op *SetPermission) apply(tx *tx) Result {
	s, o, refused := tx.object(op.Kind, op.Object, objects.Manage)
	if refused != nil {
		return refuse(refused)
	}
	p := &objects.Permission{Object: o.Num, Identity: op.Identity, Rights: op.Rights}
	next := *o
	tx.putPermission(&next, p)
	tx.replaceObject(o, &next)
	tx.emit(objects.Event{Type: objects.PermissionChanged, Service: s, Object: &o.Object, Identity: op.Identity})
	return Result{Object: leanObject(&o.Object), Permission: p}
}

// putPermission adds or replaces a permission of an object, whose next record is
// being made.
func (tx *tx) putPermission(next *storedObject, p *objects.Permission) {
	if _, replaced := tx.view.permissions.Set(p); !replaced {
		next.PartBytes += uint64(permissionSize(p))
	}
}

// RemovePermission takes the entry of an identity away.
type RemovePermission struct {
	Kind     objects.Kind `cbor:"1,keyasint"`
	Object   Ref          `cbor:"2,keyasint"`
	Identity string       `cbor:"3,keyasint"`
}

func (op *RemovePermission) apply(tx *tx) Result {
	s, o, refused := tx.object(op.Kind, op.Object, objects.Manage)
	if refused != nil {
		return refuse(refused)
	}
	p, ok := tx.view.permissions.Delete(&objects.Permission{Object: o.Num, Identity: op.Identity})
	if !ok {
		return refuse(objects.ErrPermissionGone)
	}
	next := *o
	next.PartBytes -= uint64(permissionSize(p))
	tx.replaceObject(o, &next)
	tx.emit(objects.Event{Type: objects.PermissionChanged, Service: s, Object: &o.Object, Identity: op.Identity})
	return Result{Object: leanObject(&o.Object), Permission: p}
}
