package rest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"lockstep/fsm"
	"lockstep/objects"
)

// paging is what a request says about the page of a collection that it wants.
type paging struct {
	size   int
	number int    // the client's own count of pages; it carries no meaning
	desc   bool   // the collection is asked for backwards
	token  *token // nil: the first page
}

func (q *request) paging() (paging, error) {
	p := paging{size: objects.DefaultPageSize}
	if text := q.params.get("PageToken"); text != "" {
		t, err := parseToken(text)
		if err != nil {
			return p, err
		}
		// What the request does not say anew is as it was for the first page.
		p.token, p.size, p.desc = t, t.size, t.desc
	}
	if text := q.params.get("PageSize"); text != "" {
		size, err := parseWhole(text)
		if err != nil || size == 0 {
			return p, objects.ErrPageSize
		}
		// Client libraries send the number of entries that they want in all.
		p.size = int(min(size, objects.MaxPageSize))
	}
	if n, err := strconv.ParseUint(q.params.get("Page"), 10, 31); err == nil {
		p.number = int(n)
	}
	return p, nil
}

// back says whether the page is one that was turned back to.
func (p *paging) back() bool { return p.token != nil && p.token.back }

// numbers gives the span of a collection whose positions are numbers. It
// reaches one entry beyond the page, to see whether there is one.
func (p *paging) numbers() (fsm.Span[uint64], error) {
	if p.token == nil {
		return fsm.Span[uint64]{Limit: p.size + 1}, nil
	}
	number, err := decodeNumber(p.token.position)
	return spanOf(p, number), err
}

func spanOf[Position uint64 | string](p *paging, position Position) fsm.Span[Position] {
	span := fsm.Span[Position]{Limit: p.size + 1}
	if p.back() {
		span.Before = position
	} else {
		span.After = position
	}
	return span
}

// cut takes the one entry too many off, if it is there: at the end, or at the
// start of a page that was turned back to.
func cut[T any](p *paging, entries []T) (page []T, more bool) {
	switch {
	case len(entries) <= p.size:
		return entries, false
	case p.back():
		return entries[1:], true
	}
	return entries[:p.size], true
}

// token is a position in the order of one collection. It stays right when
// entries come and go, says the same on every node, and is enough to turn pages
// by: the next page is as long as the first was asked for.
type token struct {
	text     string
	back     bool   // the page is the one in front of the position; else the one behind it
	desc     bool   // the collection is read backwards
	size     int    // of a page
	tag      string // binds it to its collection and order
	position string
}

// In front of a token's tag stand its side, its order and the size of a page.
const (
	sizeAt    = 2
	tagAt     = 3
	tagLength = 6
)

// encode makes the text of a token from letters, digits, "-" and "_" only: a
// helper library deletes dots before digits from queries.
func (t token) encode() string {
	b := make([]byte, 0, tagAt+len(t.tag)+len(t.position))
	b = append(b, letter(t.back, 'b', 'a'), letter(t.desc, 'd', 'a'), byte(t.size))
	b = append(append(b, t.tag...), t.position...)
	return base64.RawURLEncoding.EncodeToString(b)
}

func letter(is bool, yes, no byte) byte {
	if is {
		return yes
	}
	return no
}

// parseToken reads what encode made. The tag is checked when the
// collection has been read.
func parseToken(text string) (*token, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) <= tagAt+tagLength || strings.ContainsAny(text, "\r\n") {
		return nil, objects.ErrPageToken
	}
	t := &token{
		text: text, back: b[0] == 'b', desc: b[1] == 'd', size: int(b[sizeAt]),
		tag: string(b[tagAt : tagAt+tagLength]), position: string(b[tagAt+tagLength:]),
	}
	if t.encode() != text || t.size == 0 || t.size > objects.MaxPageSize {
		return nil, objects.ErrPageToken
	}
	return t, nil
}

// tagOf binds a position to a collection, named by the key of its array and the
// SID of what it belongs to, and to an order of it.
func tagOf(key string, of objects.SID, desc bool, position string) string {
	b := make([]byte, 0, 128)
	b = append(append(b, key...), 0)
	b = append(b, of[:]...)
	b = strconv.AppendBool(b, desc)
	b = append(b, position...)
	sum := sha256.Sum256(b)
	return string(sum[:tagLength])
}

