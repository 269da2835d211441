package rest

import (
	"net/http"

	"lockstep/objects"
)

func (q *request) setPermission() (answer, error) {
	rights, err := q.rights()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	o, p, err := q.api.SetPermission(q.ctx, q.caller, q.kind, q.ref(), q.key, rights)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: q.encoder.Permission(nil, o, p)}, nil
}

// rights reads the three flags, all of which are required.
func (q *request) rights() (rights objects.Rights, err error) {
	for _, flag := range []struct {
		name  string
		right objects.Rights
	}{{"Read", objects.Read}, {"Write", objects.Write}, {"Manage", objects.Manage}} {
		value, err := q.params.boolean(flag.name)
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

func (q *request) fetchPermission() (answer, error) {
	found, p, err := q.api.FetchPermission(q.ctx, q.caller, q.kind, q.ref(), q.key)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: q.encoder.Permission(nil, found.Object, p)}, nil
}

func (q *request) removePermission() (answer, error) {
	return removed, q.api.RemovePermission(q.ctx, q.caller, q.kind, q.ref(), q.key)
}

func (q *request) listPermissions() (answer, error) {
	p, err := q.paging()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	position := ""
	if p.token != nil {
		position = p.token.position
	}
	found, entries, err := q.api.ListPermissions(q.ctx, q.caller, q.kind, q.ref(), spanOf(&p, position))
	if err != nil {
		return answer{}, err
	}
	entries, more := cut(&p, entries)
	page := pageOf[*objects.Permission]{
		paging: p, key: "permissions", of: found.Object.SID, entries: entries, more: more,
		position: func(p *objects.Permission) string { return p.Identity },
		write:    func(b []byte, p *objects.Permission) []byte { return q.encoder.Permission(b, found.Object, p) },
	}
	return page.answer(q)
}
