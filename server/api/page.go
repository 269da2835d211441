package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"

	"lockstep/fsm"
	"lockstep/objects"
)

// PageQuery is what a request says about the page of a collection that it wants.
type PageQuery struct {
	Size   int
	Desc   bool       // the collection is asked for backwards
	Start  Start      // of what is asked for
	Cursor *PageToken // nil: the first page
}

// Start is where what is asked for of a list's or map's items begins: at the
// first of them if From is empty.
type Start struct {
	From      string // an index or a key
	Exclusive bool   // the item there is left out
}

// Collection is what a page is of: the entries of a name of what the SID names.
type Collection struct {
	Name string
	Of   objects.SID
}

// ParsePageQuery reads PageToken and PageSize. get returns a parameter, the empty
// text if there is none.
func ParsePageQuery(get func(name string) string) (PageQuery, error) {
	q := PageQuery{Size: objects.DefaultPageSize}
	if text := get("PageToken"); text != "" {
		t, err := ParsePageToken(text)
		if err != nil {
			return q, err
		}
		// What the request does not say anew is as it was for the first page.
		q.Cursor, q.Size, q.Desc, q.Start = t, t.size, t.desc, t.start
	}
	if text := get("PageSize"); text != "" {
		size, err := ParseWhole(text)
		if err != nil || size == 0 {
			return q, objects.ErrPageSize
		}
		// Client libraries send the number of entries that they want in all.
		q.Size = int(min(size, objects.MaxPageSize))
	}
	return q, nil
}

// Back reports whether the page is one that was turned back to.
func (q *PageQuery) Back() bool { return q.Cursor != nil && q.Cursor.back }

// Check refuses a token that is another collection's, or another order's.
func (q *PageQuery) Check(of Collection) error {
	if t := q.Cursor; t != nil && t.tag != tagOf(of, q.Desc, t.start, t.position) {
		return objects.ErrPageToken
	}
	return nil
}

// PageBefore returns the token of the page in front of a position.
func (q *PageQuery) PageBefore(of Collection, position string) string {
	return q.turn(of, position, true)
}

// PageAfter returns the token of the page behind a position.
func (q *PageQuery) PageAfter(of Collection, position string) string {
	return q.turn(of, position, false)
}

func (q *PageQuery) turn(of Collection, position string, back bool) string {
	return PageToken{
		back: back, desc: q.Desc, size: q.Size, start: q.Start,
		tag: tagOf(of, q.Desc, q.Start, position), position: position,
	}.encode()
}

// Numbers returns the span of a collection whose positions are numbers. It
// reaches one entry beyond the page, to see whether there is one.
func (q *PageQuery) Numbers() (fsm.Span[uint64], error) {
	if q.Cursor == nil {
		return fsm.Span[uint64]{Limit: q.Size + 1}, nil
	}
	number, err := decodeNumber(q.Cursor.position)
	return spanOf(q, number), err
}

// Names is Numbers for a collection whose positions are names.
func (q *PageQuery) Names() fsm.Span[string] {
	if q.Cursor == nil {
		return fsm.Span[string]{Limit: q.Size + 1}
	}
	return spanOf(q, q.Cursor.position)
}

func spanOf[Position uint64 | string](q *PageQuery, position Position) fsm.Span[Position] {
	span := fsm.Span[Position]{Limit: q.Size + 1}
	if q.Back() {
		span.Before = position
	} else {
		span.After = position
	}
	return span
}

// Cut takes the one entry too many off, if it is there: at the end, or at the
// start of a page that was turned back to.
func Cut[T any](q *PageQuery, entries []T) (page []T, more bool) {
	switch {
	case len(entries) <= q.Size:
		return entries, false
	case q.Back():
		return entries[1:], true
	}
	return entries[:q.Size], true
}

// ItemQuery is a query for a page of items.
type ItemQuery struct {
	PageQuery
	Asked   fsm.Range // the whole of what was asked for
	Reading fsm.Range // the page of it; towards the start when turning back
}

// ParseItemQuery reads what ParsePageQuery does, and Order, Bounds and From.
func ParseItemQuery(kind objects.Kind, get func(name string) string) (ItemQuery, error) {
	page, err := ParsePageQuery(get)
	if err != nil {
		return ItemQuery{}, err
	}
	q := ItemQuery{PageQuery: page}
	switch order := get("Order"); order {
	case "":
	case "asc", "desc":
		q.Desc = order == "desc"
	default:
		return ItemQuery{}, objects.ErrOrder
	}
	switch bounds := get("Bounds"); bounds {
	case "":
	case "inclusive", "exclusive":
		q.Start.Exclusive = bounds == "exclusive"
	default:
		return ItemQuery{}, objects.ErrBounds
	}
	q.Start.From = cmp.Or(get("From"), q.Start.From)
	q.Asked = fsm.Range{Desc: q.Desc, Exclusive: q.Start.Exclusive}
	if q.Start.From != "" {
		key, err := ParseItemKey(kind, q.Start.From)
		if err != nil {
			return ItemQuery{}, err
		}
		q.Asked.From = &key
	}
	return q, q.read(kind)
}

// read makes the range of the page.
func (q *ItemQuery) read(kind objects.Kind) error {
	q.Reading = q.Asked
	q.Reading.Limit = q.Size
	if q.Back() {
		q.Reading.Limit++ // what lies in front of the start does not count as more
	}
	if q.Cursor == nil {
		return nil
	}
	key, err := decodeItem(kind, q.Cursor.position)
	q.Reading.From, q.Reading.Exclusive = &key, true
	q.Reading.Desc = q.Asked.Desc != q.Back()
	return err
}

