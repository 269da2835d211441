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
	Path   []string // segments
	Params map[string]string

	headers gjson.Result
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
	r.Method, r.headers = h.method, h.headers
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
	params = make(map[string]string)
	h.params.ForEach(func(key, value gjson.Result) bool {
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

// Header returns a header whatever its case.
func (r *Request) Header(name string) string {
	found := ""
	r.headers.ForEach(func(key, value gjson.Result) bool {
		if strings.EqualFold(key.Str, name) {
			found = textOf(value)
		}
		return key.Str != name
	})
	return found
}
