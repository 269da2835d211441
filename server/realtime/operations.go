package realtime

import (
	"strconv"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
)

// The operations on objects (part 4). Answers to writes carry no data: clients
// fill in what they sent.

func (s *session) create(r *request, kind objects.Kind) {
	b, err := r.decode()
	if err == nil && b.nullData && kind == objects.KindDocument {
		err = objects.ErrNull(kind)
	}
	if err != nil {
		s.fail(r, err)
		return
	}
	create := api.Create{Name: b.Name, TTL: b.ttl}
	switch kind {
	case objects.KindDocument:
		create.Data = b.Data
	case objects.KindList:
		create.Data = b.Context
	}
	o, err := s.server.config.API.CreateObject(r.ctx, s.writer(r), kind, create)
	if err != nil {
		s.fail(r, err)
		return
	}
	s.reply(r, 201, s.form.Object(nil, o, false))
}

func (s *session) fetch(r *request, kind objects.Kind, ref fsm.Ref) {
	found, err := s.server.config.API.FetchObject(r.ctx, s.caller(), kind, ref)
	if err != nil {
		s.fail(r, err)
		return
	}
	out := s.form.Object(nil, found.Object, true)
	if kind == objects.KindMap && r.params["Include"] == "items" {
		s.note(found.Object)
		items := found.View.Items(found.Object, fsm.Range{Limit: objects.DefaultPageSize})
		out = append(out[:len(out)-1], `,"items":`...)
		out = append(s.appendItems(out, found.Object, items), '}')
	}
	s.reply(r, 200, out)
}

func (s *session) updateObject(r *request, kind objects.Kind, ref fsm.Ref) {
	b, err := r.decode()
	if err == nil && b.nullData && b.ttl == nil && kind == objects.KindDocument {
		err = objects.ErrNull(kind)
	}
	if err != nil {
		s.fail(r, err)
		return
	}
	o, err := s.server.config.API.UpdateObject(r.ctx, s.writer(r), kind, ref, api.Update{Data: b.Data, TTL: b.ttl, IfMatch: r.header("If-Match")})
	if err != nil {
		s.fail(r, err)
		return
	}
	s.reply(r, 200, s.form.Object(nil, o, false))
}

func (s *session) remove(r *request, kind objects.Kind, ref fsm.Ref) {
	if err := s.server.config.API.RemoveObject(r.ctx, s.writer(r), kind, ref); err != nil {
		s.fail(r, err)
		return
	}
	s.reply(r, 204, nil)
}

func (s *session) publish(r *request, ref fsm.Ref) {
	b, err := r.decode()
	if err != nil {
		s.fail(r, err)
		return
	}
	sid, _, err := s.server.config.API.Publish(r.ctx, s.writer(r), ref, b.Data)
	if err != nil {
		s.fail(r, err)
		return
	}
	s.reply(r, 201, append(sid.Append([]byte(`{"sid":"`)), `"}`...))
}

func (s *session) fetchContext(r *request, ref fsm.Ref) {
	found, err := s.server.config.API.FetchObject(r.ctx, s.caller(), objects.KindList, ref)
	if err != nil {
		s.fail(r, err)
		return
	}
	data := found.Object.Data
	if len(data) == 0 {
		data = objects.EmptyObject
	}
	out := append([]byte(`{"data":`), data...)
	out = append(out, `,"last_event_id":`...)
	out = strconv.AppendUint(out, uint64(found.Object.ContextEvent), 10)
	s.reply(r, 200, append(out, '}'))
}

func (s *session) addItem(r *request, kind objects.Kind, ref fsm.Ref) {
	if kind == objects.KindList {
		s.writeItem(r, kind, ref, fsm.ItemKey{}, fsm.AppendItem)
		return
	}
	b, err := r.decode()
	if err == nil && b.Key == nil {
		err = objects.ErrMapItemKey
	}
	if err == nil {
		err = objects.ValidateKey(*b.Key)
	}
	if err != nil {
		s.fail(r, err)
		return
	}
	s.writeItem(r, kind, ref, fsm.ItemKey{Key: *b.Key}, fsm.AddItem)
}

func (s *session) writeItem(r *request, kind objects.Kind, ref fsm.Ref, key fsm.ItemKey, mode fsm.WriteMode) {
	b, err := r.decode()
	if err != nil {
		s.fail(r, err)
		return
	}
	write := api.ItemWrite{Mode: mode, Key: key, Data: b.Data, TTL: b.ttl}
	if write.Match, err = precondition(r, mode); err != nil {
		s.fail(r, err)
		return
	}
	if b.Data == nil && b.ttl == nil {
		err = objects.ErrNothingToDo
		if b.nullData {
			err = objects.ErrNull(kind)
		}
		s.fail(r, err)
		return
	}
	written, err := s.server.config.API.WriteItem(r.ctx, s.writer(r), kind, ref, write)
	if err != nil {
		s.fail(r, err)
		return
	}
	status := 200
	if written.Created {
		status = 201
	}
	s.reply(r, status, s.form.Item(nil, written.Object, written.Item, false))
}

// precondition reads If-Match. On a put, -1 means that the item does not exist.
func precondition(r *request, mode fsm.WriteMode) (objects.Precondition, error) {
	text := r.header("If-Match")
	switch {
	case mode == fsm.AppendItem || mode == fsm.AddItem:
		return objects.Precondition{}, nil
	case mode == fsm.PutItem && text == "-1":
		return objects.Precondition{Kind: objects.MatchAbsent}, nil
	}
	return objects.ParseIfMatch(text)
}