// Arrange puts what was read into the order that was asked for, without what
// lies in front of the start. more reports whether there is more in the direction
// of reading.
func (q *ItemQuery) Arrange(page ItemPage) (items []*objects.Item, more bool) {
	items, more = page.Items, page.After
	if !q.Back() {
		return items, more
	}
	if n := slices.IndexFunc(items, q.inFront); n >= 0 {
		items = items[:n]
	}
	if more = len(items) > q.Size; more {
		items = items[:q.Size]
	}
	slices.Reverse(items)
	return items, more
}

// inFront reports whether an item comes before the start of what was asked for.
func (q *ItemQuery) inFront(i *objects.Item) bool {
	from := q.Asked.From
	if from == nil {
		return false
	}
	order := cmp.Or(cmp.Compare(i.Index, from.Index), objects.CompareKeys(i.Key, from.Key))
	if q.Asked.Desc {
		order = -order
	}
	return order < 0 || order == 0 && q.Asked.Exclusive
}

// ParseItemKey reads the index of a list's item, or the key of a map's.
func ParseItemKey(kind objects.Kind, text string) (fsm.ItemKey, error) {
	if kind == objects.KindMap {
		return fsm.ItemKey{Key: text}, nil
	}
	index, err := ParseWhole(text)
	if err != nil {
		return fsm.ItemKey{}, objects.ErrIndex
	}
	return fsm.ItemKey{Index: index}, nil
}

// ParseWhole reads a whole number from 0 on: digits only. One that is too large
// is as large as can be.
func ParseWhole(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return n, nil
	}
	return n, err
}

// PageToken is a position in the order of one collection. It stays right when
// entries come and go, says the same on every node, and is enough to turn pages
// by: the next page is as long as the first was asked for, and the collection
// begins where it began.
type PageToken struct {
	text     string
	back     bool   // the page is the one in front of the position; else the one behind it
	desc     bool   // the collection is read backwards
	size     int    // of a page
	start    Start  // of the collection, as it was asked for
	tag      string // binds it to its collection, order and start
	position string
}

// String returns the token as the request had it.
func (t *PageToken) String() string { return t.text }

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
func (t PageToken) encode() string {
	b := make([]byte, 0, tagAt+len(t.tag)+binary.MaxVarintLen16+len(t.start.From)+len(t.position))
	b = append(b, letter(t.back, 'b', 'a'), letter(t.desc, 'd', 'a'), letter(t.start.Exclusive, 'x', 'i'), byte(t.size))
	b = append(b, t.tag...)
	b = binary.AppendUvarint(b, uint64(len(t.start.From)))
	b = append(append(b, t.start.From...), t.position...)
	return base64.RawURLEncoding.EncodeToString(b)
}

func letter(is bool, yes, no byte) byte {
	if is {
		return yes
	}
	return no
}

// ParsePageToken reads what encode made. The tag is checked when the
// collection has been read.
func ParsePageToken(text string) (*PageToken, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) <= tagAt+tagLength || strings.ContainsAny(text, "\r\n") {
		return nil, objects.ErrPageToken
	}
	t := &PageToken{text: text, back: b[0] == 'b', desc: b[1] == 'd', size: int(b[sizeAt]), tag: string(b[tagAt : tagAt+tagLength])}
	rest := b[tagAt+tagLength:]
	length, n := binary.Uvarint(rest)
	if n <= 0 || length >= uint64(len(rest)-n) { // a position has at least one byte
		return nil, objects.ErrPageToken
	}
	rest = rest[n:]
	t.start = Start{From: string(rest[:length]), Exclusive: b[boundsAt] == 'x'}
	t.position = string(rest[length:])
	if t.encode() != text || t.size == 0 || t.size > objects.MaxPageSize {
		return nil, objects.ErrPageToken
	}
	return t, nil
}

// tagOf binds a position to a collection, to an order of it, and to where it
// begins.
func tagOf(of Collection, desc bool, begin Start, position string) string {
	b := make([]byte, 0, 128)
	b = append(append(b, of.Name...), 0)
	b = append(b, of.Of[:]...)
	b = strconv.AppendBool(b, desc)
	b = strconv.AppendBool(b, begin.Exclusive)
	b = strconv.AppendQuote(b, begin.From)
	b = append(b, position...)
	sum := sha256.Sum256(b)
	return string(sum[:tagLength])
}

// NumberPosition is the position of what is ordered by number.
func NumberPosition(n uint64) string {
	return string(binary.BigEndian.AppendUint64(nil, n))
}

func decodeNumber(position string) (uint64, error) {
	if len(position) != 8 {
		return 0, objects.ErrPageToken
	}
	return binary.BigEndian.Uint64([]byte(position)), nil
}

// ItemPosition is the place of an item in its collection: the key of a map's,
// the index of a list's.
func ItemPosition(key fsm.ItemKey) string {
	if key.Key != "" {
		return key.Key
	}
	return NumberPosition(key.Index)
}

func decodeItem(kind objects.Kind, position string) (fsm.ItemKey, error) {
	if kind == objects.KindMap {
		return fsm.ItemKey{Key: position}, nil
	}
	index, err := decodeNumber(position)
	return fsm.ItemKey{Index: index}, err
}
