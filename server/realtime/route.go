package realtime

import (
	"context"
	"net/http"

	"github.com/tidwall/gjson"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/resource"
)

// operation carries out a call.
type operation func(ctx context.Context, c *call) (answer, error)

// target is what a path addresses, and the operation on it.
type target struct {
	do    operation
	kind  objects.Kind
	ref   fsm.Ref // of the object; zero: none
	index bool    // ref is that of an index to query
	item  string  // what names an item in the path
	batch bool    // the operation is on the subscriptions that the body names
}

// methods are the operations on a kind of path.
type methods map[string]operation

// The paths that there are, below a version.
var (
	ofSubscriptions = methods{http.MethodPost: subscribe}
	ofToken         = methods{http.MethodPost: exchangeToken}
	ofConfiguration = methods{http.MethodGet: fetchConfiguration}
	ofIndex         = methods{http.MethodPost: runQuery}
	ofCollection    = methods{http.MethodPost: createObject}
	ofObject        = methods{http.MethodGet: fetchObject, http.MethodPost: updateObject, http.MethodDelete: removeObject}
	ofMessages      = methods{http.MethodPost: publish}
	ofContext       = methods{http.MethodGet: fetchContext, http.MethodPost: updateContext}
	ofItems         = methods{http.MethodGet: listItems, http.MethodPost: createItem}
	ofListItem      = methods{http.MethodGet: fetchItem, http.MethodPost: updateItem, http.MethodDelete: removeItem}
	ofMapItem       = methods{http.MethodGet: fetchItem, http.MethodPost: updateItem, http.MethodPut: putItem, http.MethodDelete: removeItem}
)

// by returns the target with the operation of a method.
func (t target) by(method string, all methods) target {
	t.do = notAllowed
	if op, ok := all[method]; ok {
		t.do = op
	}
	return t
}

var (
	notFound   = refuseWith(objects.ErrNotFound)
	notAllowed = refuseWith(objects.ErrMethod)
)

// refuseWith is the operation of a call that is not carried out.
func refuseWith(err error) operation {
	return func(context.Context, *call) (answer, error) { return answer{}, err }
}

// route finds what a path addresses. Every path of /v3 exists plain and below the
// session's service (parts 4 and 9).
func (s *session) route(method string, path []string) target {
	if len(path) < 2 {
		return target{do: notFound}
	}
	version, path := path[0], path[1:]
	switch {
	case version == "v4" && len(path) == 1 && path[0] == "Subscriptions":
		return target{batch: true}.by(method, ofSubscriptions)
	case version == "v1" && len(path) == 1 && path[0] == "token":
		return target{}.by(method, ofToken)
	case version != "v3":
		return target{do: notFound}
	case path[0] == "Services":
		if len(path) < 3 || !s.isOwn(path[1]) {
			return target{do: notFound}
		}
		path = path[2:]
	}
	switch {
	case len(path) == 1 && path[0] == "Configuration":
		return target{}.by(method, ofConfiguration)
	case len(path) == 3 && path[0] == "Insights" && path[2] == "Items":
		ref, refused := indexOf(path[1])
		if refused != nil {
			return target{do: refuseWith(refused)}
		}
		return target{kind: objects.KindMap, ref: ref, index: true}.by(method, ofIndex)
	}
	if kind := resource.KindOf(path[0]); kind != objects.KindNone {
		return routeObject(method, kind, path[1:])
	}
	return target{do: notFound}
}

// isOwn reports whether a name in a path is that of the session's service.
func (s *session) isOwn(service string) bool {
	return service != "" && (service == s.service.SID.String() || service == s.service.UniqueName)
}

