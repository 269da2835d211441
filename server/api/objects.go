package api

import (
	"context"

	"lockstep/fsm"
	"lockstep/objects"
)

// CreateObject makes a document, list, map or stream, and returns it complete
// with its data.
func (a *API) CreateObject(ctx context.Context, c Caller, kind objects.Kind, create Create) (*objects.Object, error) {
	op, err := createCommand(kind, create)
	if err != nil {
		return nil, a.Refuse(ctx, c, objects.KindNone, fsm.Ref{}, objects.Write, err)
	}
	result, err := a.propose(ctx, c, op)
	if err != nil {
		return nil, err
	}
	return withData(result.Object, op.Data), nil
}

func createCommand(kind objects.Kind, create Create) (*fsm.CreateObject, error) {
	op := &fsm.CreateObject{SID: objects.NewSID(kind, random())}
	if create.Name != nil {
		op.UniqueName = *create.Name
		if err := objects.ValidateName(op.UniqueName); err != nil {
			return nil, err
		}
	}
	switch {
	case create.Data != nil:
		data, err := objects.ParseData(create.Data, kind)
		if err != nil {
			return nil, err
		}
		op.Data = data
	case kind == objects.KindDocument:
		op.Data = objects.EmptyObject
	}
	if create.TTL != nil {
		op.TTL = *create.TTL
		if err := objects.ValidateTTL(op.TTL); err != nil {
			return nil, err
		}
	}
	return op, nil
}

// FetchObject finds an object that the caller may read. The read is charged to
// the object.
func (a *API) FetchObject(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref) (Found, error) {
	return a.find(ctx, c, objects.BucketReads, kind, ref)
}

// Known finds an object, whoever may read it: in what this node knows, or else at a
// linearizable point.
func (a *API) Known(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref) (*objects.Object, bool, error) {
	view := a.node.View()
	for asked := false; ; asked = true {
		if s, ok := view.Service(c.Service); ok {
			if o, ok := view.Object(s.Num, kind, ref); ok {
				return o, true, nil
			}
		}
		if asked {
			return nil, false, nil
		}
		var err error
		if view, err = a.read(ctx, c.misses(view)); err != nil {
			return nil, false, err
		}
	}
}

// FetchIndex finds the map behind an index of live queries that the caller may
// read, charged to the queries of that map.
func (a *API) FetchIndex(ctx context.Context, c Caller, ref fsm.Ref) (Found, error) {
	return a.find(ctx, c, objects.BucketQueries, objects.KindMap, ref)
}

// ListObjects returns objects of a kind in the caller's service, by creation.
// Positions are the objects' numbers. What is found has no object of its own.
// Permissions are not looked at: it is for REST credentials.
func (a *API) ListObjects(ctx context.Context, c Caller, kind objects.Kind, span fsm.Span[uint64]) (Found, []*objects.Object, error) {
	found, err := a.findService(ctx, c)
	if err != nil {
		return Found{}, nil, err
	}
	return found, found.View.Objects(found.Service.Num, kind, span), nil
}

// UpdateObject changes a document's data, a list's context, or the TTL of any
// object, and returns the object complete with its data.
func (a *API) UpdateObject(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, update Update) (*objects.Object, error) {
	op, err := updateCommand(kind, ref, update)
	if err != nil {
		return nil, a.Refuse(ctx, c, kind, ref, objects.Write, err)
	}
	op.KeepData = c.KeepData && c.Key != ""
	result, err := a.propose(ctx, c, op)
	if err != nil {
		return nil, err
	}
	if op.Data != nil {
		return withData(result.Object, op.Data), nil
	}
	if kind == objects.KindDocument && result.Object.Data == nil {
		return a.complete(ctx, result.Object)
	}
	return result.Object, nil
}

func updateCommand(kind objects.Kind, ref fsm.Ref, update Update) (*fsm.UpdateObject, error) {
	op := &fsm.UpdateObject{Kind: kind, Object: ref, TTL: update.TTL}
	if update.Data == nil && update.TTL == nil {
		return nil, objects.ErrNothingToDo
	}
	if update.Data != nil {
		if kind != objects.KindDocument && kind != objects.KindList {
			return nil, objects.ErrParameter.With("A %v has no data of its own", kind)
		}
		data, err := objects.ParseData(update.Data, kind)
		if err != nil {
			return nil, err
		}
		op.Data = data
	}
	if err := validateTTLs(update.TTL); err != nil {
		return nil, err
	}
	if kind == objects.KindDocument {
		match, err := objects.ParseIfMatch(update.IfMatch)
		if err != nil {
			return nil, err
		}
		op.Match = match
	}
	return op, nil
}

// complete fills in the data of a document whose update is repeated: the answer
// was remembered without it. It may be newer than the answer, and if the
// document is gone meanwhile, so is its data.
func (a *API) complete(ctx context.Context, o *objects.Object) (*objects.Object, error) {
	view, err := a.read(ctx, free)
	if err != nil {
		return nil, err
	}
	now, ok := view.ObjectBySID(o.SID)
	if !ok {
		return o, nil
	}
	return withData(o, now.Data), nil
}

// RemoveObject removes an object with its items and permissions, and returns it
// as it was last.
func (a *API) RemoveObject(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref) (*objects.Object, error) {
	result, err := a.propose(ctx, c, &fsm.RemoveObject{Kind: kind, Object: ref})
	if err != nil {
		return nil, err
	}
	return result.Object, nil
}

// Publish sends a message to a stream's subscribers, and returns its SID and its
// data in compact form.
func (a *API) Publish(ctx context.Context, c Caller, ref fsm.Ref, data []byte) (objects.SID, []byte, error) {
	message, err := requiredData(data, objects.KindStream)
	if err != nil {
		return objects.SID{}, nil, a.Refuse(ctx, c, objects.KindStream, ref, objects.Write, err)
	}
	op := &fsm.Publish{Stream: ref, SID: objects.NewSID(objects.KindMessage, random()), Data: message}
	result, err := a.propose(ctx, c, op)
	if err != nil {
		return objects.SID{}, nil, err
	}
	return result.Message, message, nil
}

// requiredData is ParseData for what cannot be made without data.
func requiredData(raw []byte, holder objects.Kind) ([]byte, error) {
	if raw == nil {
		return nil, objects.ErrNull(holder)
	}
	return objects.ParseData(raw, holder)
}

func validateTTLs(seconds ...*int64) error {
	for _, s := range seconds {
		if s == nil {
			continue
		}
		if err := objects.ValidateTTL(*s); err != nil {
			return err
		}
	}
	return nil
}
