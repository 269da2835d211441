package api

import (
	"context"

	"lockstep/fsm"
	"lockstep/objects"
)

// SetPermission makes or replaces what an identity may do with an object.
func (a *API) SetPermission(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, identity string, rights objects.Rights) (*objects.Object, *objects.Permission, error) {
	if err := objects.ValidateIdentity(identity); err != nil {
		return nil, nil, a.Refuse(ctx, c, kind, ref, objects.Write, err)
	}
	result, err := a.propose(ctx, c, &fsm.SetPermission{Kind: kind, Object: ref, Identity: identity, Rights: rights})
	if err != nil {
		return nil, nil, err
	}
	return result.Object, result.Permission, nil
}

// RemovePermission takes the entry of an identity away.
func (a *API) RemovePermission(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, identity string) error {
	if err := objects.ValidateIdentity(identity); err != nil {
		return a.Refuse(ctx, c, kind, ref, objects.Write, err)
	}
	_, err := a.propose(ctx, c, &fsm.RemovePermission{Kind: kind, Object: ref, Identity: identity})
	return err
}

// FetchPermission returns what an identity was explicitly given on an object. The
// read is charged to the object's permissions.
func (a *API) FetchPermission(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, identity string) (Found, *objects.Permission, error) {
	if err := objects.ValidateIdentity(identity); err != nil {
		return Found{}, nil, a.Refuse(ctx, c, kind, ref, objects.Write, err)
	}
	found, err := a.find(ctx, c, objects.BucketPermissionReads, kind, ref)
	if err != nil {
		return Found{}, nil, err
	}
	p, ok := found.View.Permission(found.Object, identity)
	if !ok {
		return Found{}, nil, objects.ErrPermissionGone
	}
	return found, p, nil
}

// ListPermissions returns permissions of an object by identity, which is also
// their position. The read is charged to the object's permissions.
func (a *API) ListPermissions(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, span fsm.Span[string]) (Found, []*objects.Permission, error) {
	found, err := a.find(ctx, c, objects.BucketPermissionReads, kind, ref)
	if err != nil {
		return Found{}, nil, err
	}
	return found, found.View.Permissions(found.Object, span), nil
}
