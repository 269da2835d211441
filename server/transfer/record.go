// Package transfer is the form in which services and what is in them travel from one
// installation to another: one JSON object a record, with the members that the REST
// API has, and files of such lines (see Writer).
//
// It is pure: it knows no cluster and no network.
package transfer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"lockstep/objects"
)

// The kinds of record.
const (
	Service    = "service"
	Document   = "document"
	List       = "list"
	Map        = "map"
	Stream     = "stream"
	ListItem   = "list_item"
	MapItem    = "map_item"
	Permission = "permission"
)

// Record is a service, object, item or permission. Its members are those of the REST
// API, so that an answer of that is one but for Kind; what a kind does not have is
// left out.
type Record struct {
	Kind string `json:"kind"`

	ServiceSID  string `json:"service_sid,omitempty"`
	DocumentSID string `json:"document_sid,omitempty"` // of permissions, like the next two
	ListSID     string `json:"list_sid,omitempty"`
	MapSID      string `json:"map_sid,omitempty"`

	SID        string `json:"sid,omitempty"`
	UniqueName string `json:"unique_name,omitempty"`

	FriendlyName   string `json:"friendly_name,omitempty"`
	WebhookURL     string `json:"webhook_url,omitempty"`
	FromREST       bool   `json:"webhooks_from_rest_enabled,omitempty"`
	Reachability   bool   `json:"reachability_webhooks_enabled,omitempty"`
	ACL            bool   `json:"acl_enabled,omitempty"`
	Debouncing     bool   `json:"reachability_debouncing_enabled,omitempty"`
	DebounceWindow int64  `json:"reachability_debouncing_window,omitempty"`

	Index *uint64 `json:"index,omitempty"`
	Key   *string `json:"key,omitempty"`

	Identity string `json:"identity,omitempty"`
	Read     bool   `json:"read,omitempty"`
	Write    bool   `json:"write,omitempty"`
	Manage   bool   `json:"manage,omitempty"`

	Revision string          `json:"revision,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	Expires  string          `json:"date_expires,omitempty"`
	Created  string          `json:"date_created,omitempty"`
	Updated  string          `json:"date_updated,omitempty"`
	Creator  string          `json:"created_by,omitempty"`

	// Items is the number of items of a list or map whose items were all told: it is
	// its last record, after which it has its revision and dates. Files have none.
	Items *uint64 `json:"items,omitempty"`

	// Remove says that the object, item or permission is to be taken away.
	Remove bool `json:"remove,omitempty"`
}

// Name says of which record an error or a difference is.
func (r *Record) Name() string {
	switch r.Kind {
	case ListItem:
		if r.Index != nil {
			return fmt.Sprintf("item %d of list %s", *r.Index, r.ListSID)
		}
	case MapItem:
		if r.Key != nil {
			return fmt.Sprintf("item %q of map %s", *r.Key, r.MapSID)
		}
	case Permission:
		return fmt.Sprintf("permission of %q on %s", r.Identity, r.Of())
	}
	if name := cmp.Or(r.UniqueName, r.FriendlyName); name != "" {
		return fmt.Sprintf("%s %s (%s)", r.Kind, r.SID, name)
	}
	return r.Kind + " " + r.SID
}

// Of returns the SID of what the record is in: the service of an object, the object
// of an item or permission; "" for a service.
func (r *Record) Of() string {
	sid, _ := r.parent()
	return sid
}

// parent returns what the record is in, and of which kind that has to be.
func (r *Record) parent() (sid string, kind objects.Kind) {
	switch r.Kind {
	case Document, List, Map, Stream:
		return r.ServiceSID, objects.KindService
	case ListItem:
		return r.ListSID, objects.KindList
	case MapItem:
		return r.MapSID, objects.KindMap
	case Permission: // one of them is there
		switch sid = r.DocumentSID + r.ListSID + r.MapSID; sid {
		case r.DocumentSID:
			return sid, objects.KindDocument
		case r.ListSID:
			return sid, objects.KindList
		}
		return sid, objects.KindMap
	}
	return "", objects.KindNone
}

// IsCollection reports whether the record is a list or a map.
func (r *Record) IsCollection() bool { return r.Kind == List || r.Kind == Map }

// kinds are those of the SIDs of services and objects.
var kinds = map[string]objects.Kind{
	Service: objects.KindService, Document: objects.KindDocument, List: objects.KindList, Map: objects.KindMap, Stream: objects.KindStream,
}

// Parsed is a record in the form of the store: one of Service to Permission is set.
type Parsed struct {
	Of         objects.SID
	Service    *objects.Service
	Object     *objects.Object
	Item       *objects.Item
	Permission *objects.Permission
}

// Parse checks a record. A revision that is not hexadecimal counts as none.
func (r *Record) Parse() (p Parsed, err error) {
	if r.Kind != Service {
		sid, kind := r.parent()
		of, ok := objects.ParseSID(sid)
		switch {
		case kind == objects.KindNone:
			return p, objects.ErrParameter.With("%q is no kind of record", r.Kind)
		case !ok:
			return p, objects.ErrParameter.With("%s is in nothing that has a SID", r.Name())
		case of.Kind() != kind:
			return p, objects.ErrParameter.With("%s is in %s, which is no SID of a %s", r.Name(), sid, kind)
		}
		p.Of = of
	}
	switch r.Kind {
	case Service:
		p.Service, err = r.service()
	case Document, List, Map, Stream:
		p.Object, err = r.object()
	case ListItem, MapItem:
		p.Item, err = r.item()
	case Permission:
		p.Permission, err = r.permission()
	}
	return p, err
}

func (r *Record) sid() (objects.SID, error) {
	sid, ok := objects.ParseSID(r.SID)
	if !ok || sid.Kind() != kinds[r.Kind] {
		return sid, objects.ErrParameter.With("%q is no SID of a %s", r.SID, r.Kind)
	}
	return sid, nil
}

// dates reads times, of which an empty one is 0.
func (r *Record) dates(created, updated, expires *int64) error {
	for _, d := range []struct {
		text string
		into *int64
	}{{r.Created, created}, {r.Updated, updated}, {r.Expires, expires}} {
		if d.text == "" || d.into == nil {
			continue
		}
		t, err := time.Parse(time.RFC3339, d.text)
		if err != nil || t.UnixMilli() <= 0 {
			return objects.ErrParameter.With("%q is no date", d.text)
		}
		*d.into = t.UnixMilli()
	}
	return nil
}

func (r *Record) service() (*objects.Service, error) {
	sid, err := r.sid()
	if err != nil {
		return nil, err
	}
	s := &objects.Service{SID: sid, UniqueName: r.UniqueName, ServiceSettings: objects.ServiceSettings{
		FriendlyName: r.FriendlyName, WebhookURL: r.WebhookURL, WebhooksFromREST: r.FromREST, ReachabilityWebhooks: r.Reachability,
		ACLEnabled: r.ACL, Debouncing: r.Debouncing, DebounceWindow: r.DebounceWindow,
	}}
	if s.DebounceWindow == 0 {
		s.DebounceWindow = objects.DefaultDebounce
	}
	switch {
	case s.UniqueName != "" && s.UniqueName != "default":
		return nil, objects.ErrName.With("Only the default service has a unique name")
	case s.DebounceWindow < objects.MinDebounce || s.DebounceWindow > objects.MaxDebounce:
		return nil, objects.ErrParameter.With("A debouncing window has %d to %d milliseconds", objects.MinDebounce, objects.MaxDebounce)
	case s.FriendlyName != "":
		if err := objects.ValidateFriendlyName(s.FriendlyName); err != nil {
			return nil, err
		}
	}
	if err := objects.ValidateWebhookURL(s.WebhookURL); err != nil {
		return nil, err
	}
	return s, r.dates(&s.Created, &s.Updated, nil)
}

func (r *Record) object() (*objects.Object, error) {
	sid, err := r.sid()
	if err != nil {
		return nil, err
	}
	o := &objects.Object{SID: sid, UniqueName: r.UniqueName, EventID: objects.EventID(r.revision()), CreatedBy: r.creator()}
	if r.Items != nil {
		o.Items = *r.Items
	}
	if o.UniqueName != "" {
		if err := objects.ValidateName(o.UniqueName); err != nil {
			return nil, err
		}
	}
	if r.Kind == Document && !r.Remove {
		if o.Data, err = r.data(objects.KindDocument); err != nil {
			return nil, err
		}
	}
	return o, r.dates(&o.Created, &o.Updated, &o.Expires)
}

func (r *Record) item() (*objects.Item, error) {
	i := &objects.Item{Revision: r.revision(), CreatedBy: r.creator()}
	kind := objects.KindList
	switch {
	case r.Kind == ListItem && r.Index != nil && *r.Index <= math.MaxInt64:
		i.Index = *r.Index
	case r.Kind == ListItem:
		return nil, objects.ErrIndex
	case r.Key == nil:
		return nil, objects.ErrMapItemKey
	default:
		i.Key, kind = *r.Key, objects.KindMap
		if err := objects.ValidateKey(i.Key); err != nil {
			return nil, err
		}
	}
	if !r.Remove {
		var err error
		if i.Data, err = r.data(kind); err != nil {
			return nil, err
		}
	}
	return i, r.dates(&i.Created, &i.Updated, &i.Expires)
}

// data returns the record's data as it is stored.
func (r *Record) data(kind objects.Kind) ([]byte, error) {
	if r.Data == nil {
		return nil, objects.ErrNull(kind)
	}
	return objects.ParseData(r.Data, kind)
}

func (r *Record) permission() (*objects.Permission, error) {
	if err := objects.ValidateIdentity(r.Identity); err != nil {
		return nil, err
	}
	p := &objects.Permission{Identity: r.Identity}
	for right, has := range map[objects.Rights]bool{objects.Read: r.Read, objects.Write: r.Write, objects.Manage: r.Manage} {
		if has {
			p.Rights |= right
		}
	}
	return p, nil
}

func (r *Record) creator() string {
	if objects.ValidateIdentity(r.Creator) != nil {
		return objects.SystemIdentity
	}
	return r.Creator
}

// revision is below half of what there is room for: others come after it.
func (r *Record) revision() objects.Revision {
	n, err := strconv.ParseUint(r.Revision, 16, 62)
	if err != nil {
		return 0
	}
	return objects.Revision(n)
}

// KeepsRevision reports whether the record's revision can be kept.
func (r *Record) KeepsRevision() bool { return r.Revision == r.revision().String() || r.Revision == "" }
