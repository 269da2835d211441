package rest

import (
	"strings"

	"lockstep/objects"
	"lockstep/server/api"
)

// params are the parameters of a form or of a query, encoded as they came. Of a
// parameter that comes twice the first counts. (url.ParseQuery is as quick, but
// refuses a semicolon that is not encoded, and "curl -d" sends data as it is.)
type params string

var errEscape = objects.ErrParameter.With("The parameters are not correctly percent-encoded")

// parseParams checks the percent-encoding, so that looking up cannot fail.
func parseParams(raw string) (params, error) {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '%' {
			continue
		}
		if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
			return "", errEscape
		}
		i += 2
	}
	return params(raw), nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// lookup returns a parameter that may be empty.
func (p params) lookup(name string) (value string, ok bool) {
	encoded, ok := p.find(name)
	return decode(encoded), ok
}

// find returns a parameter as it came.
func (p params) find(name string) (encoded string, ok bool) {
	for rest, more := string(p), true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, "&")
		key, value, _ := strings.Cut(pair, "=")
		if key == name || decode(key) == name {
			return value, true
		}
	}
	return "", false
}

// get returns a parameter of which the empty value counts as absent.
func (p params) get(name string) string {
	value, _ := p.lookup(name)
	return value
}

// optional returns a parameter that is nil when absent.
func (p params) optional(name string) *string {
	if value, ok := p.lookup(name); ok {
		return &value
	}
	return nil
}

// data returns the JSON value, nil when absent.
func (p params) data() []byte {
	if value, ok := p.find("Data"); ok {
		return decodeBytes(value)
	}
	return nil
}

// ttl returns the first of the named TTLs that is present, nil when none is. Its
// range is checked where it is used.
func (p params) ttl(names ...string) (*int64, error) {
	for _, name := range names {
		if value := p.get(name); value != "" {
			seconds, err := api.ParseWhole(value)
			if err != nil {
				return nil, objects.ErrTTL
			}
			ttl := int64(min(seconds, objects.MaxTTLSeconds+1))
			return &ttl, nil
		}
	}
	return nil, nil
}

// boolean returns a flag, nil when absent.
func (p params) boolean(name string) (*bool, error) {
	value := p.get(name)
	switch {
	case value == "":
		return nil, nil
	case strings.EqualFold(value, "true"):
		return new(true), nil
	case strings.EqualFold(value, "false"):
		return new(false), nil
	}
	return nil, objects.ErrParameter.With("%s must be true or false", name)
}

func decode(text string) string {
	if strings.IndexByte(text, '%') < 0 && strings.IndexByte(text, '+') < 0 {
		return text
	}
	return string(decodeBytes(text))
}

// decodeBytes is decode into memory of its own. What parseParams has checked cannot
// be wrong.
func decodeBytes(text string) []byte {
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '+':
			b = append(b, ' ')
		case '%':
			b = append(b, digit(text[i+1])<<4|digit(text[i+2]))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return b
}

func digit(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
