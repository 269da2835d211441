package api

import (
	"context"
	"errors"

	"lockstep/fsm"
	"lockstep/objects"
)

// free is the bucket of reads that cost nothing.
var free objects.Bucket

// read returns a linearizable view, charged to a bucket.
func (a *API) read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	view, err := a.node.Read(ctx, bucket)
	if err != nil {
		return nil, readFailure(bucket, err)
	}
	return view, nil
}

// findService finds the caller's service. That is free of charge, unless it is
// most likely not there.
func (a *API) findService(ctx context.Context, c Caller) (Found, error) {
	bucket, local := free, a.node.View()
	if _, ok := local.Service(c.Service); !ok {
		bucket = c.misses(local)
	}
	view, err := a.read(ctx, bucket)
	if err != nil {
		return Found{}, err
	}
	s, ok := view.Service(c.Service)
	if !ok {
		return Found{}, objects.ErrServiceGone
	}
	return Found{View: view, Service: s}, nil
}

// find finds an object that the caller may read, charged to a bucket of a class.
// What the local view does not know in the service, or the caller may not read, is
// charged to the caller's misses: nobody shall use up the reads of others.
func (a *API) find(ctx context.Context, c Caller, class objects.BucketClass, kind objects.Kind, ref fsm.Ref) (Found, error) {
	local := a.node.View()
	known, missing := findIn(local, c, kind, ref, objects.Read)
	var bucket objects.Bucket
	if missing == nil {
		bucket = objects.Bucket{Class: class, SID: known.Object.SID, Identity: c.identity()}
	} else {
		bucket = c.misses(local)
	}
	view, err := a.read(ctx, bucket)
	switch {
	case err != nil:
		return Found{}, err
	case view == local && missing == nil:
		return known, nil
	}
	return findIn(view, c, kind, ref, objects.Read)
}

// findIn finds an object in a view on which the caller has the rights that it
// wants.
func findIn(view *fsm.View, c Caller, kind objects.Kind, ref fsm.Ref, want objects.Rights) (Found, error) {
	s, o, refused := view.Find(c.Actor, c.Service, kind, ref, want)
	if refused != nil {
		return Found{}, refused
	}
	return Found{View: view, Service: s, Object: o}, nil
}

// misses is the bucket of what is not there, or not the caller's. Services that
// are not there share one.
func (c *Caller) misses(view *fsm.View) objects.Bucket {
	b := objects.Bucket{Class: objects.BucketMisses, Identity: c.identity()}
	if s, ok := view.Service(c.Service); ok {
		b.SID = s.SID
	}
	return b
}

// identity is that of the caller's token, if it has one.
func (c *Caller) identity() string {
	if c.Actor.Token {
		return c.Actor.Identity
	}
	return ""
}

// WithinScope refuses what a restricted key may not ask for of a service, or of all of
// them (the zero Ref). A key of one service sees that one only; whether any other
// exists it does not learn.
func (a *API) WithinScope(ctx context.Context, scope objects.KeyScope, service fsm.Ref, writes bool) error {
	switch {
	case scope.ReadOnly && writes:
		return objects.ErrKeyScope
	case scope.Service.IsZero():
		return nil
	case service == (fsm.Ref{}):
		return objects.ErrKeyScope
	}
	sid, err := a.ServiceSID(ctx, service)
	if errors.Is(err, objects.ErrServiceGone) || err == nil && sid != scope.Service {
		return objects.ErrKeyScope
	}
	return err
}
