package durablestreams

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"lockstep/fsm"
	"lockstep/objects"
)

// The items of a list are JSON. A stream of JSON has a message in each; one of text has
// pieces of it, as JSON strings; one of anything else has them in Base64.

type encoding uint8

const (
	jsonMessages encoding = iota
	plainText
	base64Text
)

func encodingOf(contentType string) encoding {
	switch media := objects.MediaType(contentType); {
	case media == "" || media == objects.JSONType:
		return jsonMessages
	case strings.HasPrefix(media, "text/"):
		return plainText
	}
	return base64Text
}

// binaryPiece is how much of a body that is neither JSON nor text goes into an item.
const binaryPiece = (objects.MaxData - 2) / 4 * 3

// itemsOf makes the items of a body. Messages may be too many; pieces of the largest body
// are not.
func itemsOf(e encoding, body []byte) (items [][]byte, err error) {
	switch e {
	case jsonMessages:
		return messagesOf(body)
	case plainText:
		return piecesOf(body)
	}
	for len(body) > 0 {
		n := min(len(body), binaryPiece)
		items = append(items, append(base64.StdEncoding.AppendEncode([]byte(`"`), body[:n]), '"'))
		body = body[n:]
	}
	return items, nil
}

// messagesOf makes items of JSON: one of each element of an array, or of anything else.
func messagesOf(body []byte) (items [][]byte, err error) {
	body = bytes.TrimSpace(body)
	if !json.Valid(body) {
		return nil, objects.ErrData
	}
	all := []json.RawMessage{body}
	if body[0] == '[' {
		if err := json.Unmarshal(body, &all); err != nil {
			return nil, objects.ErrData
		}
	}
	if len(all) > fsm.MaxAppend {
		return nil, objects.ErrTooLarge.With("%d messages; at most %d can be appended at once", len(all), fsm.MaxAppend)
	}
	for _, raw := range all {
		if string(raw) == "null" { // a message as any other
			items = append(items, raw)
			continue
		}
		data, err := objects.ParseData(raw, objects.KindList)
		if err != nil {
			return nil, err
		}
		items = append(items, data)
	}
	return items, nil
}

// piecesOf makes items of text, none of them larger than an item may be.
func piecesOf(body []byte) (items [][]byte, err error) {
	if !utf8.Valid(body) {
		return nil, objects.ErrData.With("The body is not text in UTF-8")
	}
	const longest = len(`\u0000`)
	for len(body) > 0 {
		n, size := 0, 2
		for n < len(body) && size+longest <= objects.MaxData {
			r, width := utf8.DecodeRune(body[n:])
			size += max(width, 1)
			if r < ' ' || r == '"' || r == '\\' {
				size += longest
			}
			n += width
		}
		items = append(items, objects.AppendString(nil, string(body[:n])))
		body = body[n:]
	}
	return items, nil
}

// appendItem appends to b what an item stands for. What was put there by other doors
// than this one, and is not as it should be, is taken as it is.
func (e encoding) appendItem(b, data []byte) []byte {
	if e == jsonMessages {
		return append(b, data...)
	}
	var text string
	if json.Unmarshal(data, &text) != nil {
		return append(b, data...)
	}
	if e == base64Text {
		if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
			return append(b, decoded...)
		}
	}
	return append(b, text...)
}

// body appends to b what items stand for together.
func (e encoding) body(b []byte, items []*objects.Item) []byte {
	if e != jsonMessages {
		for _, i := range items {
			b = e.appendItem(b, i.Data)
		}
		return b
	}
	b = append(b, '[')
	for n, i := range items {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, i.Data...)
	}
	return append(b, ']')
}
