package wire

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"
)

// Valid reports whether a text is JSON. What nests a lot is left to the parser that
// does not use the stack for it: the fast one would take a hundred times the text.
func Valid(text []byte) bool {
	const nested = 200
	if bytes.Count(text, []byte("{"))+bytes.Count(text, []byte("[")) > nested {
		return json.Valid(text)
	}
	return gjson.ValidBytes(text)
}

// members calls read with each member of an object, until that returns false, and
// reports whether it is an object all of whose members were read.
func members(object gjson.Result, read func(name string, value gjson.Result) bool) bool {
	ok := object.IsObject()
	if ok {
		object.ForEach(func(key, value gjson.Result) bool {
			ok = read(key.Str, value)
			return ok
		})
	}
	return ok
}

// setText takes a text, or null for none, and reports whether it is one of them.
func setText(to *string, value gjson.Result) bool {
	switch value.Type {
	case gjson.String:
		*to = unicodeOf(value)
		return true
	case gjson.Null:
		return true
	}
	return false
}

// setObject takes an object, or null for nothing, and reports whether it is one of them.
func setObject(to *gjson.Result, value gjson.Result) bool {
	switch {
	case value.IsObject():
		*to = value
		return true
	case value.Type == gjson.Null:
		*to = gjson.Result{}
		return true
	}
	return false
}

// textOf returns the value of a parameter or header: of several the first counts.
func textOf(value gjson.Result) string {
	if value.IsArray() {
		first := gjson.Result{}
		value.ForEach(func(_, element gjson.Result) bool {
			first = element
			return false
		})
		value = first
	}
	switch value.Type {
	case gjson.String:
		return unicodeOf(value)
	case gjson.Null: // or nothing
		return ""
	}
	return value.Raw
}

func unicodeOf(value gjson.Result) string { return strings.ToValidUTF8(value.Str, "\uFFFD") }
