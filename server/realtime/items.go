package realtime

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/refusal"
	"lockstep/server/resource"
)

// The operations on the items of lists and maps (part 4).

// itemKey is the item that the last segment of the path names.
func (c *call) itemKey() (fsm.ItemKey, error) { return api.ParseItemKey(c.kind, c.item) }

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
	match, err := objects.ParseIfMatch(c.IfMatch)
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
	if text := c.IfMatch; text != "-1" {
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
	if write.Data != nil {
		var err error
		if write.Hold, err = c.hold(ctx); err != nil {
			return answer{}, err
		}
	}
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
	match, err := objects.ParseIfMatch(c.IfMatch)
	if err != nil {
		return answer{}, err
	}
	w, err := c.session.api.RemoveItem(ctx, c.writer(), c.kind, c.ref, key, match)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: http.StatusOK, body: func(b []byte) []byte { return c.session.encoder.Item(b, w.Object, w.Item, resource.WithoutData) }}
	a.echo.SID, a.echo.ID = w.Object.SID, w.Item.EventID
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
	q, one, err := c.itemQuery()
	if err != nil {
		return answer{}, err
	}
	page, err := c.session.api.ListItems(ctx, c.session.reader(), c.kind, c.ref, q.Reading)
	if err != nil {
		return answer{}, err
	}
	of := api.Collection{Name: "items", Of: page.Object.SID}
	if err := q.Check(of); err != nil {
		return answer{}, err
	}
	c.session.fetched.note(page.Object)
	items, more := q.Arrange(page)
	before, after := page.Before, more
	if q.Back() {
		before, after = more, page.Before
	}
	if one != nil && len(items) > 0 && keyOf(items[0]) != *one {
		items = nil
	}
	first, last := edges(items, q.Reading.From)
	q.Start = api.Start{} // a token does not bind the pages to From: clients turn back beyond it
	return answer{status: http.StatusOK, after: at(page.Object, latest(items)), body: func(b []byte) []byte {
		b = c.appendItems(append(b, `{"items":`...), page.Object, items)
		b = append(b, `,"meta":{"previous_token":`...)
		b = appendToken(b, before, q.PageBefore(of, first))
		b = append(b, `,"next_token":`...)
		b = appendToken(b, after, q.PageAfter(of, last))
		return append(b, "}}"...)
	}}, nil
}

// itemQuery reads the parameters of listItems. Clients before 3.3 turn pages by a
// token alone; newer ones go on by From, and ask only whether there is one. A key
// is that of the one item that is asked for.
func (c *call) itemQuery() (q api.ItemQuery, one *fsm.ItemKey, err error) {
	params := maps.Clone(c.Params)
	switch {
	case params["PageToken"] != "":
		params = map[string]string{"PageToken": params["PageToken"], "PageSize": params["PageSize"]}
	case params["Direction"] == "backward":
		params["Order"] = cmp.Or(params["Order"], "desc")
	case params["Direction"] != "" && params["Direction"] != "forward":
		err = objects.ErrDirection
	}
	if text, ok := c.oneItem(params); ok {
		key, err := api.ParseItemKey(c.kind, text)
		if err != nil {
			return q, nil, err
		}
		one, params = &key, map[string]string{"From": text, "PageSize": "1"}
	} else if err != nil {
		return q, nil, err
	}
	q, err = api.ParseItemQuery(c.kind, func(name string) string { return params[name] })
	return q, one, err
}

// oneItem is what names the item, if only one is asked for.
func (c *call) oneItem(params map[string]string) (text string, ok bool) {
	if c.kind == objects.KindMap {
		text, ok = params["Key"]
		return text, ok
	}
	if params["PageSize"] == "NaN" {
		return "0", true // so the official client asks for the item at index 0
	}
	text, ok = params["Index"]
	return text, ok
}

func keyOf(i *objects.Item) fsm.ItemKey { return fsm.ItemKey{Index: i.Index, Key: i.Key} }

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

// edges returns the positions of the first and the last item of a page: where it
// has none, that which was asked for.
func edges(items []*objects.Item, from *fsm.ItemKey) (first, last string) {
	if n := len(items); n > 0 {
		return api.ItemPosition(keyOf(items[0])), api.ItemPosition(keyOf(items[n-1]))
	}
	if from == nil {
		from = new(fsm.ItemKey)
	}
	return api.ItemPosition(*from), api.ItemPosition(*from)
}

// appendToken appends a token if there are items on its side, else null.
func appendToken(b []byte, exists bool, token string) []byte {
	if !exists {
		return append(b, "null"...)
	}
	return objects.AppendString(b, token)
}
