package rest

import (
	"context"
	"net/http"

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
	w.Data, w.Hold = c.params.data(), c.hold()
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
	key, err := api.ParseItemKey(c.kind, c.key)
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
	body := c.encoder.Item(c.out.body[:0], o, i, resource.WithData)
	c.out.body = body
	return tagged(status, i.Revision, body)
}

// itemAddress reads which item, and which revision of it, a request is about.
func (c *call) itemAddress() (key fsm.ItemKey, match objects.Precondition, err error) {
	if key, err = api.ParseItemKey(c.kind, c.key); err != nil {
		return key, match, err
	}
	match, err = objects.ParseIfMatch(c.ifMatch)
	return key, match, err
}

func listItems(ctx context.Context, c *call) (answer, error) {
	query, err := api.ParseItemQuery(c.kind, c.params.get)
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	found, err := c.api.ListItems(ctx, c.caller, c.kind, c.ref(), query.Reading)
	if err != nil {
		return answer{}, err
	}
	entries, more := query.Arrange(found)
	page := pageOf[*objects.Item]{
		paging: paging{query.PageQuery, c.pageNumber()}, key: "items", of: found.Object.SID, entries: entries, more: more,
		position: func(i *objects.Item) string { return api.ItemPosition(fsm.ItemKey{Index: i.Index, Key: i.Key}) },
		write:    func(b []byte, i *objects.Item) []byte { return c.encoder.Item(b, found.Object, i, resource.WithData) },
	}
	return page.answer(c)
}