func numberPosition(n uint64) string {
	return string(binary.BigEndian.AppendUint64(nil, n))
}

func decodeNumber(position string) (uint64, error) {
	if len(position) != 8 {
		return 0, objects.ErrPageToken
	}
	return binary.BigEndian.Uint64([]byte(position)), nil
}

// pageOf is a page that has been read: entries of the collection under a key,
// of what the SID names. more says whether there are more of them in the
// direction of reading.
type pageOf[T any] struct {
	paging
	key      string
	of       objects.SID
	entries  []T
	more     bool
	position func(T) string
	write    func([]byte, T) []byte
}

// answer writes the page.
func (p *pageOf[T]) answer(q *request) (answer, error) {
	if t := p.token; t != nil && t.tag != tagOf(p.key, p.of, p.desc, t.position) {
		return answer{}, objects.ErrPageToken
	}
	b := make([]byte, 0, 1024+512*len(p.entries))
	b = append(b, '{', '"')
	b = append(b, p.key...)
	b = append(b, `":[`...)
	for i, e := range p.entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.write(b, e)
	}
	b = append(b, `],"meta":{"key":"`...)
	b = append(b, p.key...)
	b = append(b, `","page":`...)
	b = strconv.AppendInt(b, int64(p.number), 10)
	b = append(b, `,"page_size":`...)
	b = strconv.AppendInt(b, int64(p.size), 10)
	b = append(b, `,"first_page_url":`...)
	b = q.appendPageURL(b, p.size, 0, "")
	b = append(b, `,"url":`...)
	b = q.appendPageURL(b, p.size, p.number, p.ownToken())
	b = append(b, `,"previous_page_url":`...)
	b = p.appendPrevious(b, q)
	b = append(b, `,"next_page_url":`...)
	b = p.appendNext(b, q)
	return answer{status: http.StatusOK, body: append(b, "}}"...)}, nil
}

func (p *pageOf[T]) ownToken() string {
	if p.token == nil {
		return ""
	}
	return p.token.text
}

// From a page that turned out empty, because what was on it is gone, there is
// no position to turn from. Such a page refers to the first one.

func (p *pageOf[T]) appendPrevious(b []byte, q *request) []byte {
	switch {
	case p.token == nil, p.back() && !p.more:
		return append(b, "null"...)
	case len(p.entries) == 0:
		return q.appendPageURL(b, p.size, 0, "")
	}
	return q.appendPageURL(b, p.size, max(p.number-1, 0), p.turn(true, p.entries[0]))
}

func (p *pageOf[T]) appendNext(b []byte, q *request) []byte {
	switch {
	case !p.back() && !p.more:
		return append(b, "null"...)
	case len(p.entries) == 0:
		return q.appendPageURL(b, p.size, 0, "")
	}
	return q.appendPageURL(b, p.size, p.number+1, p.turn(false, p.entries[len(p.entries)-1]))
}

// turn gives the token of the page in front of or behind an entry.
func (p *pageOf[T]) turn(back bool, entry T) string {
	position := p.position(entry)
	return token{back: back, desc: p.desc, size: p.size, tag: tagOf(p.key, p.of, p.desc, position), position: position}.encode()
}

// appendPageURL appends the URL of a page of the collection that was asked for,
// as a JSON string.
func (q *request) appendPageURL(b []byte, size, number int, token string) []byte {
	u := make([]byte, 0, 256)
	u = append(append(u, q.form.Base...), q.path...)
	u = append(u, "?PageSize="...)
	u = strconv.AppendInt(u, int64(size), 10)
	for _, name := range []string{"Order", "From", "Bounds"} {
		if value := q.params.get(name); value != "" {
			u = append(append(append(u, '&'), name...), '=')
			u = append(u, url.QueryEscape(value)...)
		}
	}
	u = append(u, "&Page="...)
	u = strconv.AppendInt(u, int64(number), 10)
	if token != "" {
		u = append(append(u, "&PageToken="...), token...)
	}
	return objects.AppendString(b, string(u))
}
