package fsm

import (
	"lockstep/objects"
)

// The sizes of records: about what each takes in memory, its place in the trees
// and indexes included. They are part of the state's meaning, as every node has
// to come to the same sums.

func serviceSize(s *objects.Service) int64 {
	return 480 + int64(2*len(s.UniqueName)+len(s.FriendlyName)+len(s.WebhookURL))
}

func objectSize(o *objects.Object) int64 {
	size := 360 + int64(2*len(o.UniqueName)+len(o.CreatedBy)+len(o.Data))
	if o.Expires != 0 {
		size += expirySize
	}
	return size
}

func storedObjectSize(o *storedObject) int64 { return objectSize(&o.Object) }

func itemSize(i *objects.Item) int64 {
	size := 200 + int64(len(i.Key)+len(i.CreatedBy)+len(i.Data))
	if i.Expires != 0 {
		size += expirySize
	}
	return size
}

// expirySize is that of an entry of the expiry index. It is counted with what
// expires, so that the sum for a service is right.
const expirySize = 160

func tombstoneSize(t *Tombstone) int64 {
	return 280 + int64(len(t.Item.Key)+len(t.Item.CreatedBy)+len(t.Item.Data))
}

func permissionSize(p *objects.Permission) int64 { return 80 + int64(len(p.Identity)) }

func keySize(k *objects.APIKey) int64 { return 160 + int64(len(k.Secret)+len(k.FriendlyName)) }

func deliverySize(d *Delivery) int64 {
	f := &d.Fact
	return 320 + int64(len(f.Identity)+len(f.Endpoint)+len(f.UniqueName)+len(f.Data)+len(f.Key))
}

func durableSize(d *Durable) int64 {
	return 160 + int64(len(d.ContentType)+len(d.Seq)+len(d.Closer.ID))
}

func producerSize(p *knownProducer) int64 { return 120 + int64(len(p.Last.ID)) }

func holderSize(h *Holder) int64 { return 200 + int64(len(h.Identity)+len(h.ID)) }

func holdSize(x hold) int64 { return 240 + int64(len(x.Key)+len(x.Identity)+len(x.ID)) }

func endpointSize(e Endpoint) int64 {
	return 160 + int64(len(e.Identity)+len(e.ID)+len(e.Session))
}

// usage is what the objects of one service take, with all that belongs to them.
type usage struct {
	service uint64
	bytes   int64
}

// footprint is what an object takes with its items and permissions.
func footprint(o *storedObject) int64 { return objectSize(&o.Object) + int64(o.PartBytes) }

// Bytes returns about how much memory the state takes: what clients put there,
// which grows until they remove it. What has a bound of its own is left out.
func (v *View) Bytes() int64 {
	return v.services.bytes + v.objects.bytes + v.items.bytes + v.permissions.bytes + v.keys.bytes + v.endpoints.bytes +
		v.durables.bytes + v.producers.bytes + v.holders.bytes + v.holds.bytes
}

// TombstoneBytes returns about how much memory removed items take.
func (v *View) TombstoneBytes() int64 { return v.tombstones.bytes }

// OutboxBytes returns about how much memory waiting webhooks take.
func (v *View) OutboxBytes() int64 { return v.outbox.bytes }

// ServiceBytes returns about how much memory the objects of a service take.
func (v *View) ServiceBytes(service uint64) int64 {
	u, _ := v.usage.Get(usage{service: service})
	return u.bytes
}

// charge adds to what a service's objects take.
func (v *View) charge(service uint64, bytes int64) {
	if bytes == 0 {
		return
	}
	u := usage{service: service, bytes: v.ServiceBytes(service) + bytes}
	if u.bytes == 0 {
		v.usage.Delete(u)
		return
	}
	v.usage.Set(u)
}

