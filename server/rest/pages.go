package rest

import (
	"cmp"
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
	start  start  // of what is asked for
	token  *token // nil: the first page
}

// start is where what is asked for of a list's or map's items begins: at the
// first of them if from is empty.
type start struct {
	from      string // an index or a key
	exclusive bool   // the item there is left out
}

func (c *call) paging() (paging, error) {
	p := paging{size: objects.DefaultPageSize}
	if text := c.params.get("PageToken"); text != "" {
		t, err := parseToken(text)
		if err != nil {
			return p, err
		}
		// What the request does not say anew is as it was for the first page.
		p.token, p.size, p.desc, p.start = t, t.size, t.desc, t.start
	}
	if text := c.params.get("PageSize"); text != "" {
		size, err := parseWhole(text)
		if err != nil || size == 0 {
			return p, objects.ErrPageSize
		}
		// Client libraries send the number of entries that they want in all.
		p.size = int(min(size, objects.MaxPageSize))
	}
	if n, err := strconv.ParseUint(c.params.get("Page"), 10, 31); err == nil {
		p.number = int(n)
	}
	return p, nil
}

// back reports whether the page is one that was turned back to.
func (p *paging) back() bool { return p.token != nil && p.token.back }

// numbers returns the span of a collection whose positions are numbers. It
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
// by: the next page is as long as the first was asked for, and the collection
// begins where it began.
type token struct {
	text     string
	back     bool   // the page is the one in front of the position; else the one behind it
	desc     bool   // the collection is read backwards
	size     int    // of a page
	start    start  // of the collection, as it was asked for
	tag      string // binds it to its collection, order and start
	position string
}

// In front of a token's tag stand its side, its order, whether the start is left
// out, and the size of a page; behind it the start, with its length, and the
// position.
const (
	boundsAt  = 2
	sizeAt    = 3
	tagAt     = 4
	tagLength = 6
)

// encode makes the text of a token from letters, digits, "-" and "_" only: a
// helper library deletes dots before digits from queries.
func (t token) encode() string {
	b := make([]byte, 0, tagAt+len(t.tag)+binary.MaxVarintLen16+len(t.start.from)+len(t.position))
	b = append(b, letter(t.back, 'b', 'a'), letter(t.desc, 'd', 'a'), letter(t.start.exclusive, 'x', 'i'), byte(t.size))
	b = append(b, t.tag...)
	b = binary.AppendUvarint(b, uint64(len(t.start.from)))
	b = append(append(b, t.start.from...), t.position...)
	return base64.RawURLEncoding.EncodeToString(b)
}

func only(is bool, text string) string {
	if is {
		return text
	}
	return ""
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
	t := &token{text: text, back: b[0] == 'b', desc: b[1] == 'd', size: int(b[sizeAt]), tag: string(b[tagAt : tagAt+tagLength])}
	rest := b[tagAt+tagLength:]
	length, n := binary.Uvarint(rest)
	if n <= 0 || length >= uint64(len(rest)-n) { // a position has at least one byte
		return nil, objects.ErrPageToken
	}
	rest = rest[n:]
	t.start = start{from: string(rest[:length]), exclusive: b[boundsAt] == 'x'}
	t.position = string(rest[length:])
	if t.encode() != text || t.size == 0 || t.size > objects.MaxPageSize {
		return nil, objects.ErrPageToken
	}
	return t, nil
}

// tagOf binds a position to a collection, named by the key of its array and the
// SID of what it belongs to, to an order of it, and to where it begins.
func tagOf(key string, of objects.SID, desc bool, begin start, position string) string {
	b := make([]byte, 0, 128)
	b = append(append(b, key...), 0)
	b = append(b, of[:]...)
	b = strconv.AppendBool(b, desc)
	b = strconv.AppendBool(b, begin.exclusive)
	b = strconv.AppendQuote(b, begin.from)
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
// of what the SID names. more reports whether there are more of them in the
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
func (p *pageOf[T]) answer(c *call) (answer, error) {
	if t := p.token; t != nil && t.tag != tagOf(p.key, p.of, p.desc, t.start, t.position) {
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
	b = c.appendPageURL(b, &p.paging, 0, "")
	b = append(b, `,"url":`...)
	b = c.appendPageURL(b, &p.paging, p.number, p.ownToken())
	b = append(b, `,"previous_page_url":`...)
	b = p.appendPrevious(b, c)
	b = append(b, `,"next_page_url":`...)
	b = p.appendNext(b, c)
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

func (p *pageOf[T]) appendPrevious(b []byte, c *call) []byte {
	switch {
	case p.token == nil, p.back() && !p.more:
		return append(b, "null"...)
	case len(p.entries) == 0:
		return c.appendPageURL(b, &p.paging, 0, "")
	}
	return c.appendPageURL(b, &p.paging, max(p.number-1, 0), p.turn(true, p.entries[0]))
}

func (p *pageOf[T]) appendNext(b []byte, c *call) []byte {
	switch {
	case !p.back() && !p.more:
		return append(b, "null"...)
	case len(p.entries) == 0:
		return c.appendPageURL(b, &p.paging, 0, "")
	}
	return c.appendPageURL(b, &p.paging, p.number+1, p.turn(false, p.entries[len(p.entries)-1]))
}

// turn returns the token of the page in front of or behind an entry.
func (p *pageOf[T]) turn(back bool, entry T) string {
	position := p.position(entry)
	return token{
		back: back, desc: p.desc, size: p.size, start: p.start,
		tag: tagOf(p.key, p.of, p.desc, p.start, position), position: position,
	}.encode()
}

// appendPageURL appends the URL of a page of the collection that was asked for,
// as a JSON string. It repeats what the request said of the collection, or the
// token that it came with.
func (c *call) appendPageURL(b []byte, p *paging, number int, token string) []byte {
	u := make([]byte, 0, 256)
	u = append(append(u, c.encoder.Origin...), c.path...)
	u = append(u, "?PageSize="...)
	u = strconv.AppendInt(u, int64(p.size), 10)
	for _, asked := range []struct{ name, kept string }{
		{"Order", only(p.desc, "desc")}, {"From", p.start.from}, {"Bounds", only(p.start.exclusive, "exclusive")},
	} {
		if value := cmp.Or(c.params.get(asked.name), asked.kept); value != "" {
			u = append(append(append(u, '&'), asked.name...), '=')
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
