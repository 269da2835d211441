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

// itemHandler carries out an operation on one item.
type itemHandler func(s *session, ctx context.Context, r *request, key fsm.ItemKey) (answer, error)

// onItem addresses an item by the last segment of a path.
func onItem(segment string, h itemHandler) handler {
	return func(s *session, ctx context.Context, r *request) (answer, error) {
		key, err := parseKey(r.kind, segment)
		if err != nil {
			return answer{}, err
		}
		return h(s, ctx, r, key)
	}
}

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

// addItem pushes to a list, or adds a key to a map, which mobile clients do.
func addItem(s *session, ctx context.Context, r *request) (answer, error) {
	b, err := r.decode()
	if err != nil {
		return answer{}, err
	}
	write := api.ItemWrite{Mode: fsm.AppendItem, Data: b.data, TTL: b.ttl}
	if r.kind == objects.KindMap {
		if b.key == nil {
			return answer{}, objects.ErrMapItemKey
		}
		write.Mode, write.Key.Key = fsm.AddItem, *b.key
	}
	return s.writeItem(ctx, r, write)
}

func updateItem(s *session, ctx context.Context, r *request, key fsm.ItemKey) (answer, error) {
	match, err := objects.ParseIfMatch(r.Header("If-Match"))
	if err != nil {
		return answer{}, err
	}
	return s.changeItem(ctx, r, api.ItemWrite{Mode: fsm.UpdateItem, Key: key, Match: match})
}

// putItem creates or changes an item of a map. "If-Match: -1" asks that it does
// not exist.
func putItem(s *session, ctx context.Context, r *request, key fsm.ItemKey) (answer, error) {
	match := objects.Precondition{Kind: objects.MatchAbsent}
	if text := r.Header("If-Match"); text != "-1" {
		var err error
		if match, err = objects.ParseIfMatch(text); err != nil {
			return answer{}, err
		}
	}
	return s.changeItem(ctx, r, api.ItemWrite{Mode: fsm.PutItem, Key: key, Match: match})
}

func (s *session) changeItem(ctx context.Context, r *request, write api.ItemWrite) (answer, error) {
	b, err := r.decode()
	if err != nil {
		return answer{}, err
	}
	if write.Data, write.TTL = b.data, b.ttl; b.nullData && b.ttl == nil {
		return answer{}, objects.ErrNull(r.kind)
	}
	return s.writeItem(ctx, r, write)
}

func (s *session) writeItem(ctx context.Context, r *request, write api.ItemWrite) (answer, error) {
	w, err := s.server.config.API.WriteItem(ctx, s.writer(r), r.kind, r.ref, write)
	if err != nil && errors.Is(err, objects.ErrMapItemExists) {
		return s.itemExists(r, write.Key.Key), nil
	}
	if err != nil {
		return answer{}, err
	}
	status := http.StatusOK
	if w.Created {
		status = http.StatusCreated
		s.made.note(at(w.Object, w.Item.EventID))
	}
	return answer{
		status: status, after: before(w.Object, w.Item.EventID, write.Data == nil),
		body: func(b []byte) []byte { return s.encoder.Item(b, w.Object, w.Item, resource.WithoutData) },
	}, nil
}

// itemExists refuses to add an item and says where the one is that exists.
// Clients before 0.7 go on with that.
func (s *session) itemExists(r *request, key string) answer {
	e := objects.ErrMapItemExists
	return answer{status: e.Status, body: func(b []byte) []byte {
		b = refusal.Append(b, e)
		b = append(b[:len(b)-1], `,"links":{"item":"`...)
		b = append(b, s.encoder.Origin...)
		for _, segment := range append(slices.Clone(r.Path), key) {
			b = append(b, '/')
			b = append(b, url.PathEscape(segment)...)
		}
		return append(b, `"}}`...)
	}}
}

