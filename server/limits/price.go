package limits

import (
	"lockstep/fsm"
	"lockstep/objects"
)

// charge is a price, in tokens, and the bucket that pays it. The zero charge
// costs nothing.
type charge struct {
	bucket objects.Bucket
	price  float64
}

// writePrice returns the tokens that a write of so many bytes of data costs: 1
// up to 1 KiB, 10 from 10 KiB on, in proportion to the size in between. At 20
// tokens a second that makes 20 small writes, or 2 large ones ("Sync Limits").
func writePrice(bytes int) float64 {
	return min(max(float64(bytes)/1024, 1), 10)
}

func write(o *objects.Object, identity string, bytes int) charge {
	return charge{objects.Bucket{Class: objects.BucketWrites, SID: o.SID, Identity: identity}, writePrice(bytes)}
}

func message(o *objects.Object, identity string) charge {
	return charge{objects.Bucket{Class: objects.BucketMessages, SID: o.SID, Identity: identity}, 1}
}

func permissionWrite(o *objects.Object) charge {
	return charge{objects.Bucket{Class: objects.BucketPermissionWrites, SID: o.SID}, 1}
}

func creation(kind objects.Kind, service objects.SID, identity string) charge {
	return charge{objects.Bucket{Class: objects.NewObjects(kind), SID: service, Identity: identity}, 1}
}

// ofCommand returns what a command costs. Every operation of a client has its
// place here, also one that costs nothing; priced is false for one that has none.
//
// What is not there, or not the caller's, is nobody's to use up: whoever asks
// for it pays from a bucket of its own.
func ofCommand(view *fsm.View, c *fsm.Command) (cost charge, priced bool) {
	identity := ""
	if c.Actor.Token {
		identity = c.Actor.Identity
	}
	service, found := view.Service(fsm.Ref{SID: c.Service})
	missed := charge{objects.Bucket{Class: objects.BucketMisses, Identity: identity}, 1}
	if found {
		missed.bucket.SID = service.SID
	}
	// on is what an operation on an object costs whose caller has the rights that
	// it takes.
	on := func(kind objects.Kind, ref fsm.Ref, want objects.Rights, price func(*objects.Object) charge) charge {
		_, o, refused := view.Find(c.Actor, fsm.Ref{SID: c.Service}, kind, ref, want)
		if refused != nil {
			return missed
		}
		return price(o)
	}
	free := func(*objects.Object) charge { return charge{} }
	toPermission := permissionWrite
	switch op := c.Op.(type) {
	case *fsm.CreateObject:
		if !found {
			return missed, true
		}
		return creation(op.SID.Kind(), service.SID, identity), true
	case *fsm.UpdateObject:
		return on(op.Kind, op.Object, objects.Write, func(o *objects.Object) charge { return write(o, identity, len(op.Data)) }), true
	case *fsm.WriteItem:
		return on(op.Kind, op.Object, objects.Write, func(o *objects.Object) charge { return write(o, identity, len(op.Data)) }), true
	case *fsm.RemoveItem:
		return on(op.Kind, op.Object, objects.Write, func(o *objects.Object) charge { return write(o, identity, 0) }), true
	case *fsm.RemoveObject:
		return on(op.Kind, op.Object, objects.Manage, free), true // its creation was paid for
	case *fsm.Publish:
		return on(objects.KindStream, op.Stream, objects.Write, func(o *objects.Object) charge { return message(o, identity) }), true
	case *fsm.SetPermission:
		return on(op.Kind, op.Object, objects.Manage, toPermission), true
	case *fsm.RemovePermission:
		return on(op.Kind, op.Object, objects.Manage, toPermission), true
	case *fsm.CreateService, *fsm.UpdateService, *fsm.RemoveService,
		*fsm.CreateKey, *fsm.RevokeKey, *fsm.AddAuthToken, *fsm.PromoteAuthToken, *fsm.DropAuthToken, *fsm.RotateKey:
		return charge{}, true // for the account's own credentials only
	}
	return charge{}, fsm.Internal(c.Op)
}

// ofEvent returns what the command behind an event has cost.
func ofEvent(e objects.Event) charge {
	identity := e.Identity
	if identity == objects.SystemIdentity {
		identity = "" // REST credentials
	}
	switch e.Type {
	case objects.ObjectCreated:
		return creation(e.Object.Kind(), e.Object.ServiceSID, identity)
	case objects.ObjectUpdated, objects.ContextUpdated:
		return write(e.Object, identity, len(e.Object.Data))
	case objects.ItemAdded, objects.ItemUpdated:
		return write(e.Object, identity, len(e.Item.Data))
	case objects.ItemRemoved:
		if expired := e.Item.Expires != 0 && e.Item.Expires <= e.At; !expired {
			return write(e.Object, identity, 0)
		}
	case objects.MessagePublished:
		return message(e.Object, identity)
	case objects.PermissionChanged:
		return permissionWrite(e.Object)
	}
	return charge{}
}
