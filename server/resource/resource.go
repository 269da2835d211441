// Package resource writes what the API has, services, objects, items and
// permissions, as JSON, and knows the URLs that they have. REST and realtime tell
// of the same in slightly different members.
//
// Everything here is a function of what it is given: there is no state and no I/O.
package resource

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"lockstep/objects"
)

// Protocol is whose members and URLs a resource has.
type Protocol uint8

// The protocols.
const (
	REST Protocol = iota
	Realtime
)

// Data says whether a resource is written with its data. A client that has just
// sent them needs no copy.
type Data bool

// The two ways.
const (
	WithData    Data = true
	WithoutData Data = false
)

// Encoder writes resources as JSON. Its methods append to b. Data is passed on as
// it is stored.
type Encoder struct {
	Origin   string // of the URLs: "http://host:port"
	Account  string // SID of the account
	Protocol Protocol
}

func (e Encoder) realtime() bool { return e.Protocol == Realtime }

// plurals are the kinds as they stand in paths.
var plurals = [...]string{
	objects.KindDocument: "Documents",
	objects.KindList:     "Lists",
	objects.KindMap:      "Maps",
	objects.KindStream:   "Streams",
}

// Plural returns a kind of object as it stands in paths: "Documents", "Lists",
// "Maps", "Streams".
func Plural(kind objects.Kind) string { return plurals[kind] }

// KindOf returns the kind of object that stands in a path under this name;
// KindNone if there is none.
func KindOf(plural string) objects.Kind {
	for kind := objects.KindDocument; kind <= objects.KindStream; kind++ {
		if plurals[kind] == plural {
			return kind
		}
	}
	return objects.KindNone
}

// Service appends a service.
func (e Encoder) Service(b []byte, s *objects.Service) []byte {
	b = append(b, `{"sid":`...)
	b = appendSID(b, s.SID)
	b = append(b, `,"unique_name":`...)
	b = appendOptional(b, s.UniqueName)
	b = e.appendAccount(b)
	b = append(b, `,"friendly_name":`...)
	b = appendOptional(b, s.FriendlyName)
	b = e.appendDates(b, s.Created, s.Updated)
	b = append(b, `,"webhook_url":`...)
	b = appendOptional(b, s.WebhookURL)
	b = append(b, `,"webhooks_from_rest_enabled":`...)
	b = strconv.AppendBool(b, s.WebhooksFromREST)
	b = append(b, `,"reachability_webhooks_enabled":`...)
	b = strconv.AppendBool(b, s.ReachabilityWebhooks)
	b = append(b, `,"acl_enabled":`...)
	b = strconv.AppendBool(b, s.ACLEnabled)
	b = append(b, `,"reachability_debouncing_enabled":`...)
	b = strconv.AppendBool(b, s.Debouncing)
	b = append(b, `,"reachability_debouncing_window":`...)
	b = strconv.AppendInt(b, s.DebounceWindow, 10)
	b = append(b, `,"url":"`...)
	start := len(b)
	b = e.serviceURL(b, s.SID)
	url := b[start:]
	b = append(b, `","links":{`...)
	b = appendLink(b, "documents", url, "/Documents")
	b = append(b, ',')
	b = appendLink(b, "lists", url, "/Lists")
	b = append(b, ',')
	b = appendLink(b, "maps", url, "/Maps")
	b = append(b, ',')
	b = appendLink(b, "streams", url, "/Streams")
	return append(b, "}}"...)
}

// Object appends a document, list, map or stream. data matters to
// documents only.
func (e Encoder) Object(b []byte, o *objects.Object, data Data) []byte {
	b = append(b, `{"sid":`...)
	b = appendSID(b, o.SID)
	b = append(b, `,"unique_name":`...)
	b = appendOptional(b, o.UniqueName)
	b = e.appendOwner(b, o.ServiceSID)
	if e.realtime() || o.Kind() != objects.KindStream {
		b = appendRevision(b, o.Revision())
	}
	if e.realtime() {
		b = appendEventID(b, o.EventID)
	}
	if data == WithData && o.Kind() == objects.KindDocument {
		b = appendData(b, o.Data)
	}
	b = e.appendExpires(b, o.Expires)
	b = e.appendDates(b, o.Created, o.Updated)
	b = append(b, `,"created_by":`...)
	b = objects.AppendString(b, o.CreatedBy)
	b = append(b, `,"url":"`...)
	start := len(b)
	b = e.ObjectURL(b, o)
	url := b[start:]
	b = append(b, `","links":{`...)
	b = e.appendObjectLinks(b, o.Kind(), url)
	return append(b, "}}"...)
}

