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
// in the service is not charged: most likely it does not exist. Nor is what the
// caller may not read: nobody shall use up the reads of others. (What he may have
// read since the local view, is free of charge.)
func (a *API) readBucket(c Caller, kind objects.Kind, ref fsm.Ref) string {
	return a.bucket("read-"+kind.String()+"-", c, kind, ref)
}

func (a *API) permissionBucket(c Caller, kind objects.Kind, ref fsm.Ref) string {
	return a.bucket("read-permission-", c, kind, ref)
}

func (a *API) bucket(prefix string, c Caller, kind objects.Kind, ref fsm.Ref) string {
	view := a.node.View()
	s, ok := view.Service(c.Service)
	if !ok {
		return ""
	}
	o, ok := view.Object(s.Num, kind, ref)
	if !ok || !view.May(c.Actor, s, o, objects.Read) {
		return ""
	}
	return prefix + o.SID.String()
}
