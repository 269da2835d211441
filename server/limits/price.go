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

// appendPrice returns the tokens that items cost which are appended to a list: as many
// as if they were appended one by one.
func appendPrice(op fsm.Op) (price float64) {
	var items [][]byte
	switch op := op.(type) {
	case *fsm.OpenDurable:
		items = op.Items
	case *fsm.AppendDurable:
		items = op.Items
	}
	for _, data := range items {
		price += writePrice(len(data))
	}
	return price
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

// ofCommand returns the charge for a command, by the price in the table of
// operations. priced is false if the operation has a price but target does not know
// its object.
//
// A caller that asks for something missing, or forbidden to it, pays from a bucket
// of its own, so it cannot use up a bucket of others.
func ofCommand(view *fsm.View, c *fsm.Command) (cost charge, priced bool) {
	identity := ""
	if c.Actor.Token {
		identity = c.Actor.Identity
	}
	missed := func() charge {
		m := charge{objects.Bucket{Class: objects.BucketMisses, Identity: identity}, 1}
		if service, found := view.Service(fsm.Ref{SID: c.Service}); found {
			m.bucket.SID = service.SID
		}
		return m
	}
	// on returns the charge for an operation on an object whose caller has the
	// rights for it.
	on := func(kind objects.Kind, ref fsm.Ref, want objects.Rights, price func(*objects.Object) charge) charge {
		_, o, refused := view.Find(c.Actor, fsm.Ref{SID: c.Service}, kind, ref, want)
		if refused != nil {
			return missed()
		}
		return price(o)
	}
	kind, ref, bytes, known := target(c.Op)
	switch fsm.PriceOf(c.Op) {
	case fsm.Free:
		return charge{}, true
	case fsm.PerPart:
		transaction, ok := c.Op.(*fsm.Transact)
		if !ok {
			return charge{}, false
		}
		_, priced = ofParts(view, c, transaction)
		return charge{}, priced
	case fsm.PerCreation:
		service, found := view.Service(fsm.Ref{SID: c.Service})
		if !found {
			return missed(), true
		}
		cost = creation(kind, service.SID, identity)
		cost.price += appendPrice(c.Op)
		return cost, known
	case fsm.PerWrite:
		cost = on(kind, ref, objects.Write, func(o *objects.Object) charge {
			w := write(o, identity, bytes)
			w.price = max(appendPrice(c.Op), w.price)
			return w
		})
	case fsm.PerMessage:
		cost = on(kind, ref, objects.Write, func(o *objects.Object) charge { return message(o, identity) })
	case fsm.PerPermission:
		cost = on(kind, ref, objects.Manage, permissionWrite)
	case fsm.PerRemoval:
		cost = on(kind, ref, objects.Manage, func(*objects.Object) charge { return charge{} })
	}
	return cost, known
}

// ofParts returns the charges for the operations of a transaction, each as if it were
// alone. What an earlier one makes is not there yet: writing to it counts as a miss.
func ofParts(view *fsm.View, c *fsm.Command, t *fsm.Transact) (costs []charge, priced bool) {
	for _, part := range t.Parts {
		cost, known := ofCommand(view, &fsm.Command{Actor: c.Actor, Service: c.Service, Op: part.Op})
		if !known {
			return nil, false
		}
		costs = append(costs, cost)
	}
	return costs, true
}

// target returns the object of an operation with a price, and the size of its data.
func target(op fsm.Op) (kind objects.Kind, ref fsm.Ref, bytes int, known bool) {
	switch op := op.(type) {
	case *fsm.CreateObject:
		return op.SID.Kind(), fsm.Ref{}, len(op.Data), true
	case *fsm.UpdateObject:
		return op.Kind, op.Object, len(op.Data), true
	case *fsm.WriteItem:
		return op.Kind, op.Object, len(op.Data), true
	case *fsm.HoldItem:
		return op.Write.Kind, op.Write.Object, len(op.Write.Data), true
	case *fsm.RemoveItem:
		return op.Kind, op.Object, 0, true
	case *fsm.RemoveObject:
		return op.Kind, op.Object, 0, true
	case *fsm.Publish:
		return objects.KindStream, op.Stream, len(op.Data), true
	case *fsm.OpenDurable:
		return objects.KindList, fsm.Ref{}, 0, true
	case *fsm.AppendDurable:
		return objects.KindList, op.List, 0, true
	case *fsm.SetPermission:
		return op.Kind, op.Object, 0, true
	case *fsm.RemovePermission:
		return op.Kind, op.Object, 0, true
	}
	return objects.KindNone, fsm.Ref{}, 0, false
}

// ofEvent returns the charge for the command that caused an event.
func ofEvent(e objects.Event) charge {
	if e.Imported {
		return charge{}
	}
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
		if expired := e.Ended || e.Item.Expires != 0 && e.Item.Expires <= e.At; !expired {
			return write(e.Object, identity, 0)
		}
	case objects.MessagePublished:
		return message(e.Object, identity)
	case objects.PermissionChanged:
		return permissionWrite(e.Object)
	}
	return charge{}
}