func (s *session) removeItem(r *request, kind objects.Kind, ref fsm.Ref, key fsm.ItemKey) {
	match, err := objects.ParseIfMatch(r.header("If-Match"))
	if err != nil {
		s.fail(r, err)
		return
	}
	written, err := s.server.config.API.RemoveItem(r.ctx, s.writer(r), kind, ref, key, match)
	if err != nil {
		s.fail(r, err)
		return
	}
	s.mu.Lock()
	s.echo.removing(written.Object.SID, written.Item.EventID)
	s.mu.Unlock()
	s.reply(r, 200, s.form.Item(nil, written.Object, written.Item, false))
}

func (s *session) fetchItem(r *request, kind objects.Kind, ref fsm.Ref, key fsm.ItemKey) {
	found, item, err := s.server.config.API.FetchItem(r.ctx, s.caller(), kind, ref, key)
	if err != nil {
		s.fail(r, err)
		return
	}
	s.note(found.Object)
	s.reply(r, 200, s.form.Item(nil, found.Object, item, true))
}

// queryItems serves a page. The client turns pages by itself, from the last
// key it has; the tokens only say whether there is something on that side.
func (s *session) queryItems(r *request, kind objects.Kind, ref fsm.Ref) {
	stretch, one, err := r.stretch(kind)
	if err != nil {
		s.fail(r, err)
		return
	}
	page, err := s.server.config.API.QueryItems(r.ctx, s.caller(), kind, ref, stretch)
	if err != nil {
		s.fail(r, err)
		return
	}
	s.note(page.Object)
	items := page.Items
	if one {
		items = only(items, *stretch.From)
	}
	out := s.appendItems([]byte(`{"items":`), page.Object, items)
	out = append(out, `,"meta":{"previous_token":`...)
	out = appendToken(out, page.Before)
	out = append(out, `,"next_token":`...)
	out = appendToken(out, page.After)
	s.reply(r, 200, append(out, "}}"...))
}

func (s *session) appendItems(b []byte, o *objects.Object, items []*objects.Item) []byte {
	b = append(b, '[')
	for n, i := range items {
		if n > 0 {
			b = append(b, ',')
		}
		b = s.form.Item(b, o, i, true)
	}
	return append(b, ']')
}

func appendToken(b []byte, more bool) []byte {
	if more {
		return append(b, `"more"`...)
	}
	return append(b, "null"...)
}

func only(items []*objects.Item, key fsm.ItemKey) []*objects.Item {
	if len(items) > 0 && items[0].Index == key.Index && items[0].Key == key.Key {
		return items[:1]
	}
	return nil
}

// stretch reads the parameters of a query. one says that a single item was
// asked for, by Index or Key.
func (r *request) stretch(kind objects.Kind) (stretch fsm.Range, one bool, err error) {
	stretch.Limit = objects.DefaultPageSize
	from, given := r.params["From"]
	name := "Key"
	if kind == objects.KindList {
		name = "Index"
	}
	if key, ok := r.params[name]; ok {
		from, given, one = key, true, true
	}
	switch size := r.params["PageSize"]; size {
	case "":
	case "NaN":
		// What the official client sends for the item at index 0 of a list.
		from, given, one = "0", true, kind == objects.KindList
	default:
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 {
			return stretch, false, objects.ErrPageSize
		}
		stretch.Limit = min(n, objects.MaxPageSize)
	}
	if one {
		stretch.Limit = 1
	}
	if given {
		key, err := itemKey(kind, from)
		if err != nil {
			return stretch, false, err
		}
		stretch.From = &key
	}
	switch r.params["Order"] {
	case "", "asc":
	case "desc":
		stretch.Desc = !one
	default:
		return stretch, false, objects.ErrOrder
	}
	switch r.params["Bounds"] {
	case "", "inclusive":
	case "exclusive":
		stretch.Exclusive = !one
	default:
		return stretch, false, objects.ErrBounds
	}
	return stretch, one, nil
}

// configuration tells mobile clients where everything is (part 9).
func (s *session) configuration() []byte {
	base := s.form.Base
	below := base + "/v3/Services/" + s.service.SID.String()
	links := []struct{ name, url string }{
		{"subscriptions", base + "/v4/Subscriptions"},
		{"maps", below + "/Maps"}, {"map", below + "/Maps/{id}"},
		{"map_items", below + "/Maps/{mapId}/Items"}, {"map_item", below + "/Maps/{mapId}/Items/{itemId}"},
		{"lists", below + "/Lists"}, {"list", below + "/Lists/{id}"},
		{"list_items", below + "/Lists/{listId}/Items"}, {"list_item", below + "/Lists/{listId}/Items/{itemId}"},
		{"documents", below + "/Documents"}, {"document", below + "/Documents/{id}"},
		{"streams", below + "/Streams"}, {"stream", below + "/Streams/{id}"},
		{"stream_messages", below + "/Streams/{streamId}/Messages"},
		{"insights_items", below + "/Insights/{indexName}/Items"},
	}
	b := []byte(`{"links":{`)
	for i, l := range links {
		if i > 0 {
			b = append(b, ',')
		}
		b = objects.AppendString(b, l.name)
		b = append(b, ':')
		b = objects.AppendString(b, l.url)
	}
	return append(b, "}}"...)
}