func (e Encoder) appendObjectLinks(b []byte, kind objects.Kind, url []byte) []byte {
	switch kind {
	case objects.KindStream:
		return appendLink(b, "messages", url, "/Messages")
	case objects.KindList, objects.KindMap:
		b = appendLink(b, "items", url, "/Items")
		if e.realtime() && kind == objects.KindMap {
			return b
		}
		b = append(b, ',')
		if e.realtime() {
			return appendLink(b, "context", url, "/Context")
		}
	}
	if e.realtime() {
		return b
	}
	return appendLink(b, "permissions", url, "/Permissions")
}

// Item appends an item of a list or map.
func (e Encoder) Item(b []byte, o *objects.Object, i *objects.Item, data Data) []byte {
	if o.Kind() == objects.KindList {
		b = append(b, `{"index":`...)
		b = strconv.AppendUint(b, i.Index, 10)
	} else {
		b = append(b, `{"key":`...)
		b = objects.AppendString(b, i.Key)
	}
	b = e.appendOwner(b, o.ServiceSID)
	b = appendParent(b, o)
	b = appendRevision(b, i.Revision)
	if e.realtime() {
		b = appendEventID(b, i.EventID)
	}
	if data == WithData {
		b = appendData(b, i.Data)
	}
	b = e.appendExpires(b, i.Expires)
	b = e.appendDates(b, i.Created, i.Updated)
	b = append(b, `,"created_by":`...)
	b = objects.AppendString(b, i.CreatedBy)
	b = append(b, `,"url":"`...)
	b = e.ItemURL(b, o, i)
	return append(b, `"}`...)
}

// Lease is what holds items of maps for as long as it is renewed.
type Lease struct {
	ID               string
	Service          objects.SID
	TTL              int64 // seconds
	Items            uint64
	Created, Expires int64
}

// Lease appends a lease.
func (e Encoder) Lease(b []byte, l Lease) []byte {
	b = append(b, `{"sid":`...)
	b = objects.AppendString(b, l.ID)
	b = e.appendOwner(b, l.Service)
	b = strconv.AppendInt(append(b, `,"ttl":`...), l.TTL, 10)
	b = strconv.AppendUint(append(b, `,"items":`...), l.Items, 10)
	b = append(b, `,"date_created":`...)
	b = e.appendDate(b, l.Created)
	b = e.appendExpires(b, l.Expires)
	b = append(b, `,"url":"`...)
	b = append(e.serviceURL(b, l.Service), "/Leases/"...)
	b = appendSegment(b, l.ID)
	return append(b, `"}`...)
}

// Permission appends what one identity may do with an object.
func (e Encoder) Permission(b []byte, o *objects.Object, p *objects.Permission) []byte {
	b = append(b, `{"identity":`...)
	b = objects.AppendString(b, p.Identity)
	b = e.appendOwner(b, o.ServiceSID)
	b = appendParent(b, o)
	b = append(b, `,"read":`...)
	b = strconv.AppendBool(b, p.Rights.Has(objects.Read))
	b = append(b, `,"write":`...)
	b = strconv.AppendBool(b, p.Rights.Has(objects.Write))
	b = append(b, `,"manage":`...)
	b = strconv.AppendBool(b, p.Rights.Has(objects.Manage))
	b = append(b, `,"url":"`...)
	b = e.ObjectURL(b, o)
	b = append(b, "/Permissions/"...)
	b = appendSegment(b, p.Identity)
	return append(b, `"}`...)
}

// Message appends what a stream message is answered with. Data is left out by
// realtime, where the publisher has it.
func (e Encoder) Message(b []byte, sid objects.SID, data []byte) []byte {
	b = append(b, `{"sid":`...)
	b = appendSID(b, sid)
	if !e.realtime() {
		b = appendData(b, data)
	}
	return append(b, '}')
}

// ObjectURL appends the URL of an object. URLs name objects by SID.
func (e Encoder) ObjectURL(b []byte, o *objects.Object) []byte {
	if e.realtime() {
		b = append(append(b, e.Origin...), "/v3"...)
	} else {
		b = e.serviceURL(b, o.ServiceSID)
	}
	b = append(b, '/')
	b = append(b, plurals[o.Kind()]...)
	b = append(b, '/')
	return o.SID.Append(b)
}

