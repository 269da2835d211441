package fsm

import "lockstep/objects"

// SetPermission makes or replaces what an identity may do with an object.
type SetPermission struct {
	Kind     objects.Kind   `cbor:"1,keyasint"`
	Object   Ref            `cbor:"2,keyasint"`
	Identity string         `cbor:"3,keyasint"`
	Rights   objects.Rights `cbor:"4,keyasint,omitempty"`
}

func (*SetPermission) kind() opKind { return opSetPermission }

func (op *SetPermission) apply(tx *tx) Result {
	s, o, refused := tx.object(op.Kind, op.Object, objects.Manage)
	if refused != nil {
		return refuse(refused)
	}
	p := &objects.Permission{Object: o.Num, Identity: op.Identity, Rights: op.Rights}
	tx.view.permissions.Set(p)
	tx.emit(objects.Event{Type: objects.PermissionChanged, Service: s, Object: o, Identity: op.Identity})
	return Result{Object: leanObject(o), Permission: p}
}

// RemovePermission takes the entry of an identity away.
type RemovePermission struct {
	Kind     objects.Kind `cbor:"1,keyasint"`
	Object   Ref          `cbor:"2,keyasint"`
	Identity string       `cbor:"3,keyasint"`
}

func (*RemovePermission) kind() opKind { return opRemovePermission }

func (op *RemovePermission) apply(tx *tx) Result {
	s, o, refused := tx.object(op.Kind, op.Object, objects.Manage)
	if refused != nil {
		return refuse(refused)
	}
	p, ok := tx.view.permissions.Delete(&objects.Permission{Object: o.Num, Identity: op.Identity})
	if !ok {
		return refuse(objects.ErrPermissionGone)
	}
	tx.emit(objects.Event{Type: objects.PermissionChanged, Service: s, Object: o, Identity: op.Identity})
	return Result{Object: leanObject(o), Permission: p}
}
