package realtime

import (
	"strconv"

	"lockstep/objects"
	"lockstep/server/api"
)

// The names of events on the wire (part 6), by kind and type.
func eventName(kind objects.Kind, t objects.EventType) string {
	switch t {
	case objects.ObjectUpdated:
		return "_updated"
	case objects.ObjectRemoved:
		return "_removed"
	case objects.ContextUpdated:
		return "_context_updated"
	case objects.ItemAdded:
		return "_item_added"
	case objects.ItemUpdated:
		return "_item_updated"
	case objects.ItemRemoved:
		return "_item_removed"
	case objects.MessagePublished:
		return "_message_published"
	}
	return ""
}

// notificationHeader is the same for all: the client acknowledges by its id,
// and nobody reads that.
func notificationFrame(payload []byte) []byte {
	h := []byte(`{"method":"notification","id":"TMevent","message_type":"twilio.sync.event"`)
	return frame(append(appendPayloadSize(h, payload), '}'), payload)
}

// eventFrame encodes an event. A live event has no correlation and is the same
// for all subscribers; a replayed one carries that of the request. Data is
// passed on as it is stored.
func eventFrame(form api.Form, e *objects.Event, correlation []byte) []byte {
	kind := e.Object.Kind()
	size := 512 + len(e.Object.UniqueName)
	if e.Item != nil {
		size += len(e.Item.Data) + 2*len(e.Item.Key)
	} else if e.Message != nil {
		size += len(e.Message.Data)
	} else {
		size += len(e.Object.Data)
	}
	b := make([]byte, 0, size)
	b = append(b, `{"event_type":"`...)
	b = append(b, kind.String()...)
	b = append(b, eventName(kind, e.Type)...)
	b = append(b, `","event_protocol_version":4,"strictly_ordered":true`...)
	if correlation != nil {
		b = append(b, `,"correlation_id":`...)
		b = append(b, correlation...)
	}
	b = append(b, `,"events":[{"`...)
	b = append(b, kind.String()...)
	b = append(b, `_sid":"`...)
	b = e.Object.SID.Append(b)
	b = append(b, '"')
	if e.ID != 0 {
		b = append(b, `,"id":`...)
		b = strconv.AppendUint(b, uint64(e.ID), 10)
	}
	switch e.Type {
	case objects.ObjectUpdated, objects.ObjectRemoved:
		b = appendDocumentEvent(b, form, e)
	case objects.ContextUpdated:
		b = append(b, `,"context_data":`...)
		b = append(b, e.Object.Data...)
	case objects.ItemAdded, objects.ItemUpdated, objects.ItemRemoved:
		b = appendItemEvent(b, form, e)
	case objects.MessagePublished:
		b = append(b, `,"message_sid":"`...)
		b = e.Message.SID.Append(b)
		b = append(b, `","message_data":`...)
		b = append(b, e.Message.Data...)
	}
	b = append(b, `,"date_created":`...)
	b = form.Date(b, e.At)
	return notificationFrame(append(b, "}]}"...))
}

func appendDocumentEvent(b []byte, form api.Form, e *objects.Event) []byte {
	o := e.Object
	if o.Kind() != objects.KindDocument {
		return b
	}
	b = append(b, `,"document_revision":"`...)
	b = append(b, o.Revision().String()...)
	b = append(b, `","document_data":`...)
	b = append(b, o.Data...)
	b = append(b, `,"date_expires":`...)
	b = form.Date(b, o.Expires)
	b = append(b, `,"created_by":`...)
	return objects.AppendString(b, o.CreatedBy)
}

