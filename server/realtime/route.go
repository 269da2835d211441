package realtime

import (
	"context"
	"net/http"

	"github.com/tidwall/gjson"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/resource"
)

// route finds the handler of a request and what its path addresses. Every path
// of /v3 exists plain and below the session's service (parts 4 and 9).
func (s *session) route(r *request) {
	r.handler = notFound
	path := r.Path
	if len(path) < 2 {
		return
	}
	version, path := path[0], path[1:]
	switch {
	case version == "v4" && len(path) == 1 && path[0] == "Subscriptions":
		r.handler, r.batched = only(r, http.MethodPost, subscribe), true
		return
	case version == "v1" && len(path) == 1 && path[0] == "token":
		r.handler = only(r, http.MethodPost, exchangeToken)
		return
	case version != "v3":
		return
	case path[0] == "Services":
		if len(path) < 3 || !s.isOwn(path[1]) {
			return
		}
		path = path[2:]
	}
	switch {
	case len(path) == 1 && path[0] == "Configuration":
		r.handler = only(r, http.MethodGet, configuration)
	case len(path) == 3 && path[0] == "Insights" && path[2] == "Items":
		ref, refused := indexOf(path[1])
		if refused != nil {
			r.handler = refuseWith(refused)
			return
		}
		r.kind, r.ref, r.index = objects.KindMap, ref, true
		r.handler = only(r, http.MethodPost, runQuery)
	default:
		if r.kind = resource.KindOf(path[0]); r.kind != objects.KindNone {
			r.handler = r.objectHandler(path[1:])
		}
	}
}

// isOwn reports whether a name in a path is that of the session's service.
func (s *session) isOwn(service string) bool {
	return service != "" && (service == s.service.SID.String() || service == s.service.UniqueName)
}

var (
	notFound   = refuseWith(objects.ErrNotFound)
	notAllowed = refuseWith(objects.ErrMethod)
)

func only(r *request, method string, h handler) handler {
	return byMethod(r, map[string]handler{method: h})
}

func byMethod(r *request, handlers map[string]handler) handler {
	if h, ok := handlers[r.Method]; ok {
		return h
	}
	return notAllowed
}

// objectHandler is for what is below /v3/{Kind}: path is the rest.
func (r *request) objectHandler(path []string) handler {
	if len(path) == 0 {
		return only(r, http.MethodPost, createObject)
	}
	r.ref = fsm.ParseRef(path[0])
	collection := r.kind == objects.KindList || r.kind == objects.KindMap
	switch {
	case len(path) == 1:
		return byMethod(r, map[string]handler{
			http.MethodGet: fetchObject, http.MethodPost: updateObject(r.kind == objects.KindDocument), http.MethodDelete: removeObject,
		})
	case len(path) == 2 && path[1] == "Messages" && r.kind == objects.KindStream:
		return only(r, http.MethodPost, publish)
	case len(path) == 2 && path[1] == "Context" && r.kind == objects.KindList:
		return byMethod(r, map[string]handler{http.MethodGet: fetchContext, http.MethodPost: updateObject(true)})
	case len(path) == 2 && path[1] == "Items" && collection:
		return byMethod(r, map[string]handler{http.MethodGet: queryItems, http.MethodPost: addItem})
	case len(path) == 3 && path[1] == "Items" && collection:
		handlers := map[string]handler{
			http.MethodGet: onItem(path[2], fetchItem), http.MethodPost: onItem(path[2], updateItem),
			http.MethodDelete: onItem(path[2], removeItem),
		}
		if r.kind == objects.KindMap {
			handlers[http.MethodPut] = onItem(path[2], putItem)
		}
		return byMethod(r, handlers)
	}
	return notFound
}

// orderKeys returns the names under which a request has to wait for earlier ones:
// the object's SID and its unique name, as far as the local store knows them.
func (s *session) orderKeys(r *request) []string {
	switch {
	case r.batched:
		return subscriptionKeys(r)
	case r.kind == objects.KindNone:
		return nil
	}
	if r.ref == (fsm.Ref{}) {
		if name := gjson.GetBytes(r.body, "unique_name").Str; name != "" {
			return []string{nameKey(r.kind, name)}
		}
		return nil
	}
	r.sid, r.name = r.ref.SID, r.ref.Name
	if o, ok := s.server.config.Node.View().Object(s.service.Num, r.kind, r.ref); ok {
		r.sid, r.name = o.SID, o.UniqueName
	}
	var keys []string
	if !r.sid.IsZero() {
		keys = append(keys, sidKey(r.sid))
	}
	if r.name != "" {
		keys = append(keys, nameKey(r.kind, r.name))
	}
	return keys
}

func sidKey(sid objects.SID) string { return string(sid[:]) }

func nameKey(kind objects.Kind, name string) string { return kind.String() + "/" + name }

// configuration tells mobile clients where everything is (part 9).
func configuration(s *session, _ context.Context, _ *request) (answer, error) {
	base := s.encoder.Origin
	below := base + "/v3/Services/" + s.service.SID.String()
	links := []struct{ name, url string }{
		{"subscriptions", base + "/v4/Subscriptions"},
		{"maps", below + "/Maps"},
		{"map", below + "/Maps/{id}"},
		{"map_items", below + "/Maps/{mapId}/Items"},
		{"map_item", below + "/Maps/{mapId}/Items/{itemId}"},
		{"lists", below + "/Lists"},
		{"list", below + "/Lists/{id}"},
		{"list_items", below + "/Lists/{listId}/Items"},
		{"list_item", below + "/Lists/{listId}/Items/{itemId}"},
		{"documents", below + "/Documents"},
		{"document", below + "/Documents/{id}"},
		{"streams", below + "/Streams"},
		{"stream", below + "/Streams/{id}"},
		{"stream_messages", below + "/Streams/{streamId}/Messages"},
		{"insights_items", below + "/Insights/{indexName}/Items"},
	}
	return answer{status: http.StatusOK, body: func(b []byte) []byte {
		b = append(b, `{"links":{`...)
		for i, l := range links {
			if i > 0 {
				b = append(b, ',')
			}
			b = objects.AppendString(b, l.name)
			b = append(b, ':')
			b = objects.AppendString(b, l.url)
		}
		return append(b, "}}"...)
	}}, nil
}
