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

func (r *request) decode() (*body, error) {
	var raw struct {
		Name    json.RawMessage `json:"unique_name"`
		Key     json.RawMessage `json:"key"`
		Data    json.RawMessage `json:"data"`
		Context json.RawMessage `json:"context"`
		TTL     json.RawMessage `json:"ttl"`
	}
	b := new(body)
	text := bytes.TrimSpace(r.body)
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
func (s *session) written(status int, o *objects.Object) answer {
	return answer{status: status, body: func(b []byte) []byte { return s.encoder.Object(b, o, resource.WithoutData) }}
}

func createObject(s *session, ctx context.Context, r *request) (answer, error) {
	b, err := r.decode()
	if err != nil {
		return answer{}, err
	}
	create := api.Create{Name: b.name, TTL: b.ttl}
	switch r.kind {
	case objects.KindDocument:
		// The oldest clients send null for none, and always a name with it, if
		// only null. Null alone is a mistake, as by REST.
		if create.Data = b.data; b.nullData && !b.nameGiven {
			return answer{}, objects.ErrDocumentNull
		}
	case objects.KindList:
		create.Data = b.context
	}
	o, err := s.server.config.API.CreateObject(ctx, s.writer(r), r.kind, create)
	if err != nil {
		return answer{}, err
	}
	return s.written(http.StatusCreated, o), nil
}

func fetchObject(s *session, ctx context.Context, r *request) (answer, error) {
	found, err := s.server.config.API.FetchObject(ctx, s.reader(), r.kind, r.ref)
	if err != nil {
		return answer{}, err
	}
	o := found.Object
	if r.kind != objects.KindMap || r.Params["Include"] != "items" {
		return answer{status: http.StatusOK, after: at(o, o.EventID), body: func(b []byte) []byte { return s.encoder.Object(b, o, resource.WithData) }}, nil
	}
	items := found.View.Items(o, fsm.Range{Limit: objects.DefaultPageSize})
	s.fetched.note(o)
	return answer{status: http.StatusOK, after: at(o, o.EventID), body: func(b []byte) []byte {
		b = s.encoder.Object(b, o, resource.WithData)
		b = append(b[:len(b)-1], `,"items":`...)
		return append(s.appendItems(b, o, items), '}')
	}}, nil
}

// updateObject writes a document, a list's context (what withData says), or the
// TTL of any object.
func updateObject(withData bool) handler {
	return func(s *session, ctx context.Context, r *request) (answer, error) {
		b, err := r.decode()
		if err != nil {
			return answer{}, err
		}
		update := api.Update{TTL: b.ttl, IfMatch: r.Header("If-Match")}
		if withData {
			if update.Data = b.data; b.nullData && b.ttl == nil {
				return answer{}, objects.ErrNull(r.kind)
			}
		}
		o, err := s.server.config.API.UpdateObject(ctx, s.writer(r), r.kind, r.ref, update)
		if err != nil {
			return answer{}, err
		}
		a := s.written(http.StatusOK, o)
		a.after = before(o, o.EventID, update.Data == nil)
		return a, nil
	}
}

func removeObject(s *session, ctx context.Context, r *request) (answer, error) {
	o, err := s.server.config.API.RemoveObject(ctx, s.writer(r), r.kind, r.ref)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent, after: at(o, o.EventID)}, nil
}

func fetchContext(s *session, ctx context.Context, r *request) (answer, error) {
	found, err := s.server.config.API.FetchObject(ctx, s.reader(), r.kind, r.ref)
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
func publish(s *session, ctx context.Context, r *request) (answer, error) {
	b, err := r.decode()
	if err != nil {
		return answer{}, err
	}
	sid, _, err := s.server.config.API.Publish(ctx, s.writer(r), r.ref, b.data)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: http.StatusCreated, body: func(b []byte) []byte { return s.encoder.Message(b, sid, nil) }}
	a.mute.SID = sid
	return a, nil
}
