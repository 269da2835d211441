package rest

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
)

// target is what a path names, as deep as it goes. Segments are decoded.
type target struct {
	service string
	kind    objects.Kind
	object  string
	key     string // an index, a key, or an identity
}

// ref addresses the object. What can't be a unique name addresses nothing.
func (t *target) ref() fsm.Ref {
	ref := fsm.ParseRef(t.object)
	if ref.SID.IsZero() && objects.ValidateName(ref.Name) != nil {
		return fsm.Ref{}
	}
	return ref
}

// operation carries out one method on one resource.
type operation func(*request) (answer, error)

// resource is what can be done with a kind of path; nil what can't.
type resource struct{ get, post, remove operation }

// resources are all that there is to ask for.
var resources = struct {
	services, service, collection, object, items, item, permissions, permission, messages *resource
}{
	services:    &resource{get: (*request).listServices, post: (*request).createService},
	service:     &resource{get: (*request).fetchService, post: (*request).updateService, remove: (*request).removeService},
	collection:  &resource{get: (*request).listObjects, post: (*request).createObject},
	object:      &resource{get: (*request).fetchObject, post: (*request).updateObject, remove: (*request).removeObject},
	items:       &resource{get: (*request).listItems, post: (*request).createItem},
	item:        &resource{get: (*request).fetchItem, post: (*request).updateItem, remove: (*request).removeItem},
	permissions: &resource{get: (*request).listPermissions},
	permission:  &resource{get: (*request).fetchPermission, post: (*request).setPermission, remove: (*request).removePermission},
	messages:    &resource{post: (*request).publish},
}

// maxSegments is the depth of the deepest path below /v1:
// Services/{service}/{kind}/{object}/{part}/{key}.
const maxSegments = 6

// route finds the resource of a path, which must be as it came: it is split at
// the slashes first, and then each segment is decoded once.
func route(escapedPath string) (target, *resource, error) {
	rest, ok := strings.CutPrefix(escapedPath, "/v1/")
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
	t := target{service: s[1], kind: api.KindOf(s[2]), object: s[3], key: s[5]}
	res := t.resource(n, s[4])
	if s[0] != "Services" || res == nil {
		return target{}, nil, objects.ErrNotFound
	}
	return t, res, nil
}

// rawPath returns a path as it came. URL.EscapedPath is not that: where it finds
// characters that should have been encoded, it encodes the decoded path anew,
// and what was %2F has become a slash.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// cleanPath encodes the bytes of a path that should have come encoded (RFC 3986,
// 3.3), so that it can be part of a URL and of a message.
func cleanPath(raw string) string {
	return string(api.AppendEscaped(nil, raw, "/%-._~!$&'()*+,;=:@"))
}

// resource tells by the number of segments and by the part of an object what a
// path leads to; nil if nowhere.
func (t *target) resource(segments int, part string) *resource {
	switch {
	case segments == 1:
		return resources.services
	case segments == 2:
		return resources.service
	case t.kind == objects.KindNone:
		return nil
	case segments == 3:
		return resources.collection
	case segments == 4:
		return resources.object
	}
	switch {
	case part == "Items" && (t.kind == objects.KindList || t.kind == objects.KindMap):
		return either(segments == 5, resources.items, resources.item)
	case part == "Permissions" && t.kind != objects.KindStream:
		return either(segments == 5, resources.permissions, resources.permission)
	case part == "Messages" && t.kind == objects.KindStream && segments == 5:
		return resources.messages
	}
	return nil
}

func either(whole bool, collection, instance *resource) *resource {
	if whole {
		return collection
	}
	return instance
}

func decodeSegment(raw string) (string, error) {
	text, err := url.PathUnescape(raw)
	if err != nil || !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return "", objects.ErrParameter.With("The path is not valid percent-encoded UTF-8")
	}
	return text, nil
}

func (r *resource) operation(method string) (op operation, err error) {
	switch method {
	case http.MethodGet:
		op = r.get
	case http.MethodPost:
		op = r.post
	case http.MethodDelete:
		op = r.remove
	}
	if op == nil {
		return nil, objects.ErrMethod
	}
	return op, nil
}

// allow returns the methods as the header of a 405 lists them.
func (r *resource) allow() string {
	var methods []string
	if r.get != nil {
		methods = append(methods, http.MethodGet)
	}
	if r.post != nil {
		methods = append(methods, http.MethodPost)
	}
	if r.remove != nil {
		methods = append(methods, http.MethodDelete)
	}
	return strings.Join(append(methods, http.MethodOptions), ", ")
}