// ItemURL appends the URL of an item.
func (e Encoder) ItemURL(b []byte, o *objects.Object, i *objects.Item) []byte {
	b = e.ObjectURL(b, o)
	b = append(b, "/Items/"...)
	if o.Kind() == objects.KindList {
		return strconv.AppendUint(b, i.Index, 10)
	}
	return appendSegment(b, i.Key)
}

func (e Encoder) serviceURL(b []byte, sid objects.SID) []byte {
	b = append(b, e.Origin...)
	b = append(b, "/v1/Services/"...)
	return sid.Append(b)
}

// appendSegment appends text percent-encoded for a path. Everything but the
// unreserved characters is encoded: what else is allowed in a path, clients
// disagree about.
func appendSegment(b []byte, text string) []byte {
	return append(b, strings.ReplaceAll(url.QueryEscape(text), "+", "%20")...)
}

func (e Encoder) appendAccount(b []byte) []byte {
	b = append(b, `,"account_sid":"`...)
	b = append(b, e.Account...)
	return append(b, '"')
}

func (e Encoder) appendOwner(b []byte, service objects.SID) []byte {
	b = e.appendAccount(b)
	b = append(b, `,"service_sid":`...)
	return appendSID(b, service)
}

// appendParent appends the SID of the object that something belongs to, under
// the name of its kind.
func appendParent(b []byte, o *objects.Object) []byte {
	b = append(b, ',', '"')
	b = append(b, o.Kind().String()...)
	b = append(b, `_sid":`...)
	return appendSID(b, o.SID)
}

func (e Encoder) appendDates(b []byte, created, updated int64) []byte {
	b = append(b, `,"date_created":`...)
	b = e.appendDate(b, created)
	b = append(b, `,"date_updated":`...)
	return e.appendDate(b, updated)
}

func (e Encoder) appendExpires(b []byte, expires int64) []byte {
	b = append(b, `,"date_expires":`...)
	return e.Date(b, expires)
}

// Date appends a time in Unix milliseconds, null for 0.
func (e Encoder) Date(b []byte, unixMilli int64) []byte {
	if unixMilli == 0 {
		return append(b, "null"...)
	}
	return e.appendDate(b, unixMilli)
}

// appendDate is time.AppendFormat, in a small part of its time: every answer has two
// dates.
func (e Encoder) appendDate(b []byte, unixMilli int64) []byte {
	t := time.UnixMilli(unixMilli).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	if year < 0 || year > 9999 {
		b = t.AppendFormat(b, `"2006`)
	} else {
		b = twoDigits(twoDigits(append(b, '"'), year/100), year%100)
	}
	b = twoDigits(append(b, '-'), int(month))
	b = twoDigits(append(b, '-'), day)
	b = twoDigits(append(b, 'T'), hour)
	b = twoDigits(append(b, ':'), minute)
	b = twoDigits(append(b, ':'), second)
	if e.realtime() {
		millis := t.Nanosecond() / int(time.Millisecond)
		b = twoDigits(append(b, '.', '0'+byte(millis/100)), millis%100)
	}
	return append(b, 'Z', '"')
}

func twoDigits(b []byte, n int) []byte { return append(b, '0'+byte(n/10), '0'+byte(n%10)) }

func appendSID(b []byte, sid objects.SID) []byte {
	b = append(b, '"')
	b = sid.Append(b)
	return append(b, '"')
}

func appendOptional(b []byte, text string) []byte {
	if text == "" {
		return append(b, "null"...)
	}
	return objects.AppendString(b, text)
}

func appendRevision(b []byte, r objects.Revision) []byte {
	b = append(b, `,"revision":"`...)
	b = strconv.AppendUint(b, uint64(r), 16)
	return append(b, '"')
}

func appendEventID(b []byte, id objects.EventID) []byte {
	b = append(b, `,"last_event_id":`...)
	return strconv.AppendUint(b, uint64(id), 10)
}

func appendData(b, data []byte) []byte {
	b = append(b, `,"data":`...)
	if data == nil {
		return append(b, "null"...)
	}
	return append(b, data...)
}

func appendLink(b []byte, name string, url []byte, path string) []byte {
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, `":"`...)
	b = append(b, url...)
	b = append(b, path...)
	return append(b, '"')
}
