package realtime

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/refusal"
	"lockstep/server/resource"
)

// The operations on the items of lists and maps (part 4).

// itemKey is the item that the last segment of the path names.
func (c *call) itemKey() (fsm.ItemKey, error) { return parseKey(c.kind, c.item) }

func parseKey(kind objects.Kind, text string) (fsm.ItemKey, error) {
	if kind == objects.KindMap {
		return fsm.ItemKey{Key: text}, nil
	}
	index, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return fsm.ItemKey{}, objects.ErrIndex
	}
	return fsm.ItemKey{Index: index}, nil
}

// createItem pushes to a list, or adds a key to a map, which mobile clients do.
func createItem(ctx context.Context, c *call) (answer, error) {
	b, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	write := api.ItemWrite{Mode: fsm.AppendItem, Data: b.data, TTL: b.ttl}
	if c.kind == objects.KindMap {
		if b.key == nil {
			return answer{}, objects.ErrMapItemKey
		}
		write.Mode, write.Key.Key = fsm.AddItem, *b.key
	}
	return writeItem(ctx, c, write)
}

func updateItem(ctx context.Context, c *call) (answer, error) {
	key, err := c.itemKey()
	if err != nil {
		return answer{}, err
	}
	match, err := objects.ParseIfMatch(c.Header("If-Match"))
	if err != nil {
		return answer{}, err
	}
	return changeItem(ctx, c, api.ItemWrite{Mode: fsm.UpdateItem, Key: key, Match: match})
}

// putItem creates or changes an item of a map. "If-Match: -1" asks that it does
// not exist.
func putItem(ctx context.Context, c *call) (answer, error) {
	key, err := c.itemKey()
	if err != nil {
		return answer{}, err
	}
	match := objects.Precondition{Kind: objects.MatchAbsent}
	if text := c.Header("If-Match"); text != "-1" {
		var err error
		if match, err = objects.ParseIfMatch(text); err != nil {
			return answer{}, err
		}
	}
	return changeItem(ctx, c, api.ItemWrite{Mode: fsm.PutItem, Key: key, Match: match})
}

func changeItem(ctx context.Context, c *call, write api.ItemWrite) (answer, error) {
	b, err := c.decode()
	if err != nil {
		return answer{}, err
	}
	if write.Data, write.TTL = b.data, b.ttl; b.nullData && b.ttl == nil {
		return answer{}, objects.ErrNull(c.kind)
	}
	return writeItem(ctx, c, write)
}

func writeItem(ctx context.Context, c *call, write api.ItemWrite) (answer, error) {
	w, err := c.session.api.WriteItem(ctx, c.writer(), c.kind, c.ref, write)
	if err != nil && errors.Is(err, objects.ErrMapItemExists) {
		return c.itemExists(write.Key.Key), nil
	}
	if err != nil {
		return answer{}, err
	}
	status := http.StatusOK
	if w.Created {
		status = http.StatusCreated
		c.session.made.note(at(w.Object, w.Item.EventID))
	}
	after := at(w.Object, w.Item.EventID)
	if write.Data != nil {
		after = before(w.Object, w.Item.EventID)
	} // else the event is an earlier write's: a TTL has none
	return answer{
		status: status, after: after,
		body: func(b []byte) []byte { return c.session.encoder.Item(b, w.Object, w.Item, resource.WithoutData) },
	}, nil
}

// itemExists refuses to add an item and says where the one is that exists.
// Clients before 0.7 go on with that.
func (c *call) itemExists(key string) answer {
	e := objects.ErrMapItemExists
	return answer{status: e.Status, body: func(b []byte) []byte {
		b = refusal.Append(b, e)
		b = append(b[:len(b)-1], `,"links":{"item":"`...)
		b = append(b, c.session.encoder.Origin...)
		for _, segment := range append(slices.Clone(c.Path), key) {
			b = append(b, '/')
			b = append(b, url.PathEscape(segment)...)
		}
		return append(b, `"}}`...)
	}}
}

// removeItem answers with the item, which the client reads. It shall not hear
// of the removal again.
func removeItem(ctx context.Context, c *call) (answer, error) {
	key, err := c.itemKey()
	if err != nil {
		return answer{}, err
	}
	match, err := objects.ParseIfMatch(c.Header("If-Match"))
	if err != nil {
		return answer{}, err
	}
	w, err := c.session.api.RemoveItem(ctx, c.writer(), c.kind, c.ref, key, match)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: http.StatusOK, body: func(b []byte) []byte { return c.session.encoder.Item(b, w.Object, w.Item, resource.WithoutData) }}
	a.mute.SID, a.mute.ID = w.Object.SID, w.Item.EventID
	a.after = before(w.Object, w.Item.EventID)
	return a, nil
}

func fetchItem(ctx context.Context, c *call) (answer, error) {
	key, err := c.itemKey()
	if err != nil {
		return answer{}, err
	}
	found, item, err := c.session.api.FetchItem(ctx, c.session.reader(), c.kind, c.ref, key)
	if err != nil {
		return answer{}, err
	}
	c.session.fetched.note(found.Object)
	return answer{
		status: http.StatusOK, after: at(found.Object, item.EventID),
		body: func(b []byte) []byte { return c.session.encoder.Item(b, found.Object, item, resource.WithData) },
	}, nil
}

