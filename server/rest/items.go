package rest

import (
	"cmp"
	"net/http"
	"slices"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/resource"
)

func (q *request) createItem() (answer, error) {
	w := api.ItemWrite{Mode: fsm.AppendItem}
	if q.kind == objects.KindMap {
		w.Mode = fsm.AddItem
		w.Key.Key = q.params.get("Key")
	}
	return q.writeItem(http.StatusCreated, w)
}

func (q *request) updateItem() (answer, error) {
	w := api.ItemWrite{Mode: fsm.UpdateItem}
	var err error
	if w.Key, w.Match, err = q.itemAddress(); err != nil {
		return answer{}, q.refuse(err)
	}
	return q.writeItem(http.StatusOK, w)
}

func (q *request) writeItem(status int, w api.ItemWrite) (answer, error) {
	w.Data = q.params.data()
	var err error
	if w.TTL, err = q.params.ttl("ItemTtl", "Ttl"); err != nil {
		return answer{}, q.refuse(err)
	}
	if w.CollectionTTL, err = q.params.ttl("CollectionTtl"); err != nil {
		return answer{}, q.refuse(err)
	}
	written, err := q.api.WriteItem(q.ctx, q.caller, q.kind, q.ref(), w)
	if err != nil {
		return answer{}, err
	}
	return q.itemAnswer(status, written.Object, written.Item), nil
}

func (q *request) fetchItem() (answer, error) {
	key, err := q.itemKey(q.key)
	if err != nil {
		return answer{}, q.refuse(err)
	}
	found, i, err := q.api.FetchItem(q.ctx, q.caller, q.kind, q.ref(), key)
	if err != nil {
		return answer{}, err
	}
	return q.itemAnswer(http.StatusOK, found.Object, i), nil
}

func (q *request) removeItem() (answer, error) {
	key, match, err := q.itemAddress()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	_, err = q.api.RemoveItem(q.ctx, q.caller, q.kind, q.ref(), key, match)
	return removed, err
}

func (q *request) itemAnswer(status int, o *objects.Object, i *objects.Item) answer {
	body := q.encoder.Item(make([]byte, 0, 768+len(i.Data)), o, i, resource.WithData)
	return tagged(status, i.Revision, body)
}

// itemAddress reads which item, and which revision of it, a request is about.
func (q *request) itemAddress() (key fsm.ItemKey, match objects.Precondition, err error) {
	if key, err = q.itemKey(q.key); err != nil {
		return key, match, err
	}
	match, err = objects.ParseIfMatch(q.ifMatch)
	return key, match, err
}

func (q *request) itemKey(text string) (fsm.ItemKey, error) {
	if q.kind == objects.KindMap {
		return fsm.ItemKey{Key: text}, nil
	}
	index, err := parseWhole(text)
	if err != nil {
		return fsm.ItemKey{}, objects.ErrIndex
	}
	return fsm.ItemKey{Index: index}, nil
}

func (q *request) listItems() (answer, error) {
	query, err := q.itemQuery()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	found, err := q.api.QueryItems(q.ctx, q.caller, q.kind, q.ref(), query.reading)
	if err != nil {
		return answer{}, err
	}
	entries, more := query.arrange(found)
	page := pageOf[*objects.Item]{
		paging: query.paging, key: "items", of: found.Object.SID, entries: entries, more: more,
		position: itemPosition,
		write:    func(b []byte, i *objects.Item) []byte { return q.encoder.Item(b, found.Object, i, resource.WithData) },
	}
	return page.answer(q)
}

// itemQuery is a request for a page of items.
type itemQuery struct {
	paging
	asked   fsm.Range // the whole of what was asked for
	reading fsm.Range // the page of it; towards the start when turning back
}

func (q *request) itemQuery() (itemQuery, error) {
	p, err := q.paging()
	if err != nil {
		return itemQuery{}, err
	}
	query := itemQuery{paging: p}
	switch order := q.params.get("Order"); order {
	case "":
	case "asc", "desc":
		query.desc = order == "desc"
	default:
		return itemQuery{}, objects.ErrOrder
	}
	query.asked.Desc = query.desc
	switch bounds := q.params.get("Bounds"); bounds {
	case "":
	case "inclusive", "exclusive":
		query.start.exclusive = bounds == "exclusive"
	default:
		return itemQuery{}, objects.ErrBounds
	}
	query.start.from = cmp.Or(q.params.get("From"), query.start.from)
	query.asked.Exclusive = query.start.exclusive
	if query.start.from != "" {
		key, err := q.itemKey(query.start.from)
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
		key, err := q.decodeItemPosition(p.token.position)
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

func (q *request) decodeItemPosition(position string) (fsm.ItemKey, error) {
	if q.kind == objects.KindMap {
		return fsm.ItemKey{Key: position}, nil
	}
	index, err := decodeNumber(position)
	return fsm.ItemKey{Index: index}, err
}
