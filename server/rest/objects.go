package rest

import (
	"context"
	"net/http"
	"strings"

	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/resource"
)

// Documents, lists, maps and streams are made, listed, fetched, changed and
// removed alike. They differ in the parameters.

func createObject(ctx context.Context, c *call) (answer, error) {
	create := api.Create{Name: c.params.optional("UniqueName")}
	if c.kind == objects.KindDocument {
		create.Data = c.params.data()
	}
	var err error
	if create.TTL, err = c.objectTTL(); err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	o, err := c.api.CreateObject(ctx, c.caller, c.kind, create)
	if err != nil {
		return answer{}, err
	}
	return c.objectAnswer(http.StatusCreated, o), nil
}

func fetchObject(ctx context.Context, c *call) (answer, error) {
	found, err := c.api.FetchObject(ctx, c.caller, c.kind, c.ref())
	if err != nil {
		return answer{}, err
	}
	return c.objectAnswer(http.StatusOK, found.Object), nil
}

func updateObject(ctx context.Context, c *call) (answer, error) {
	update := api.Update{IfMatch: c.ifMatch}
	if c.kind == objects.KindDocument {
		update.Data = c.params.data()
	}
	var err error
	if update.TTL, err = c.objectTTL(); err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	o, err := c.api.UpdateObject(ctx, c.caller, c.kind, c.ref(), update)
	if err != nil {
		return answer{}, err
	}
	return c.objectAnswer(http.StatusOK, o), nil
}

func removeObject(ctx context.Context, c *call) (answer, error) {
	_, err := c.api.RemoveObject(ctx, c.caller, c.kind, c.ref())
	return removed, err
}

func listObjects(ctx context.Context, c *call) (answer, error) {
	p, err := c.paging()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	span, err := p.Numbers()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	found, entries, err := c.api.ListObjects(ctx, c.caller, c.kind, span)
	if err != nil {
		return answer{}, err
	}
	entries, more := api.Cut(&p.PageQuery, entries)
	page := pageOf[*objects.Object]{
		paging: p, key: strings.ToLower(resource.Plural(c.kind)), of: found.Service.SID, entries: entries, more: more,
		position: func(o *objects.Object) string { return api.NumberPosition(o.Num) },
		write:    func(b []byte, o *objects.Object) []byte { return c.encoder.Object(b, o, resource.WithData) },
	}
	return page.answer(c)
}

// objectTTL reads the TTL of an object. Lists and maps have two names for it.
func (c *call) objectTTL() (*int64, error) {
	if c.kind == objects.KindList || c.kind == objects.KindMap {
		return c.params.ttl("CollectionTtl", "Ttl")
	}
	return c.params.ttl("Ttl")
}

func (c *call) objectAnswer(status int, o *objects.Object) answer {
	body := c.encoder.Object(c.out.body[:0], o, resource.WithData)
	c.out.body = body
	if c.kind == objects.KindDocument {
		return tagged(status, o.Revision(), body)
	}
	return answer{status: status, body: body}
}

// publish sends a message to a stream's subscribers.
func publish(ctx context.Context, c *call) (answer, error) {
	sid, data, err := c.api.Publish(ctx, c.caller, c.ref(), c.params.data())
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: c.encoder.Message(nil, sid, data)}, nil
}
