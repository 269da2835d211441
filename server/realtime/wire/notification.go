package wire

import (
	"strconv"

	"lockstep/objects"
	"lockstep/server/resource"
)

// notificationSize is how much one notification of replayed events holds,
// apart from the one that exceeds it.
const notificationSize = 32 << 10

// notificationHead is the same for all: clients acknowledge by its id, and
// nobody reads that. The message type says that events come in their order
// (part 6).
var notificationHead = append(appendHead(nil, "notification", "NT"), `,"message_type":"twilio.sync.event"`...)

func appendNotification(b, payload []byte) []byte { return appendMessage(b, notificationHead, payload) }

// suffixes of event types on the wire; in front stands the kind (part 6).
var suffixes = [...]string{
	objects.ObjectUpdated:    "_updated",
	objects.ObjectRemoved:    "_removed",
	objects.ContextUpdated:   "_context_updated",
	objects.ItemAdded:        "_item_added",
	objects.ItemUpdated:      "_item_updated",
	objects.ItemRemoved:      "_item_removed",
	objects.MessagePublished: "_message_published",
}

func eventType(e *objects.Event) string { return e.Object.Kind().String() + suffixes[e.Type] }

// LiveEvent makes the notification of an event, with nothing in it that is not the same
// for all clients of a version. Data is passed on as it is stored. Where the version
// allows several events in one notification, kind is what they must have in common, and
// event what AppendLiveEvents needs of this one, a part of the frame; else kind is empty.
func LiveEvent(version Version, origin string, e *objects.Event) (frame []byte, kind string, event []byte) {
	resources := resource.Encoder{Origin: origin, Protocol: resource.Realtime}
	name := eventType(e)
	payload := beginEvents(nil, version, name, nil)
	begin := len(payload)
	payload = appendEvent(payload, resources, e)
	end := len(payload)
	payload = endEvents(payload, version)
	frame = appendNotification(nil, payload)
	if version == Version3 {
		return frame, "", nil
	}
	before := len(frame) - len(payload)
	return frame, name, frame[before+begin : before+end]
}

// AppendLiveEvents appends the one notification of several live events of a kind.
func AppendLiveEvents(b []byte, kind string, events [][]byte) []byte {
	var room, tail [headerRoom]byte
	begin, end := beginEvents(room[:0], Version4, kind, nil), endEvents(tail[:0], Version4)
	size := len(begin) + len(events) - 1 + len(end)
	for _, e := range events {
		size += len(e)
	}
	b = append(beginMessage(b, notificationHead, size), begin...)
	for i, e := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e...)
	}
	return append(b, end...)
}

// AppendEvents appends the notifications of events of one object that are replayed.
// Those of one type that follow each other share one, where the version allows it. Data
// is passed on as it is stored.
func AppendEvents(b []byte, version Version, origin string, events []objects.Event, correlation []byte) []byte {
	resources := resource.Encoder{Origin: origin, Protocol: resource.Realtime}
	members := correlationMember(correlation)
	var payload []byte
	for len(events) > 0 {
		t := events[0].Type
		payload = beginEvents(payload[:0], version, eventType(&events[0]), members)
		payload = appendEvent(payload, resources, &events[0])
		events = events[1:]
		for version == Version4 && len(events) > 0 && events[0].Type == t && len(payload) < notificationSize {
			payload = appendEvent(append(payload, ','), resources, &events[0])
			events = events[1:]
		}
		b = appendNotification(b, endEvents(payload, version))
	}
	return b
}

func correlationMember(correlation []byte) []byte {
	if correlation == nil {
		return nil
	}
	return append([]byte(`,"correlation_id":`), correlation...)
}

func appendEvent(b []byte, resources resource.Encoder, e *objects.Event) []byte {
	o, kind := e.Object, e.Object.Kind()
	b = append(b, `{"`...)
	b = append(b, kind.String()...)
	b = append(b, `_sid":"`...)
	b = o.SID.Append(b)
	b = append(b, '"')
	if e.ID != 0 && kind != objects.KindStream {
		b = append(b, `,"id":`...)
		b = strconv.AppendUint(b, uint64(e.ID), 10)
		// The revision counts the same changes as the event id.
		b = append(b, `,"`...)
		b = append(b, kind.String()...)
		b = append(b, `_revision":"`...)
		b = append(b, objects.Revision(e.ID).String()...)
		b = append(b, '"')
	}
	switch {
	case e.Item != nil:
		b = appendItemMembers(b, resources, e)
	case e.Message != nil:
		b = append(b, `,"message_sid":"`...)
		b = e.Message.SID.Append(b)
		b = append(b, `","message_data":`...)
		b = append(b, e.Message.Data...)
	case e.Type == objects.ContextUpdated:
		b = append(b, `,"context_data":`...)
		b = append(b, o.Data...)
	case kind == objects.KindDocument:
		b = append(b, `,"document_data":`...)
		b = append(b, o.Data...)
		b = append(b, `,"date_expires":`...)
		b = resources.Date(b, o.Expires)
		b = append(b, `,"created_by":`...)
		b = objects.AppendString(b, o.CreatedBy)
	}
	b = append(b, `,"date_created":`...)
	b = resources.Date(b, e.At)
	return append(b, '}')
}

