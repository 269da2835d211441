package rest

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/origin"
	"lockstep/server/resource"
)

// target is what a path names, as deep as it goes. Segments are decoded.
type target struct {
	service string
	kind    objects.Kind
	object  string
	key     string // an index, a key, or an identity
	lease   string
}

// ref addresses the object. What can't be a unique name addresses nothing.
func (t *target) ref() fsm.Ref {
	ref := fsm.ParseRef(t.object)
	if ref.SID.IsZero() && objects.ValidateName(ref.Name) != nil {
		return fsm.Ref{}
	}
	return ref
}

// operation carries out one method on one endpoint.
type operation func(ctx context.Context, c *call) (answer, error)

// endpoint is what can be done with a kind of path; nil what can't.
type endpoint struct{ get, post, remove operation }

// endpoints are all that there is to ask for.
var endpoints = struct {
	services, service, collection, object, items, item, permissions, permission, messages, transactions, leases, lease *endpoint
}{
	services:    &endpoint{get: listServices, post: createService},
	service:     &endpoint{get: fetchService, post: updateService, remove: removeService},
	collection:  &endpoint{get: listObjects, post: createObject},
	object:      &endpoint{get: fetchObject, post: updateObject, remove: removeObject},
	items:       &endpoint{get: listItems, post: createItem},
	item:        &endpoint{get: fetchItem, post: updateItem, remove: removeItem},
	permissions: &endpoint{get: listPermissions},
	permission:  &endpoint{get: fetchPermission, post: setPermission, remove: removePermission},
	messages:    &endpoint{post: publish},
	leases:      &endpoint{post: openLease},
	lease:       &endpoint{get: fetchLease, post: renewLease, remove: closeLease},
}

func init() { endpoints.transactions = &endpoint{post: transact} } // which leads to the others

// maxSegments is the depth of the deepest path below /v1:
// Services/{service}/{kind}/{object}/{part}/{key}.
const maxSegments = 6

// route finds the endpoint of a path, which must be as it came: it is split at
// the slashes first, and then each segment is decoded once.
func route(escapedPath string) (target, *endpoint, error) {
	rest, ok := strings.CutPrefix(escapedPath, Prefix)
	if !ok {
		return target{}, nil, objects.ErrNotFound
	}
	var s [maxSegments]string
	n := 0
	for more := true; more; n++ {
		if n == maxSegments {
			return target{}, nil, objects.ErrNotFound
		}
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		decoded, err := decodeSegment(segment)
		if err != nil {
			return target{}, nil, err
		}
		if decoded == "" {
			return target{}, nil, objects.ErrNotFound
		}
		s[n] = decoded
	}
	t := target{service: s[1], kind: resource.KindOf(s[2]), object: s[3], key: s[5]}
	res := t.endpoint(n, s[4])
	switch {
	case n == 3 && s[2] == "Transactions":
		res = endpoints.transactions
	case n == 3 && s[2] == "Leases":
		res = endpoints.leases
	case n == 4 && s[2] == "Leases":
		t.object, t.lease, res = "", s[3], endpoints.lease
	}
	if s[0] != "Services" || res == nil {
		return target{}, nil, objects.ErrNotFound
	}
	return t, res, nil
}

// cleanPath returns a path that can be part of a URL and of a message: as it came,
// or, if it has characters that should have been encoded, with each segment
// encoded anew.
func cleanPath(u *url.URL) string {
	raw := origin.RawPath(u)
	if u.EscapedPath() == raw {
		return raw
	}
	segments := strings.Split(raw, "/")
	for i, s := range segments {
		if decoded, err := url.PathUnescape(s); err == nil {
			segments[i] = url.PathEscape(decoded)
		}
	}
	return strings.Join(segments, "/")
}

// endpoint tells by the number of segments and by the part of an object what a
// path leads to; nil if nowhere.
func (t *target) endpoint(segments int, part string) *endpoint {
	switch {
	case segments == 1:
		return endpoints.services
	case segments == 2:
		return endpoints.service
	case t.kind == objects.KindNone:
		return nil
	case segments == 3:
		return endpoints.collection
	case segments == 4:
		return endpoints.object
	}
	switch {
	case part == "Items" && (t.kind == objects.KindList || t.kind == objects.KindMap):
		return bySegments(segments, endpoints.items, endpoints.item)
	case part == "Permissions" && t.kind != objects.KindStream:
		return bySegments(segments, endpoints.permissions, endpoints.permission)
	case part == "Messages" && t.kind == objects.KindStream && segments == 5:
		return endpoints.messages
	}
	return nil
}

// bySegments tells the parts of an object from one of them, which the last segment
// names.
func bySegments(segments int, all, one *endpoint) *endpoint {
	if segments == maxSegments {
		return one
	}
	return all
}

func decodeSegment(raw string) (string, error) {
	text, err := url.PathUnescape(raw)
	if err != nil || !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return "", objects.ErrParameter.With("The path is not valid percent-encoded UTF-8")
	}
	return text, nil
}

func (e *endpoint) operation(method string) (op operation, err error) {
	switch method {
	case http.MethodGet:
		op = e.get
	case http.MethodPost:
		op = e.post
	case http.MethodDelete:
		op = e.remove
	}
	if op == nil {
		return nil, objects.ErrMethod
	}
	return op, nil
}

// allow returns the methods as the header of a 405 lists them.
func (e *endpoint) allow() string {
	var methods []string
	if e.get != nil {
		methods = append(methods, http.MethodGet)
	}
	if e.post != nil {
		methods = append(methods, http.MethodPost)
	}
	if e.remove != nil {
		methods = append(methods, http.MethodDelete)
	}
	return strings.Join(append(methods, http.MethodOptions), ", ")
}
