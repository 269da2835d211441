package api

import (
	"context"

	"lockstep/fsm"
	"lockstep/objects"
)

// WriteItem creates or changes an item of a list or map, as the mode says, and
// returns it complete with its data.
func (a *API) WriteItem(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, w ItemWrite) (Written, error) {
	op, err := writeCommand(kind, ref, w)
	if err != nil {
		return Written{}, a.Refuse(ctx, c, kind, ref, objects.Write, err)
	}
	op.KeepData = c.KeepData && c.Key != ""
	var command fsm.Op = op
	if w.Hold != nil {
		if command, err = w.Hold.held(op); err != nil {
			return Written{}, a.Refuse(ctx, c, kind, ref, objects.Write, err)
		}
	}
	result, err := a.propose(ctx, c, command)
	if err != nil {
		return Written{}, err
	}
	written := Written{Object: result.Object, Item: result.Item, Created: result.Created}
	switch {
	case op.Data != nil:
		written.Item = itemWithData(result.Item, op.Data)
	case result.Item.Data == nil:
		written.Item, err = a.completeItem(ctx, result.Object, result.Item)
	}
	return written, err
}

func writeCommand(kind objects.Kind, ref fsm.Ref, w ItemWrite) (*fsm.WriteItem, error) {
	op := &fsm.WriteItem{
		Kind: kind, Object: ref, Item: w.Key, Mode: w.Mode,
		TTL: w.TTL, CollectionTTL: w.CollectionTTL, Match: w.Match,
	}
	if err := validateKey(kind, w); err != nil {
		return nil, err
	}
	makes := w.Mode == fsm.AppendItem || w.Mode == fsm.AddItem
	switch {
	case w.Data != nil || makes:
		data, err := requiredData(w.Data, kind)
		if err != nil {
			return nil, err
		}
		op.Data = data
	case w.TTL == nil:
		return nil, objects.ErrNothingToDo
	}
	return op, validateTTLs(w.TTL, w.CollectionTTL)
}

// validateKey checks the key of a map's item. One that could not have been made
// is the error of a key where the write would make it, and of a missing item
// where it must exist.
func validateKey(kind objects.Kind, w ItemWrite) error {
	if kind != objects.KindMap {
		return nil
	}
	err := objects.ValidateKey(w.Key.Key)
	if err != nil && w.Mode == fsm.UpdateItem {
		return objects.ErrMapItemGone
	}
	return err
}

// completeItem is complete for items.
func (a *API) completeItem(ctx context.Context, o *objects.Object, i *objects.Item) (*objects.Item, error) {
	view, err := a.read(ctx, free)
	if err != nil {
		return nil, err
	}
	now, ok := view.Item(o, fsm.ItemKey{Index: i.Index, Key: i.Key})
	if !ok {
		return i, nil
	}
	return itemWithData(i, now.Data), nil
}

// RemoveItem removes an item. It returns the item without its data and with the
// event id and time of the removal.
func (a *API) RemoveItem(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, key fsm.ItemKey, match objects.Precondition) (Written, error) {
	if kind == objects.KindMap && objects.ValidateKey(key.Key) != nil {
		return Written{}, a.Refuse(ctx, c, kind, ref, objects.Write, objects.ErrMapItemGone)
	}
	result, err := a.propose(ctx, c, &fsm.RemoveItem{Kind: kind, Object: ref, Item: key, Match: match})
	if err != nil {
		return Written{}, err
	}
	return Written{Object: result.Object, Item: result.Item}, nil
}

// FetchItem finds one item of a list or map that the caller may read. The read
// is charged to the list or map.
func (a *API) FetchItem(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, key fsm.ItemKey) (Found, *objects.Item, error) {
	found, err := a.FetchObject(ctx, c, kind, ref)
	if err != nil {
		return Found{}, nil, err
	}
	i, ok := found.View.Item(found.Object, key)
	if !ok {
		return Found{}, nil, objects.ErrItemGone(kind)
	}
	return found, i, nil
}

// ListItems returns a stretch of the items of a list or map that the caller may
// read. The read is charged to the list or map, whatever the number of items.
func (a *API) ListItems(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, r fsm.Range) (ItemPage, error) {
	found, err := a.FetchObject(ctx, c, kind, ref)
	if err != nil {
		return ItemPage{}, err
	}
	asked := r.Limit
	r.Limit++
	page := ItemPage{Found: found, Items: found.View.Items(found.Object, r)}
	if len(page.Items) > asked {
		page.Items, page.After = page.Items[:asked], true
	}
	page.Before = len(found.View.Items(found.Object, behind(page.Items, r))) > 0
	return page, nil
}

// behind is the range that holds one item of those before a page.
func behind(page []*objects.Item, r fsm.Range) fsm.Range {
	back := fsm.Range{Desc: !r.Desc, Limit: 1}
	if len(page) == 0 {
		// Either there is nothing at From, or just that was left out.
		back.From = r.From
		return back
	}
	back.From = &fsm.ItemKey{Index: page[0].Index, Key: page[0].Key}
	back.Exclusive = true
	return back
}

func itemWithData(i *objects.Item, data []byte) *objects.Item {
	full := *i
	full.Data = data
	return &full
}
