package rest

import (
	"net/http"
	"strings"

	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/resource"
)

// Documents, lists, maps and streams are made, listed, fetched, changed and
// removed alike. They differ in the parameters.

func (q *request) createObject() (answer, error) {
	create := api.Create{Name: q.params.optional("UniqueName")}
	if q.kind == objects.KindDocument {
		create.Data = q.params.data()
	}
	var err error
	if create.TTL, err = q.objectTTL(); err != nil {
		return answer{}, q.refuse(err)
	}
	o, err := q.api.CreateObject(q.ctx, q.caller, q.kind, create)
	if err != nil {
		return answer{}, err
	}
	return q.objectAnswer(http.StatusCreated, o), nil
}

func (q *request) fetchObject() (answer, error) {
	found, err := q.api.FetchObject(q.ctx, q.caller, q.kind, q.ref())
	if err != nil {
		return answer{}, err
	}
	return q.objectAnswer(http.StatusOK, found.Object), nil
}

func (q *request) updateObject() (answer, error) {
	update := api.Update{IfMatch: q.ifMatch}
	if q.kind == objects.KindDocument {
		update.Data = q.params.data()
	}
	var err error
	if update.TTL, err = q.objectTTL(); err != nil {
		return answer{}, q.refuse(err)
	}
	o, err := q.api.UpdateObject(q.ctx, q.caller, q.kind, q.ref(), update)
	if err != nil {
		return answer{}, err
	}
	return q.objectAnswer(http.StatusOK, o), nil
}

func (q *request) removeObject() (answer, error) {
	_, err := q.api.RemoveObject(q.ctx, q.caller, q.kind, q.ref())
	return removed, err
}

func (q *request) listObjects() (answer, error) {
	p, err := q.paging()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	span, err := p.numbers()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	found, entries, err := q.api.ListObjects(q.ctx, q.caller, q.kind, span)
	if err != nil {
		return answer{}, err
	}
	entries, more := cut(&p, entries)
	page := pageOf[*objects.Object]{
		paging: p, key: strings.ToLower(resource.Plural(q.kind)), of: found.Service.SID, entries: entries, more: more,
		position: func(o *objects.Object) string { return numberPosition(o.Num) },
		write:    func(b []byte, o *objects.Object) []byte { return q.encoder.Object(b, o, resource.WithData) },
	}
	return page.answer(q)
}

// objectTTL reads the TTL of an object. Lists and maps have two names for it.
func (q *request) objectTTL() (*int64, error) {
	if q.kind == objects.KindList || q.kind == objects.KindMap {
		return q.params.ttl("CollectionTtl", "Ttl")
	}
	return q.params.ttl("Ttl")
}

func (q *request) objectAnswer(status int, o *objects.Object) answer {
	body := q.encoder.Object(make([]byte, 0, 1024+len(o.Data)), o, resource.WithData)
	if q.kind == objects.KindDocument {
		return tagged(status, o.Revision(), body)
	}
	return answer{status: status, body: body}
}

// publish sends a message to a stream's subscribers.
func (q *request) publish() (answer, error) {
	sid, data, err := q.api.Publish(q.ctx, q.caller, q.ref(), q.params.data())
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: q.encoder.Message(nil, sid, data)}, nil
}
