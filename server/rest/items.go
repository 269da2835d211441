package rest

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/resource"
)

func createItem(ctx context.Context, c *call) (answer, error) {
	w := api.ItemWrite{Mode: fsm.AppendItem}
	if c.kind == objects.KindMap {
		w.Mode = fsm.AddItem
		w.Key.Key = c.params.get("Key")
	}
	return writeItem(ctx, c, http.StatusCreated, w)
}

func updateItem(ctx context.Context, c *call) (answer, error) {
	w := api.ItemWrite{Mode: fsm.UpdateItem}
	var err error
	if w.Key, w.Match, err = c.itemAddress(); err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	return writeItem(ctx, c, http.StatusOK, w)
}

func writeItem(ctx context.Context, c *call, status int, w api.ItemWrite) (answer, error) {
	w.Data = c.params.data()
	var err error
	if w.TTL, err = c.params.ttl("ItemTtl", "Ttl"); err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	if w.CollectionTTL, err = c.params.ttl("CollectionTtl"); err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	written, err := c.api.WriteItem(ctx, c.caller, c.kind, c.ref(), w)
	if err != nil {
		return answer{}, err
	}
	return c.itemAnswer(status, written.Object, written.Item), nil
}

func fetchItem(ctx context.Context, c *call) (answer, error) {
	key, err := c.itemKey(c.key)
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	found, i, err := c.api.FetchItem(ctx, c.caller, c.kind, c.ref(), key)
	if err != nil {
		return answer{}, err
	}
	return c.itemAnswer(http.StatusOK, found.Object, i), nil
}

func removeItem(ctx context.Context, c *call) (answer, error) {
	key, match, err := c.itemAddress()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	_, err = c.api.RemoveItem(ctx, c.caller, c.kind, c.ref(), key, match)
	return removed, err
}

func (c *call) itemAnswer(status int, o *objects.Object, i *objects.Item) answer {
	body := c.encoder.Item(make([]byte, 0, 768+len(i.Data)), o, i, resource.WithData)
	return tagged(status, i.Revision, body)
}

// itemAddress reads which item, and which revision of it, a request is about.
func (c *call) itemAddress() (key fsm.ItemKey, match objects.Precondition, err error) {
	if key, err = c.itemKey(c.key); err != nil {
		return key, match, err
	}
	match, err = objects.ParseIfMatch(c.ifMatch)
	return key, match, err
}

func (c *call) itemKey(text string) (fsm.ItemKey, error) {
	if c.kind == objects.KindMap {
		return fsm.ItemKey{Key: text}, nil
	}
	index, err := parseWhole(text)
	if err != nil {
		return fsm.ItemKey{}, objects.ErrIndex
	}
	return fsm.ItemKey{Index: index}, nil
}

func listItems(ctx context.Context, c *call) (answer, error) {
	query, err := c.itemQuery()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	found, err := c.api.ListItems(ctx, c.caller, c.kind, c.ref(), query.reading)
	if err != nil {
		return answer{}, err
	}
	entries, more := query.arrange(found)
	page := pageOf[*objects.Item]{
		paging: query.paging, key: "items", of: found.Object.SID, entries: entries, more: more,
		position: itemPosition,
		write:    func(b []byte, i *objects.Item) []byte { return c.encoder.Item(b, found.Object, i, resource.WithData) },
	}
	return page.answer(c)
}

// itemQuery is a request for a page of items.
type itemQuery struct {
	paging
	asked   fsm.Range // the whole of what was asked for
	reading fsm.Range // the page of it; towards the start when turning back
}

func (c *call) itemQuery() (itemQuery, error) {
	p, err := c.paging()
	if err != nil {
		return itemQuery{}, err
	}
	query := itemQuery{paging: p}
	switch order := c.params.get("Order"); order {
	case "":
	case "asc", "desc":
		query.desc = order == "desc"
	default:
		return itemQuery{}, objects.ErrOrder
	}
	query.asked.Desc = query.desc
	switch bounds := c.params.get("Bounds"); bounds {
	case "":
	case "inclusive", "exclusive":
		query.start.exclusive = bounds == "exclusive"
	default:
		return itemQuery{}, objects.ErrBounds
	}
	query.start.from = cmp.Or(c.params.get("From"), query.start.from)
	query.asked.Exclusive = query.start.exclusive
	if query.start.from != "" {
		key, err := c.itemKey(query.start.from)
		if err != nil {
			return itemQuery{}, err
		}
		query.asked.From = &key
	}
	query.reading = query.asked
	query.reading.Limit = p.size
	if p.back() {
		query.reading.Limit++ // what lies in front of the start does not count as more
	}
	if p.token != nil {
		key, err := c.decodeItemPosition(p.token.position)
		if err != nil {
			return itemQuery{}, err
		}
		query.reading.From, query.reading.Exclusive = &key, true
		query.reading.Desc = query.asked.Desc != p.back()
	}
	return query, nil
}

// arrange puts what was read into the order that was asked for, without what
// lies in front of the start. more reports whether there is more in the direction
// of reading.
func (query *itemQuery) arrange(page api.ItemPage) (entries []*objects.Item, more bool) {
	entries, more = page.Items, page.After
	if !query.back() {
		return entries, more
	}
	if n := slices.IndexFunc(entries, query.inFront); n >= 0 {
		entries = entries[:n]
	}
	if more = len(entries) > query.size; more {
		entries = entries[:query.size]
	}
	slices.Reverse(entries)
	return entries, more
}

// inFront reports whether an item comes before the start of what was asked for.
func (query *itemQuery) inFront(i *objects.Item) bool {
	from := query.asked.From
	if from == nil {
		return false
	}
	order := cmp.Or(cmp.Compare(i.Index, from.Index), objects.CompareKeys(i.Key, from.Key))
	if query.asked.Desc {
		order = -order
	}
	return order < 0 || order == 0 && query.asked.Exclusive
}

// itemPosition is the place of an item in its collection: the key of a map's,
// the index of a list's.
func itemPosition(i *objects.Item) string {
	if i.Key != "" {
		return i.Key
	}
	return numberPosition(i.Index)
}

func (c *call) decodeItemPosition(position string) (fsm.ItemKey, error) {
	if c.kind == objects.KindMap {
		return fsm.ItemKey{Key: position}, nil
	}
	index, err := decodeNumber(position)
	return fsm.ItemKey{Index: index}, err
}
