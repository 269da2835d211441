package objects

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// EmptyObject is the data of a document that was created without any.
var EmptyObject = []byte("{}")

// ParseData checks the JSON value of a document, list item, map item (by the
// kind of what holds it) or stream message, and returns it in the form in which
// it is stored and sent: compact UTF-8, no escapes that JSON does not need,
// everything else (order of members, spelling of numbers) as it came. The
// result may alias raw.
//
// Errors: ErrData, ErrTooLarge, or the ErrNull of the kind.
func ParseData(raw []byte, holder Kind) ([]byte, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) || tooDeep(raw) {
		return nil, ErrData
	}
	data := compact(raw)
	if string(data) == "null" {
		return nil, ErrNull(holder)
	}
	if limit := dataLimit(holder); len(data) > limit {
		return nil, ErrTooLarge.With("Data has %d bytes; at most %d are allowed", len(data), limit)
	}
	return data, nil
}

func dataLimit(holder Kind) int {
	if holder == KindStream {
		return MaxMessage
	}
	return MaxData
}

// tooDeep reports whether valid JSON nests deeper than MaxDepth.
func tooDeep(raw []byte) bool {
	if len(raw) <= MaxDepth {
		return false
	}
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// compact removes white space between tokens and needless escapes from valid
// JSON. Most clients send neither, and get their bytes back.
//
// No library does this: encoding/json keeps the escapes, and what decodes and
// encodes strings loses half surrogates, which clients may send and get back.
func compact(raw []byte) []byte {
	if isCompact(raw) {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		switch c := raw[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '"':
			out, i = compactString(out, raw, i)
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

func isCompact(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') >= 0 {
		return false
	}
	inString := false
	for _, c := range raw {
		switch c {
		case '"':
			inString = !inString
		case ' ', '\t', '\r', '\n':
			if !inString {
				return false
			}
		}
	}
	return true
}

// compactString copies the string literal that starts at raw[i] and returns the
// place behind it.
func compactString(out, raw []byte, i int) ([]byte, int) {
	out = append(out, '"')
	i++
	for {
		switch c := raw[i]; c {
		case '"':
			return append(out, '"'), i + 1
		case '\\':
			out, i = compactEscape(out, raw, i)
		default:
			out = append(out, c)
			i++
		}
	}
}

func compactEscape(out, raw []byte, i int) ([]byte, int) {
	switch c := raw[i+1]; c {
	case '/':
		return append(out, '/'), i + 2
	case 'u':
	default:
		return append(out, '\\', c), i + 2
	}
	r, next := hex4(raw, i), i+6
	if utf16.IsSurrogate(r) {
		if next+6 <= len(raw) && raw[next] == '\\' && raw[next+1] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(raw, next)); pair != utf8.RuneError {
				return utf8.AppendRune(out, pair), next + 6
			}
		}
		// Half of a pair has no UTF-8: only its escape can stand for it.
		return append(out, raw[i:next]...), next
	}
	return appendEscaped(out, r), next
}

// appendEscaped appends one character inside a string, escaped only if it must be.
func appendEscaped(out []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(out, '\\', byte(r))
	case '\b':
		return append(out, '\\', 'b')
	case '\f':
		return append(out, '\\', 'f')
	case '\n':
		return append(out, '\\', 'n')
	case '\r':
		return append(out, '\\', 'r')
	case '\t':
		return append(out, '\\', 't')
	}
	if r < ' ' {
		const digits = "0123456789abcdef"
		return append(out, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
	}
	return utf8.AppendRune(out, r)
}

func hex4(raw []byte, i int) rune {
	n, err := strconv.ParseUint(string(raw[i+2:i+6]), 16, 32)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

// AppendString appends s as a JSON string with no escape that JSON does not need.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	plain := plainLength(s)
	b = append(b, s[:plain]...)
	for _, r := range s[plain:] {
		b = appendEscaped(b, r)
	}
	return append(b, '"')
}

// plainLength returns how much of a text, from its beginning, stands in JSON as it is:
// nearly always all.
func plainLength(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
	}
	return len(s)
}

// JSONType is the media type of JSON.
const JSONType = "application/json"

// MediaType returns the media type of a content type, without parameters and in lower
// case.
func MediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}
