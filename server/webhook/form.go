package webhook

import (
	"net/url"
	"strconv"

	"lockstep/fsm"
	"lockstep/objects"
)

// param is one form parameter of a request.
type param struct{ name, value string }

// endpointEvents and the verbs are the event types by their names in the API
// (rest-api, webhooks).
var (
	endpointEvents = map[objects.EventType]string{
		objects.EndpointConnected:    "endpoint_connected",
		objects.EndpointDisconnected: "endpoint_disconnected",
	}
	verbs = map[objects.EventType]string{
		objects.ObjectCreated: "_created",
		objects.ObjectUpdated: "_updated",
		objects.ObjectRemoved: "_removed",
		objects.ItemAdded:     "_item_added",
		objects.ItemUpdated:   "_item_updated",
		objects.ItemRemoved:   "_item_removed",
	}
	kindNames = map[objects.Kind]string{
		objects.KindDocument: "Document", objects.KindList: "List", objects.KindMap: "Map",
	}
)

// params returns the parameters of the request that tells a fact.
func params(account string, service objects.SID, f *fsm.Fact) []param {
	var p []param
	add := func(name, value string) { p = append(p, param{name, value}) }
	if f.Object == (objects.SID{}) {
		add("EventType", endpointEvents[f.Type])
	} else {
		kind := f.Object.Kind()
		add("EventType", kind.String()+verbs[f.Type])
		add(kindNames[kind]+"Sid", f.Object.String())
		if f.UniqueName != "" {
			add(kindNames[kind]+"UniqueName", f.UniqueName)
		}
		switch f.Type {
		case objects.ItemAdded, objects.ItemUpdated, objects.ItemRemoved:
			p = append(p, itemParams(kind, f)...)
		default:
			add(kindNames[kind]+"Revision", f.ObjectRevision.String())
			if f.Data != nil {
				add("DocumentData", string(f.Data))
			}
		}
	}
	if f.Endpoint != "" {
		add("EndpointId", f.Endpoint)
	}
	add("AccountSid", account)
	add("ServiceSid", service.String())
	add("Identity", f.Identity)
	return p
}

func itemParams(kind objects.Kind, f *fsm.Fact) []param {
	p := []param{
		{"EventId", strconv.FormatUint(uint64(f.EventID), 10)},
		{"ItemRevision", f.ItemRevision.String()},
	}
	if kind == objects.KindList {
		p = append(p, param{"ItemIndex", strconv.FormatUint(f.Index, 10)})
	} else {
		p = append(p, param{"ItemKey", f.Key})
	}
	if f.Data != nil {
		p = append(p, param{"ItemData", string(f.Data)})
	}
	return p
}

func encode(params []param) string {
	form := make(url.Values, len(params))
	for _, p := range params {
		form.Set(p.name, p.value)
	}
	return form.Encode()
}