func appendItemMembers(b []byte, resources resource.Encoder, e *objects.Event) []byte {
	i := e.Item
	if e.Object.Kind() == objects.KindList {
		b = append(b, `,"item_index":`...)
		b = strconv.AppendUint(b, i.Index, 10)
	} else {
		b = append(b, `,"item_key":`...)
		b = objects.AppendString(b, i.Key)
	}
	b = append(b, `,"item_data":`...)
	b = append(b, i.Data...)
	if e.Type == objects.ItemRemoved {
		return b
	}
	b = append(b, `,"item_revision":"`...)
	b = append(b, i.Revision.String()...)
	b = append(b, `","item_url":"`...)
	b = resources.ItemURL(b, e.Object, i)
	b = append(b, `","date_expires":`...)
	return resources.Date(b, i.Expires)
}

// The answers to a subscription request (part 5). object is as the client named
// it; correlation is the request's, digit by digit.

// AppendEstablished appends that a subscription is established, which knows the
// object up to an event.
func AppendEstablished(b []byte, version Version, object, kind string, correlation []byte, at objects.EventID) []byte {
	p := answerHead(version, "subscription_established", correlation, object)
	p = append(p, `,"object_type":"`...)
	p = append(p, kind...)
	p = append(p, `","replay_status":"completed","last_event_id":`...)
	p = strconv.AppendUint(p, uint64(at), 10)
	return appendNotification(b, endEvents(append(p, '}'), version))
}

// AppendCanceled appends that there is a subscription no more.
func AppendCanceled(b []byte, version Version, object string, correlation []byte) []byte {
	p := answerHead(version, "subscription_canceled", correlation, object)
	return appendNotification(b, endEvents(append(p, '}'), version))
}

// AppendFailed refuses a subscription. One that was established already it
// ends: then the correlation is an explicit null.
func AppendFailed(b []byte, version Version, object string, correlation []byte, e *objects.Error) []byte {
	if correlation == nil {
		correlation = []byte("null")
	}
	p := answerHead(version, "subscription_failed", correlation, object)
	p = append(p, `,"error":{"status":`...)
	p = strconv.AppendInt(p, int64(e.Status), 10)
	p = append(p, `,"code":`...)
	p = strconv.AppendInt(p, int64(e.Code), 10)
	p = append(p, `,"message":`...)
	p = objects.AppendString(p, e.Message)
	return appendNotification(b, endEvents(append(p, "}}"...), version))
}

func answerHead(version Version, event string, correlation []byte, object string) []byte {
	p := beginEvents(nil, version, event, correlationMember(correlation))
	return objects.AppendString(append(p, `{"object_sid":`...), object)
}

// strictlyOrdered is the member from which the client takes the order of a live
// query's events (part 6).
var strictlyOrdered = []byte(`,"strictly_ordered":true`)

func queryHead(version Version, event, query string) []byte {
	p := beginEvents(nil, version, "live_query_"+event, strictlyOrdered)
	return objects.AppendString(append(p, `{"query_id":`...), query)
}

// QueryItemUpdated tells of one item that is in the result of a query, anew or
// changed.
func QueryItemUpdated(version Version, query string, i *objects.Item, at objects.EventID) []byte {
	return queryItem(version, "item_updated", query, i, at)
}

// QueryItemRemoved tells of one item that is no more in the result.
func QueryItemRemoved(version Version, query string, i *objects.Item, at objects.EventID) []byte {
	return queryItem(version, "item_removed", query, i, at)
}

func queryItem(version Version, event, query string, i *objects.Item, at objects.EventID) []byte {
	p := queryHead(version, event, query)
	p = append(p, `,"item_key":`...)
	p = objects.AppendString(p, i.Key)
	p = append(p, `,"item_data":`...)
	p = append(p, i.Data...)
	p = append(p, `,"item_revision":`...)
	p = strconv.AppendUint(p, uint64(at), 10)
	p = append(p, `,"last_event_id":`...)
	p = strconv.AppendUint(p, uint64(at), 10)
	return appendNotification(nil, endEvents(append(p, '}'), version))
}

// QueryResult tells the whole result.
func QueryResult(version Version, query string, result []*objects.Item, at objects.EventID) []byte {
	p := append(queryHead(version, "updated", query), `,"items":`...)
	p = AppendQueryItems(p, result)
	p = append(p, `,"last_event_id":`...)
	p = strconv.AppendUint(p, uint64(at), 10)
	return appendNotification(nil, endEvents(append(p, '}'), version))
}

// AppendQueryItems appends the items of a result. What the client takes for
// their revision is the id of their last event: a number that grows (part 7).
func AppendQueryItems(b []byte, result []*objects.Item) []byte {
	b = append(b, '[')
	for n, i := range result {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"key":`...)
		b = objects.AppendString(b, i.Key)
		b = append(b, `,"data":`...)
		b = append(b, i.Data...)
		b = append(b, `,"revision":`...)
		b = strconv.AppendUint(b, uint64(i.EventID), 10)
		b = append(b, '}')
	}
	return append(b, ']')
}
