package api

import (
	"context"

	"lockstep/fsm"
	"lockstep/objects"
)

// read gives a linearizable view, charged to a bucket unless that is empty.
func (a *API) read(ctx context.Context, bucket string) (*fsm.View, error) {
	view, err := a.node.Read(ctx, bucket)
	if err != nil {
		return nil, readFailure(bucket, err)
	}
	return view, nil
}

// findService finds the caller's service, free of charge.
func (a *API) findService(ctx context.Context, c Caller) (Found, error) {
	view, err := a.read(ctx, "")
	if err != nil {
		return Found{}, err
	}
	s, ok := view.Service(c.Service)
	if !ok {
		return Found{}, objects.ErrServiceGone
	}
	return Found{View: view, Service: s}, nil
}

// find finds an object that the caller may read, charged to a bucket.
func (a *API) find(ctx context.Context, c Caller, bucket string, kind objects.Kind, ref fsm.Ref) (Found, error) {
	view, err := a.read(ctx, bucket)
	if err != nil {
		return Found{}, err
	}
	s, ok := view.Service(c.Service)
	if !ok {
		return Found{}, objects.ErrServiceGone
	}
	o, ok := view.Object(s.Num, kind, ref)
	if !ok {
		return Found{}, ref.Gone(kind)
	}
	if !view.May(c.Actor, s, o, objects.Read) {
		return Found{}, objects.ErrForbidden
	}
	return Found{View: view, Service: s, Object: o}, nil
}

// readBucket names the bucket that reads of an object are charged to, and
// permissionBucket that of its permissions. What the local view does not know
// in the service is not charged: most likely it does not exist.
func (a *API) readBucket(c Caller, kind objects.Kind, ref fsm.Ref) string {
	sid := a.objectSID(c, kind, ref)
	if sid.IsZero() {
		return ""
	}
	return "read-" + kind.String() + "-" + sid.String()
}

func (a *API) permissionBucket(c Caller, kind objects.Kind, ref fsm.Ref) string {
	sid := a.objectSID(c, kind, ref)
	if sid.IsZero() {
		return ""
	}
	return "read-permission-" + sid.String()
}

func (a *API) objectSID(c Caller, kind objects.Kind, ref fsm.Ref) objects.SID {
	view := a.node.View()
	s, ok := view.Service(c.Service)
	if !ok {
		return objects.SID{}
	}
	o, ok := view.Object(s.Num, kind, ref)
	if !ok {
		return objects.SID{}
	}
	return o.SID
}