// routeObject is for what is below /v3/{Kind}: path is the rest.
func routeObject(method string, kind objects.Kind, path []string) target {
	if len(path) == 0 {
		return target{kind: kind}.by(method, ofCollection)
	}
	t := target{do: notFound, kind: kind, ref: fsm.ParseRef(path[0])}
	collection := kind == objects.KindList || kind == objects.KindMap
	switch {
	case len(path) == 1:
		return t.by(method, ofObject)
	case len(path) == 2 && path[1] == "Messages" && kind == objects.KindStream:
		return t.by(method, ofMessages)
	case len(path) == 2 && path[1] == "Context" && kind == objects.KindList:
		return t.by(method, ofContext)
	case len(path) == 2 && path[1] == "Items" && collection:
		return t.by(method, ofItems)
	case len(path) == 3 && path[1] == "Items" && collection:
		t.item = path[2]
		if kind == objects.KindMap {
			return t.by(method, ofMapItem)
		}
		return t.by(method, ofListItem)
	}
	return t
}

// orderKey is a name under which requests wait for earlier ones: the SID of an
// object, its unique name among those of a kind, or what all batches of subscriptions
// have (the zero key).
type orderKey struct {
	sid  objects.SID
	kind objects.Kind
	name string
}

// orderOf returns the keys under which a call has to wait for earlier ones, in the
// room for them if they fit, and the SID of its object: the object's SID and its
// unique name, as far as the local store knows them.
func (s *session) orderOf(c *call, room []orderKey) (keys []orderKey, sid objects.SID) {
	switch {
	case c.batch:
		return c.subscriptions.keys(), objects.SID{}
	case c.kind == objects.KindNone:
		return nil, objects.SID{}
	}
	if c.ref == (fsm.Ref{}) {
		if name := gjson.GetBytes(c.body, "unique_name").Str; name != "" {
			keys = append(room, orderKey{kind: c.kind, name: name})
		}
		return keys, objects.SID{}
	}
	sid, name := c.ref.SID, c.ref.Name
	if o, ok := s.config.Node.View().Object(s.service.Num, c.kind, c.ref); ok {
		sid, name = o.SID, o.UniqueName
	}
	keys = room
	if !sid.IsZero() {
		keys = append(keys, orderKey{sid: sid})
	}
	if name != "" {
		keys = append(keys, orderKey{kind: c.kind, name: name})
	}
	return keys, sid
}

// fetchConfiguration tells mobile clients where everything is (part 9).
func fetchConfiguration(_ context.Context, c *call) (answer, error) {
	base := c.session.encoder.Origin
	below := base + "/v3/Services/" + c.session.service.SID.String()
	return jsonAnswer(struct {
		Links links `json:"links"`
	}{links{
		Subscriptions:  base + "/v4/Subscriptions",
		Maps:           below + "/Maps",
		Map:            below + "/Maps/{id}",
		MapItems:       below + "/Maps/{mapId}/Items",
		MapItem:        below + "/Maps/{mapId}/Items/{itemId}",
		Lists:          below + "/Lists",
		List:           below + "/Lists/{id}",
		ListItems:      below + "/Lists/{listId}/Items",
		ListItem:       below + "/Lists/{listId}/Items/{itemId}",
		Documents:      below + "/Documents",
		Document:       below + "/Documents/{id}",
		Streams:        below + "/Streams",
		Stream:         below + "/Streams/{id}",
		StreamMessages: below + "/Streams/{streamId}/Messages",
		InsightsItems:  below + "/Insights/{indexName}/Items",
	}})
}

// links are the URLs, and templates of URLs, that a client makes its requests from.
type links struct {
	Subscriptions  string `json:"subscriptions"`
	Maps           string `json:"maps"`
	Map            string `json:"map"`
	MapItems       string `json:"map_items"`
	MapItem        string `json:"map_item"`
	Lists          string `json:"lists"`
	List           string `json:"list"`
	ListItems      string `json:"list_items"`
	ListItem       string `json:"list_item"`
	Documents      string `json:"documents"`
	Document       string `json:"document"`
	Streams        string `json:"streams"`
	Stream         string `json:"stream"`
	StreamMessages string `json:"stream_messages"`
	InsightsItems  string `json:"insights_items"`
}
