package wire

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"lockstep/objects"
)

// Request is a request in the tunnel (part 3), decoded.
type Request struct {
	ID     string
	Method string
	Path   []string          // segments
	Params map[string]string // nil: none

	// The headers that are looked at, whatever their case.
	RequestID   string // Twilio-Request-Id
	IfMatch     string // If-Match
	Traceparent string // traceparent
}

// httpRequest is a request as the client sent it. Path and parameters are
// percent-encoded.
type httpRequest struct {
	path, method    string
	params, headers gjson.Result // objects of texts, or nothing
}

// decode reports whether the text, which is JSON, is a request.
func (h *httpRequest) decode(text string) bool {
	all := gjson.Parse(text)
	if all.Type == gjson.Null {
		return true
	}
	return members(all, func(name string, value gjson.Result) bool {
		switch name {
		case "path":
			return setText(&h.path, value)
		case "method":
			return setText(&h.method, value)
		case "params":
			return setObject(&h.params, value)
		case "headers":
			return setObject(&h.headers, value)
		}
		return true
	})
}

// Request decodes the request in a message, once. ErrMalformed says that there is
// none; any other error is what the request is to be answered with, and it has no
// path then. Nor has one that is too large and of which not all is known.
func (m *Message) Request() (Request, error) {
	r := Request{ID: m.ID}
	if m.HTTPRequest == "" {
		if m.Oversized {
			return r, nil
		}
		return r, ErrMalformed
	}
	var h httpRequest
	if !h.decode(m.HTTPRequest) {
		return r, ErrMalformed
	}
	r.Method = h.method
	r.takeHeaders(h.headers)
	path, params, err := h.address()
	if err != nil {
		return r, err
	}
	r.Path, r.Params = path, params
	return r, nil
}

// address decodes the path and the parameters, which may be members of the
// request or a query behind the path; the members win.
func (h *httpRequest) address() (segments []string, params map[string]string, err error) {
	path, query, _ := strings.Cut(strings.TrimPrefix(h.path, "/"), "?")
	segments = make([]string, 0, 1+strings.Count(path, "/"))
	for segment := range strings.SplitSeq(path, "/") {
		decoded, err := unescape(segment)
		if err != nil {
			return nil, nil, err
		}
		segments = append(segments, decoded)
	}
	h.params.ForEach(func(key, value gjson.Result) bool {
		if params == nil {
			params = make(map[string]string)
		}
		params[unicodeOf(key)], err = unescape(textOf(value))
		return err == nil
	})
	if err != nil {
		return nil, nil, err
	}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		decoded, err := unescape(value)
		if err != nil {
			return nil, nil, err
		}
		if params == nil {
			params = make(map[string]string)
		}
		if _, given := params[name]; !given {
			params[name] = decoded
		}
	}
	return segments, params, nil
}

// unescape decodes what was percent-encoded. A NUL is part of no name.
func unescape(text string) (string, error) {
	decoded, err := url.PathUnescape(text)
	if err != nil || !utf8.ValidString(decoded) || strings.ContainsRune(decoded, 0) {
		return "", objects.ErrParameter.With("The path or a parameter is not valid percent-encoded UTF-8")
	}
	return decoded, nil
}

// takeHeaders reads the headers, once. Of several that differ in case only, one that
// is spelled as here counts, or else the last.
func (r *Request) takeHeaders(all gjson.Result) {
	wanted := [...]struct {
		name  string
		to    *string
		exact bool
	}{{name: "Twilio-Request-Id", to: &r.RequestID}, {name: "If-Match", to: &r.IfMatch}, {name: "traceparent", to: &r.Traceparent}}
	all.ForEach(func(key, value gjson.Result) bool {
		for i := range wanted {
			if w := &wanted[i]; !w.exact && len(key.Str) == len(w.name) && strings.EqualFold(key.Str, w.name) {
				*w.to, w.exact = textOf(value), key.Str == w.name
			}
		}
		return true
	})
}
