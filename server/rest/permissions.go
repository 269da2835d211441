package rest

import (
	"context"
	"net/http"

	"lockstep/objects"
	"lockstep/server/api"
)

func setPermission(ctx context.Context, c *call) (answer, error) {
	rights, err := c.rights()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	o, p, err := c.api.SetPermission(ctx, c.caller, c.kind, c.ref(), c.key, rights)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: c.encoder.Permission(nil, o, p)}, nil
}

// rights reads the three flags, all of which are required.
func (c *call) rights() (rights objects.Rights, err error) {
	for _, flag := range []struct {
		name  string
		right objects.Rights
	}{{"Read", objects.Read}, {"Write", objects.Write}, {"Manage", objects.Manage}} {
		value, err := c.params.boolean(flag.name)
		switch {
		case err != nil:
			return 0, err
		case value == nil:
			return 0, objects.ErrParameter.With("%s is required", flag.name)
		case *value:
			rights |= flag.right
		}
	}
	return rights, nil
}

func fetchPermission(ctx context.Context, c *call) (answer, error) {
	found, p, err := c.api.FetchPermission(ctx, c.caller, c.kind, c.ref(), c.key)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: c.encoder.Permission(nil, found.Object, p)}, nil
}

func removePermission(ctx context.Context, c *call) (answer, error) {
	return removed, c.api.RemovePermission(ctx, c.caller, c.kind, c.ref(), c.key)
}

func listPermissions(ctx context.Context, c *call) (answer, error) {
	p, err := c.paging()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	found, entries, err := c.api.ListPermissions(ctx, c.caller, c.kind, c.ref(), p.Names())
	if err != nil {
		return answer{}, err
	}
	entries, more := api.Cut(&p.PageQuery, entries)
	page := pageOf[*objects.Permission]{
		paging: p, key: "permissions", of: found.Object.SID, entries: entries, more: more,
		position: func(p *objects.Permission) string { return p.Identity },
		write:    func(b []byte, p *objects.Permission) []byte { return c.encoder.Permission(b, found.Object, p) },
	}
	return page.answer(c)
}