func appendItemEvent(b []byte, form api.Form, e *objects.Event) []byte {
	kind, i := e.Object.Kind(), e.Item
	b = append(b, `,"`...)
	b = append(b, kind.String()...)
	b = append(b, `_revision":"`...)
	b = append(b, objects.Revision(e.ID).String()...)
	b = append(b, `","item_revision":"`...)
	b = append(b, i.Revision.String()...)
	if kind == objects.KindList {
		b = append(b, `","item_index":`...)
		b = strconv.AppendUint(b, i.Index, 10)
	} else {
		b = append(b, `","item_key":`...)
		b = objects.AppendString(b, i.Key)
	}
	b = append(b, `,"item_data":`...)
	b = append(b, i.Data...)
	if e.Type == objects.ItemRemoved {
		return b
	}
	b = append(b, `,"item_url":"`...)
	b = form.ItemURL(b, e.Object, i)
	b = append(b, `","date_expires":`...)
	return form.Date(b, i.Expires)
}

// establishedFrame says that a subscription has heard everything up to event id.
func establishedFrame(object string, kind string, correlation []byte, id objects.EventID) []byte {
	b := appendSubscriptionHead("subscription_established", correlation, object)
	b = append(b, `,"object_type":"`...)
	b = append(b, kind...)
	b = append(b, `","replay_status":"completed","last_event_id":`...)
	b = strconv.AppendUint(b, uint64(id), 10)
	return notificationFrame(append(b, "}}"...))
}

func canceledFrame(object string, correlation []byte) []byte {
	return notificationFrame(append(appendSubscriptionHead("subscription_canceled", correlation, object), "}}"...))
}

// failedFrame refuses a subscription, or ends an established one: then without
// a correlation, which has to be an explicit null.
func failedFrame(object string, correlation []byte, e *objects.Error) []byte {
	if correlation == nil {
		correlation = []byte("null")
	}
	b := appendSubscriptionHead("subscription_failed", correlation, object)
	b = append(b, `,"error":{"status":`...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = append(b, `,"code":`...)
	b = strconv.AppendInt(b, int64(e.Code), 10)
	b = append(b, `,"message":`...)
	b = objects.AppendString(b, e.Message)
	return notificationFrame(append(b, "}}}"...))
}

func appendSubscriptionHead(event string, correlation []byte, object string) []byte {
	b := append([]byte(`{"event_type":"`), event...)
	b = append(b, `","event_protocol_version":4,"correlation_id":`...)
	b = append(b, correlation...)
	b = append(b, `,"event":{"object_sid":`...)
	return objects.AppendString(b, object)
}

// queryFrame tells the subscribers of a live query of one item.
func queryFrame(query string, i *objects.Item, id objects.EventID, removed bool) []byte {
	b := append([]byte(`{"event_type":"live_query_item_`), "updated"...)
	if removed {
		b = append(b[:len(b)-len("updated")], "removed"...)
	}
	b = append(b, `","event_protocol_version":4,"strictly_ordered":true,"events":[{"query_id":`...)
	b = objects.AppendString(b, query)
	b = append(b, `,"item_key":`...)
	b = objects.AppendString(b, i.Key)
	b = append(b, `,"item_data":`...)
	b = append(b, i.Data...)
	b = append(b, `,"item_revision":`...)
	b = strconv.AppendUint(b, uint64(id), 10)
	b = append(b, `,"last_event_id":`...)
	b = strconv.AppendUint(b, uint64(id), 10)
	return notificationFrame(append(b, "}]}"...))
}

// queryResultFrame gives the whole result of a live query.
func queryResultFrame(query string, correlation []byte, result []*objects.Item, id objects.EventID) []byte {
	b := []byte(`{"event_type":"live_query_updated","event_protocol_version":4,"strictly_ordered":true,"correlation_id":`)
	b = append(b, correlation...)
	b = append(b, `,"events":[{"query_id":`...)
	b = objects.AppendString(b, query)
	b = append(b, `,"items":`...)
	b = appendQueryItems(b, result)
	b = append(b, `,"last_event_id":`...)
	b = strconv.AppendUint(b, uint64(id), 10)
	return notificationFrame(append(b, "}]}"...))
}

func appendQueryItems(b []byte, result []*objects.Item) []byte {
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
