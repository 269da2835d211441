package realtime

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/realtime/wire"
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
	b := new(body)
	text := bytes.TrimSpace(c.body)
	if len(text) == 0 {
		return b, nil
	}
	if !wire.Valid(text) {
		return nil, objects.ErrData.With("The body is not valid JSON")
	}
	all := gjson.ParseBytes(text)
	if all.Type == gjson.Null {
		return b, nil
	}
	if !all.IsObject() {
		return nil, objects.ErrParameter.With("The body is not a JSON object")
	}
	var err error
	all.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "unique_name":
			b.nameGiven = true
			b.name, err = textOrNil(value, objects.ErrName)
		case "key":
			b.key, err = textOrNil(value, objects.ErrMapItemKey)
		case "data":
			b.nullData = value.Type == gjson.Null
			b.data = rawOrNil(value)
		case "context":
			b.context = rawOrNil(value)
		case "ttl":
			b.ttl, err = ttlOrNil(value)
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

func textOrNil(value gjson.Result, otherwise error) (*string, error) {
	switch value.Type {
	case gjson.String:
		text := strings.ToValidUTF8(value.Str, "\uFFFD")
		return &text, nil
	case gjson.Null:
		return nil, nil
	}
	return nil, otherwise
}

func rawOrNil(value gjson.Result) []byte {
	if value.Type == gjson.Null {
		return nil
	}
	return []byte(value.Raw)
}

func ttlOrNil(value gjson.Result) (*int64, error) {
	if value.Type == gjson.Null {
		return nil, nil
	}
	ttl, err := strconv.ParseInt(value.Raw, 10, 64)
	if err != nil {
		return nil, objects.ErrTTL
	}
	return &ttl, nil
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
	update.IfMatch = c.IfMatch
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
