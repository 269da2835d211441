package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/resource"
)

// The operations on objects (part 4). Answers to writes carry no data: clients
// fill in what they sent.

// body is what clients send with a write. What is absent or null is nil.
type body struct {
	name, key     *string
	data, context []byte
	ttl           *int64
	nullData      bool // there were data, but null
	nameGiven     bool // there was a name, be it null
}

func (c *call) decode() (*body, error) {
	var raw struct {
		Name    json.RawMessage `json:"unique_name"`
		Key     json.RawMessage `json:"key"`
		Data    json.RawMessage `json:"data"`
		Context json.RawMessage `json:"context"`
		TTL     json.RawMessage `json:"ttl"`
	}
	b := new(body)
	text := bytes.TrimSpace(c.body)
	if len(text) == 0 {
		return b, nil
	}
	if !json.Valid(text) {
		return nil, objects.ErrData.With("The body is not valid JSON")
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, objects.ErrParameter.With("The body is not a JSON object")
	}
	b.data, b.context = orNil(raw.Data), orNil(raw.Context)
	b.nullData, b.nameGiven = isNull(raw.Data), raw.Name != nil
	if n := orNil(raw.Name); n != nil && json.Unmarshal(n, &b.name) != nil {
		return nil, objects.ErrName
	}
	if k := orNil(raw.Key); k != nil && json.Unmarshal(k, &b.key) != nil {
		return nil, objects.ErrMapItemKey
	}
	if t := orNil(raw.TTL); t != nil {
		ttl, err := strconv.ParseInt(string(t), 10, 64)
		if err != nil {
			return nil, objects.ErrTTL
		}
		b.ttl = &ttl
	}
	return b, nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

func orNil(raw json.RawMessage) []byte {
	if isNull(raw) {
		return nil
	}
	return raw
}

// written answers a write of an object.
func (c *call) written(status int, o *objects.Object) answer {
	return answer{status: status, body: func(b []byte) []byte { return c.session.encoder.Object(b, o, resource.WithoutData) }}
}

func createObject(ctx context.Context, c *call) (answer, error) {
	b, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	create := api.Create{Name: b.name, TTL: b.ttl}
	switch c.kind {
	case objects.KindDocument:
		// The oldest clients send null for none, and always a name with it, if
		// only null. Null alone is a mistake, as by REST.
		if create.Data = b.data; b.nullData && !b.nameGiven {
			return answer{}, objects.ErrDocumentNull
		}
	case objects.KindList:
		create.Data = b.context
	}
	o, err := c.session.api.CreateObject(ctx, c.writer(), c.kind, create)
	if err != nil {
		return answer{}, err
	}
	return c.written(http.StatusCreated, o), nil
}

func fetchObject(ctx context.Context, c *call) (answer, error) {
	found, err := c.session.api.FetchObject(ctx, c.session.reader(), c.kind, c.ref)
	if err != nil {
		return answer{}, err
	}
	o := found.Object
	if c.kind != objects.KindMap || c.Params["Include"] != "items" {
		return answer{status: http.StatusOK, after: at(o, o.EventID), body: func(b []byte) []byte { return c.session.encoder.Object(b, o, resource.WithData) }}, nil
	}
	items := found.View.Items(o, fsm.Range{Limit: objects.DefaultPageSize})
	c.session.fetched.note(o)
	return answer{status: http.StatusOK, after: at(o, o.EventID), body: func(b []byte) []byte {
		b = c.session.encoder.Object(b, o, resource.WithData)
		b = append(b[:len(b)-1], `,"items":`...)
		return append(c.appendItems(b, o, items), '}')
	}}, nil
}

// updateObject writes a document, or the TTL of any object.
func updateObject(ctx context.Context, c *call) (answer, error) {
	b, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	if c.kind == objects.KindDocument {
		return writeData(ctx, c, b)
	}
	return writeObject(ctx, c, api.Update{TTL: b.ttl})
}

// updateContext writes a list's context.
func updateContext(ctx context.Context, c *call) (answer, error) {
	b, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	return writeData(ctx, c, b)
}

func writeData(ctx context.Context, c *call, b *body) (answer, error) {
	if b.nullData && b.ttl == nil {
		return answer{}, objects.ErrNull(c.kind)
	}
	return writeObject(ctx, c, api.Update{Data: b.data, TTL: b.ttl})
}

func writeObject(ctx context.Context, c *call, update api.Update) (answer, error) {
	update.IfMatch = c.Header("If-Match")
	o, err := c.session.api.UpdateObject(ctx, c.writer(), c.kind, c.ref, update)
	if err != nil {
		return answer{}, err
	}
	a := c.written(http.StatusOK, o)
	a.after = at(o, o.EventID)
	if update.Data != nil {
		a.after = before(o, o.EventID)
	}
	return a, nil
}

func removeObject(ctx context.Context, c *call) (answer, error) {
	o, err := c.session.api.RemoveObject(ctx, c.writer(), c.kind, c.ref)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent, after: at(o, o.EventID)}, nil
}

func fetchContext(ctx context.Context, c *call) (answer, error) {
	found, err := c.session.api.FetchObject(ctx, c.session.reader(), c.kind, c.ref)
	if err != nil {
		return answer{}, err
	}
	o := found.Object
	return answer{status: http.StatusOK, after: at(o, o.ContextEvent), body: func(b []byte) []byte {
		data := o.Data
		if len(data) == 0 {
			data = objects.EmptyObject
		}
		b = append(append(b, `{"data":`...), data...)
		b = append(b, `,"last_event_id":`...)
		b = strconv.AppendUint(b, uint64(o.ContextEvent), 10)
		return append(b, '}')
	}}, nil
}

// publish sends a message. The publisher shall not hear it: the client emits it
// with the answer.
func publish(ctx context.Context, c *call) (answer, error) {
	b, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	sid, _, err := c.session.api.Publish(ctx, c.writer(), c.ref, b.data)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: http.StatusCreated, body: func(b []byte) []byte { return c.session.encoder.Message(b, sid, nil) }}
	a.echo.SID = sid
	return a, nil
}