// removeItem answers with the item, which the client reads. It shall not hear
// of the removal again.
func removeItem(s *session, ctx context.Context, r *request, key fsm.ItemKey) (answer, error) {
	match, err := objects.ParseIfMatch(r.Header("If-Match"))
	if err != nil {
		return answer{}, err
	}
	w, err := s.server.config.API.RemoveItem(ctx, s.writer(r), r.kind, r.ref, key, match)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: http.StatusOK, body: func(b []byte) []byte { return s.encoder.Item(b, w.Object, w.Item, resource.WithoutData) }}
	a.mute.SID, a.mute.ID = w.Object.SID, w.Item.EventID
	a.after = before(w.Object, w.Item.EventID, false)
	return a, nil
}

func fetchItem(s *session, ctx context.Context, r *request, key fsm.ItemKey) (answer, error) {
	found, item, err := s.server.config.API.FetchItem(ctx, s.reader(), r.kind, r.ref, key)
	if err != nil {
		return answer{}, err
	}
	s.fetched.note(found.Object)
	return answer{
		status: http.StatusOK, after: at(found.Object, item.EventID),
		body: func(b []byte) []byte { return s.encoder.Item(b, found.Object, item, resource.WithData) },
	}, nil
}

// queryItems returns a page of items, or by Index or Key at most one.
func queryItems(s *session, ctx context.Context, r *request) (answer, error) {
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	page, err := s.server.config.API.QueryItems(ctx, s.reader(), r.kind, r.ref, p.Range)
	if err != nil {
		return answer{}, err
	}
	s.fetched.note(page.Object)
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
		b = s.appendItems(append(b, `{"items":`...), page.Object, items)
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

func (s *session) appendItems(b []byte, o *objects.Object, items []*objects.Item) []byte {
	b = append(b, '[')
	for n, i := range items {
		if n > 0 {
			b = append(b, ',')
		}
		b = s.encoder.Item(b, o, i, resource.WithData)
	}
	return append(b, ']')
}

// page is what a query asks for.
type page struct {
	fsm.Range
	one  bool // the item at From, if there is one
	back bool // the range goes against the order of the answer
}

func (r *request) page() (page, error) {
	p := page{Range: fsm.Range{Limit: objects.DefaultPageSize}}
	if token := r.Params["PageToken"]; token != "" {
		return r.continued(token)
	}
	from, given := r.Params["From"]
	if key, ok := r.Params[keyParameter[r.kind]]; ok {
		from, given, p.one = key, true, true
	}
	if r.Params["PageSize"] == "NaN" && r.kind == objects.KindList {
		// So the official client asks for the item at index 0.
		from, given, p.one = "0", true, true
	}
	if given {
		key, err := parseKey(r.kind, from)
		if err != nil {
			return p, err
		}
		p.From = &key
	}
	if p.one {
		p.Limit = 1
		return p, nil
	}
	if err := r.pageSize(&p); err != nil {
		return p, err
	}
	switch r.Params["Direction"] {
	case "", "forward":
	case "backward":
		p.Desc = true
	default:
		return p, objects.ErrDirection
	}
	switch r.Params["Order"] {
	case "":
	case "asc":
		p.Desc = false
	case "desc":
		p.Desc = true
	default:
		return p, objects.ErrOrder
	}
	switch r.Params["Bounds"] {
	case "", "inclusive":
	case "exclusive":
		p.Exclusive = true
	default:
		return p, objects.ErrBounds
	}
	return p, nil
}

var keyParameter = map[objects.Kind]string{objects.KindList: "Index", objects.KindMap: "Key"}

func (r *request) pageSize(p *page) error {
	size := r.Params["PageSize"]
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
func (r *request) continued(token string) (page, error) {
	p := page{Range: fsm.Range{Exclusive: true}}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(text) < 3 || !strings.ContainsRune("np", rune(text[0])) || !strings.ContainsRune("ad", rune(text[1])) {
		return p, objects.ErrPageToken
	}
	size, edge, _ := strings.Cut(string(text[2:]), ":")
	if p.Limit, err = strconv.Atoi(size); err != nil || p.Limit < 1 || p.Limit > objects.MaxPageSize {
		return p, objects.ErrPageToken
	}
	key, err := parseKey(r.kind, edge)
	if err != nil {
		return p, objects.ErrPageToken
	}
	p.From = &key
	p.back = string(text[:1]) == tokenBack
	p.Desc = (string(text[1:2]) == tokenDesc) != p.back
	return p, r.pageSize(&p)
}