// listItems returns a page of items, or by Index or Key at most one.
func listItems(ctx context.Context, c *call) (answer, error) {
	p, err := c.page()
	if err != nil {
		return answer{}, err
	}
	page, err := c.session.api.ListItems(ctx, c.session.reader(), c.kind, c.ref, p.Range)
	if err != nil {
		return answer{}, err
	}
	c.session.fetched.note(page.Object)
	items := page.Items
	if p.one && len(items) > 0 && (items[0].Index != p.From.Index || items[0].Key != p.From.Key) {
		items = nil
	}
	if p.back {
		slices.Reverse(items)
		page.Before, page.After = page.After, page.Before
		p.Desc = !p.Desc
	}
	return answer{status: http.StatusOK, after: at(page.Object, latest(items)), body: func(b []byte) []byte {
		b = c.appendItems(append(b, `{"items":`...), page.Object, items)
		first, last := edges(items, p.From)
		b = append(b, `,"meta":{"previous_token":`...)
		b = p.appendToken(b, page.Before, tokenBack, first)
		b = append(b, `,"next_token":`...)
		b = p.appendToken(b, page.After, tokenForth, last)
		return append(b, "}}"...)
	}}, nil
}

// latest returns the last event of some items.
func latest(items []*objects.Item) (event objects.EventID) {
	for _, i := range items {
		event = max(event, i.EventID)
	}
	return event
}

func (c *call) appendItems(b []byte, o *objects.Object, items []*objects.Item) []byte {
	b = append(b, '[')
	for n, i := range items {
		if n > 0 {
			b = append(b, ',')
		}
		b = c.session.encoder.Item(b, o, i, resource.WithData)
	}
	return append(b, ']')
}

// page is what a query asks for.
type page struct {
	fsm.Range
	one  bool // the item at From, if there is one
	back bool // the range goes against the order of the answer
}

func (c *call) page() (page, error) {
	p := page{Range: fsm.Range{Limit: objects.DefaultPageSize}}
	if token := c.Params["PageToken"]; token != "" {
		return c.continued(token)
	}
	from, given := c.Params["From"]
	if key, ok := c.Params[keyParameter[c.kind]]; ok {
		from, given, p.one = key, true, true
	}
	if c.Params["PageSize"] == "NaN" && c.kind == objects.KindList {
		// So the official client asks for the item at index 0.
		from, given, p.one = "0", true, true
	}
	if given {
		key, err := parseKey(c.kind, from)
		if err != nil {
			return p, err
		}
		p.From = &key
	}
	if p.one {
		p.Limit = 1
		return p, nil
	}
	if err := c.pageSize(&p); err != nil {
		return p, err
	}
	switch c.Params["Direction"] {
	case "", "forward":
	case "backward":
		p.Desc = true
	default:
		return p, objects.ErrDirection
	}
	switch c.Params["Order"] {
	case "":
	case "asc":
		p.Desc = false
	case "desc":
		p.Desc = true
	default:
		return p, objects.ErrOrder
	}
	switch c.Params["Bounds"] {
	case "", "inclusive":
	case "exclusive":
		p.Exclusive = true
	default:
		return p, objects.ErrBounds
	}
	return p, nil
}

var keyParameter = map[objects.Kind]string{objects.KindList: "Index", objects.KindMap: "Key"}

func (c *call) pageSize(p *page) error {
	size := c.Params["PageSize"]
	if size == "" {
		return nil
	}
	n, err := strconv.Atoi(size)
	if err != nil || n < 1 {
		return objects.ErrPageSize
	}
	p.Limit = min(n, objects.MaxPageSize)
	return nil
}

// A page token names the side of a page on which to go on, the order and the
// size of pages, and the item at the edge: "na50:key". Clients before 3.3 turn
// pages by it alone; newer ones go on by From, and ask only whether there is one.

const (
	tokenForth, tokenBack = "n", "p"
	tokenAsc, tokenDesc   = "a", "d"
)

// edges returns the first and the last key of a page: where it has no items, the
// one that was asked for.
func edges(items []*objects.Item, from *fsm.ItemKey) (first, last fsm.ItemKey) {
	if n := len(items); n > 0 {
		return fsm.ItemKey{Index: items[0].Index, Key: items[0].Key}, fsm.ItemKey{Index: items[n-1].Index, Key: items[n-1].Key}
	}
	if from != nil {
		return *from, *from
	}
	return first, last
}

// appendToken appends a token if there are items on that side, else null.
func (p *page) appendToken(b []byte, exists bool, side string, edge fsm.ItemKey) []byte {
	if !exists {
		return append(b, "null"...)
	}
	order, key := tokenAsc, edge.Key
	if p.Desc {
		order = tokenDesc
	}
	if key == "" {
		key = strconv.FormatUint(edge.Index, 10)
	}
	b = append(b, '"')
	b = base64.RawURLEncoding.AppendEncode(b, []byte(side+order+strconv.Itoa(p.Limit)+":"+key))
	return append(b, '"')
}

// continued is the page that a token leads to.
func (c *call) continued(token string) (page, error) {
	p := page{Range: fsm.Range{Exclusive: true}}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(text) < 3 || !strings.ContainsRune("np", rune(text[0])) || !strings.ContainsRune("ad", rune(text[1])) {
		return p, objects.ErrPageToken
	}
	size, edge, _ := strings.Cut(string(text[2:]), ":")
	if p.Limit, err = strconv.Atoi(size); err != nil || p.Limit < 1 || p.Limit > objects.MaxPageSize {
		return p, objects.ErrPageToken
	}
	key, err := parseKey(c.kind, edge)
	if err != nil {
		return p, objects.ErrPageToken
	}
	p.From = &key
	p.back = string(text[:1]) == tokenBack
	p.Desc = (string(text[1:2]) == tokenDesc) != p.back
	return p, c.pageSize(&p)
}