// Growth returns by how much the state would grow by a command of a client, and
// the number of the service that it would grow in. What only removes, shrinks or
// passes on grows nothing, and neither does what will be refused anyway.
func (v *View) Growth(c *Command) (service uint64, bytes int64) {
	if !ByClient(c.Op) {
		return 0, 0
	}
	if op, ok := c.Op.(*CreateService); ok {
		return 0, serviceSize(&objects.Service{UniqueName: op.UniqueName, ServiceSettings: op.Settings})
	}
	if op, ok := c.Op.(*Import); ok {
		return 0, v.importGrowth(op)
	}
	s, ok := v.Service(Ref{SID: c.Service})
	if !ok {
		return 0, 0
	}
	switch op := c.Op.(type) {
	case *CreateObject:
		bytes = objectSize(&objects.Object{UniqueName: op.UniqueName, CreatedBy: c.Actor.name(), Data: op.Data})
	case *UpdateObject:
		if o, ok := v.Object(s.Num, op.Kind, op.Object); ok && op.Data != nil {
			bytes = int64(len(op.Data) - len(o.Data))
		}
	case *WriteItem:
		bytes = v.itemGrowth(s, c, op)
	case *HoldItem:
		bytes = v.itemGrowth(s, c, &op.Write) + v.holdGrowth(s, c, op)
	case *OpenLease:
		bytes = holderSize(&Holder{ID: op.ID})
	case *Transact:
		for _, part := range op.Parts {
			_, more := v.Growth(&Command{Actor: c.Actor, Service: c.Service, Op: part.Op})
			bytes += more + v.growthOfMade(s, c, part.Op)
		}
	case *OpenDurable:
		if _, there := v.Object(s.Num, objects.KindList, op.List); !there {
			bytes = objectSize(&objects.Object{UniqueName: op.List.Name, CreatedBy: c.Actor.name(), Expires: op.TTL + op.Expires}) +
				durableSize(&Durable{ContentType: op.ContentType}) + appendedSize(c, op.Items)
		}
	case *AppendDurable:
		if o, there := v.lookUp(s.Num, objects.KindList, op.List); there && len(op.Items) > 0 {
			bytes = appendedSize(c, op.Items) + v.noteGrowth(o, op)
		}
	case *SetPermission:
		if o, ok := v.Object(s.Num, op.Kind, op.Object); ok {
			if _, ok := v.Permission(o, op.Identity); !ok {
				bytes = permissionSize(&objects.Permission{Identity: op.Identity})
			}
		}
	}
	return s.Num, max(0, bytes)
}

// growthOfMade is the growth by an item of an object that is not there yet, since an
// earlier part of the same transaction makes it.
func (v *View) growthOfMade(s *objects.Service, c *Command, op Op) int64 {
	if h, ok := op.(*HoldItem); ok {
		op = &h.Write
	}
	w, ok := op.(*WriteItem)
	if !ok {
		return 0
	}
	if _, there := v.Object(s.Num, w.Kind, w.Object); there {
		return 0
	}
	return itemSize(&objects.Item{Key: w.Item.Key, CreatedBy: c.Actor.name(), Data: w.Data})
}

// appendedSize is what items take that are appended to a list.
func appendedSize(c *Command, items [][]byte) (bytes int64) {
	for _, data := range items {
		bytes += itemSize(&objects.Item{CreatedBy: c.Actor.name(), Data: data})
	}
	return bytes
}

// noteGrowth is the growth by what is noted of those who append to a list.
func (v *View) noteGrowth(o *storedObject, op *AppendDurable) (bytes int64) {
	if op.Producer != nil {
		if _, known := v.producer(o, op.Producer.ID); !known {
			bytes = producerSize(&knownProducer{Last: *op.Producer})
		}
	}
	if op.Seq == "" {
		return bytes
	}
	old, there := v.durables.Get(&Durable{Object: o.Num})
	if !there {
		return bytes + durableSize(&Durable{Seq: op.Seq})
	}
	return bytes + int64(len(op.Seq)-len(old.Seq))
}

// holdGrowth is the growth by what is noted of who holds an item.
func (v *View) holdGrowth(s *objects.Service, c *Command, op *HoldItem) (bytes int64) {
	x := hold{Service: s.Num, Key: op.Write.Item.Key, ID: op.Lease}
	if op.Lease == "" {
		x.Identity, x.ID = c.Actor.Identity, c.Actor.Endpoint
		if _, there := v.Holder(s.Num, x.Identity, x.ID); !there {
			bytes = holderSize(&Holder{Identity: x.Identity, ID: x.ID}) + endpointSize(Endpoint{Identity: x.Identity, ID: x.ID, Session: op.Session})
		}
	}
	if o, there := v.Object(s.Num, objects.KindMap, op.Write.Object); there {
		x.Object = o.Num
	}
	if _, known := v.holds.Get(x); !known {
		bytes += holdSize(x)
	}
	return bytes
}

func (v *View) itemGrowth(s *objects.Service, c *Command, op *WriteItem) int64 {
	o, ok := v.Object(s.Num, op.Kind, op.Object)
	if !ok {
		return 0
	}
	if op.Mode != AppendItem {
		switch old, ok := v.Item(o, op.Item); {
		case ok && op.Data == nil, !ok && op.Mode == UpdateItem:
			return 0
		case ok:
			return int64(len(op.Data) - len(old.Data))
		}
	}
	return itemSize(&objects.Item{Key: op.Item.Key, CreatedBy: c.Actor.name(), Data: op.Data})
}
