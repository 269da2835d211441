package wire

import (
	"encoding/json"
	"net/url"
	"strings"
	"unicode/utf8"

	"lockstep/objects"
)

// Request is a request in the tunnel (part 3), decoded.
type Request struct {
	ID     string
	Method string
	Path   []string // segments
	Params map[string]string

	headers map[string]text
}

// httpRequest is a request as the client sent it. Path and parameters are
// percent-encoded.
type httpRequest struct {
	Path    string          `json:"path"`
	Method  string          `json:"method"`
	Params  map[string]text `json:"params"`
	Headers map[string]text `json:"headers"`
}

// text is the value of a parameter or header: of several the first counts.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		// Not of texts: an array in an array in an array would be read anew at
		// each depth.
		var many []json.RawMessage
		if err := json.Unmarshal(b, &many); err != nil || len(many) == 0 {
			return err
		}
		b = many[0]
	}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if string(b) != "null" {
		*t = text(b)
	}
	return nil
}

// Request decodes the request in a message, once. ErrMalformed says that there is
// none; any other error is what the request is to be answered with, and it has no
// path then. Nor has one that is too large and of which not all is known.
func (m *Message) Request() (Request, error) {
	r := Request{ID: m.ID}
	if m.Oversized && m.HTTPRequest == nil {
		return r, nil
	}
	var h httpRequest
	if err := json.Unmarshal(m.HTTPRequest, &h); err != nil {
		return r, ErrMalformed
	}
	r.Method, r.headers = h.Method, h.Headers
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
	path, query, _ := strings.Cut(h.Path, "?")
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		decoded, err := unescape(segment)
		if err != nil {
			return nil, nil, err
		}
		segments = append(segments, decoded)
	}
	params = make(map[string]string, len(h.Params))
	for name, value := range h.Params {
		if params[name], err = unescape(string(value)); err != nil {
			return nil, nil, err
		}
	}
	for pair := range strings.SplitSeq(query, "&") {
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
	if v, ok := r.headers[name]; ok {
		return string(v)
	}
	for k, v := range r.headers {
		if strings.EqualFold(k, name) {
			return string(v)
		}
	}
	return ""
}
