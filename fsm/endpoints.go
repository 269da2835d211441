package fsm

import (
	"cmp"
	"math"

	"lockstep/objects"
)

// Endpoint is one connection of a client, kept while its service wants to hear
// of connections, or the client holds items. Several may have the same id, which
// clients choose: an old one whose end has not been noticed yet, or two windows of one
// device.
type Endpoint struct {
	Service  uint64 `cbor:"1,keyasint"`
	Identity string `cbor:"2,keyasint"`
	ID       string `cbor:"3,keyasint"`
	Node     string `cbor:"4,keyasint"` // the node it is connected to
	Session  string `cbor:"5,keyasint"` // tells the connections to a node apart
}

func lessEndpoint(a, b Endpoint) bool {
	return cmp.Or(
		cmp.Compare(a.Service, b.Service), cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.Node, b.Node), cmp.Compare(a.Session, b.Session),
	) < 0
}

// lessConnection orders endpoints by the node that they are connected to.
func lessConnection(a, b Endpoint) bool {
	if a.Node != b.Node {
		return a.Node < b.Node
	}
	return lessEndpoint(a, b)
}

func (v *View) setEndpoint(e Endpoint) {
	v.endpoints.Set(e)
	v.connections.Set(e)
}

func (v *View) dropEndpoint(e Endpoint) {
	v.endpoints.Delete(e)
	v.connections.Delete(e)
}

// endpointsOf returns some endpoints of a service.
func (v *View) endpointsOf(service uint64, limit int) []Endpoint {
	return collect(v.endpoints, Endpoint{Service: service}, limit, func(e Endpoint) bool { return e.Service == service })
}

// HasEndpoint reports whether a connection is known.
func (v *View) HasEndpoint(e Endpoint) bool {
	_, known := v.endpoints.Get(e)
	return known
}

// EndpointsOf calls visit for the endpoints that are connected to a node until it
// returns false.
func (v *View) EndpointsOf(node string, visit func(Endpoint) bool) {
	v.connections.Ascend(Endpoint{Node: node}, func(e Endpoint) bool { return e.Node == node && visit(e) })
}

// Endpoints calls visit for all connected endpoints until it returns false.
func (v *View) Endpoints(visit func(Endpoint) bool) { v.endpoints.Scan(visit) }

// ConnectEndpoint says that the actor's endpoint connected to a node. Unlike the
// other operations of the cluster's own it has a place in the dedup window: a
// late copy must not bring back a connection that has ended meanwhile.
type ConnectEndpoint struct {
	Node    string `cbor:"1,keyasint"`
	Session string `cbor:"2,keyasint"`
}

func (op *ConnectEndpoint) apply(tx *tx) Result {
	s, e, refused := tx.endpoint(op.Node, op.Session)
	if refused != nil {
		return refuse(refused)
	}
	tx.connect(s, e)
	return Result{}
}

// connect notes a connection, and tells so if it is the endpoint's first.
func (tx *tx) connect(s *objects.Service, e Endpoint) {
	known := tx.connected(e)
	tx.view.setEndpoint(e)
	tx.holdOn(e)
	if known {
		return
	}
	tx.forgetDisconnects(s.Num, e.Identity)
	tx.tellEndpoint(s, objects.EndpointConnected, e.Identity, e.ID)
}

// endpoint returns a connection of the actor's endpoint, and its service.
func (tx *tx) endpoint(node, session string) (*objects.Service, Endpoint, *objects.Error) {
	s, refused := tx.service()
	if refused != nil {
		return nil, Endpoint{}, refused
	}
	a := tx.command.Actor
	return s, Endpoint{Service: s.Num, Identity: a.Identity, ID: a.Endpoint, Node: node, Session: session}, nil
}

// DisconnectEndpoint says that a connection of the actor's endpoint ended.
type DisconnectEndpoint struct {
	Node    string `cbor:"1,keyasint"`
	Session string `cbor:"2,keyasint"`
}

func (op *DisconnectEndpoint) apply(tx *tx) Result {
	s, e, refused := tx.endpoint(op.Node, op.Session)
	if refused != nil {
		return refuse(refused)
	}
	if _, ok := tx.view.endpoints.Get(e); ok {
		tx.disconnect(s, e)
	}
	return Result{}
}

// DropEndpoints says that nobody is connected to a node any more. Its result
// says in More whether another one is needed, for the rest.
type DropEndpoints struct {
	Node string `cbor:"1,keyasint"`
}

func (op *DropEndpoints) apply(tx *tx) Result {
	v := tx.view
	gone := collect(v.connections, Endpoint{Node: op.Node}, maxExpired, func(e Endpoint) bool { return e.Node == op.Node })
	for _, e := range gone {
		if s, ok := v.services.Get(&objects.Service{Num: e.Service}); ok {
			tx.disconnect(s, e)
		} else {
			v.dropEndpoint(e)
		}
	}
	return Result{More: len(gone) == maxExpired}
}

// disconnect removes a connection. If that was the endpoint's last, it tells
// so, at once or, with debouncing, when its identity has stayed away for the
// window.
func (tx *tx) disconnect(s *objects.Service, e Endpoint) {
	tx.view.dropEndpoint(e)
	if tx.connected(e) {
		return
	}
	tx.lettingGo(e)
	switch {
	case !s.Debouncing:
		tx.tellEndpoint(s, objects.EndpointDisconnected, e.Identity, e.ID)
	case !tx.present(s.Num, e.Identity):
		tx.view.setExpiry(expiry{At: tx.now() + s.DebounceWindow, Service: s.Num, Identity: e.Identity, Endpoint: e.ID})
	}
}

// endpointGone is the end of a debounce window.
func (tx *tx) endpointGone(e expiry) {
	if s, ok := tx.view.services.Get(&objects.Service{Num: e.Service}); ok && !tx.present(e.Service, e.Identity) {
		tx.tellEndpoint(s, objects.EndpointDisconnected, e.Identity, e.Endpoint)
	}
}

func (tx *tx) tellEndpoint(s *objects.Service, event objects.EventType, identity, endpoint string) {
	if s.WebhookURL == "" || !s.ReachabilityWebhooks {
		return
	}
	tx.deliver(s, Fact{Type: event, Identity: identity, Endpoint: endpoint})
}

// connected reports whether an endpoint has a connection, whichever.
func (tx *tx) connected(e Endpoint) bool {
	found := false
	tx.view.endpoints.Ascend(Endpoint{Service: e.Service, Identity: e.Identity, ID: e.ID}, func(x Endpoint) bool {
		found = x.Service == e.Service && x.Identity == e.Identity && x.ID == e.ID
		return false
	})
	return found
}

func (tx *tx) present(service uint64, identity string) bool {
	found := false
	tx.view.endpoints.Ascend(Endpoint{Service: service, Identity: identity}, func(e Endpoint) bool {
		found = e.Service == service && e.Identity == identity
		return false
	})
	return found
}

// forgetDisconnects drops the disconnections of an identity that wait for the
// end of their window: it is back.
func (tx *tx) forgetDisconnects(service uint64, identity string) {
	for _, e := range collect(tx.view.absences, expiry{Service: service, Identity: identity}, math.MaxInt, func(e expiry) bool {
		return e.Service == service && e.Identity == identity
	}) {
		tx.view.dropExpiry(e)
	}
}

// rememberEndpoints is called when the settings of a service change. It forgets the
// connections that it does not want to hear of any more, but for those of clients that
// hold items, and tells of those that it wants to hear of now.
func (tx *tx) rememberEndpoints(old, s *objects.Service) {
	switch {
	case !s.ReachabilityWebhooks:
		tx.forgetEndpoints(s)
	case !old.ReachabilityWebhooks:
		tx.tellEndpoints(s)
	}
}

func (tx *tx) forgetEndpoints(s *objects.Service) {
	for _, e := range tx.view.endpointsOf(s.Num, math.MaxInt) {
		if _, holds := tx.view.Holder(e.Service, e.Identity, e.ID); !holds {
			tx.view.dropEndpoint(e)
		}
	}
}

func (tx *tx) tellEndpoints(s *objects.Service) {
	var last Endpoint
	for _, e := range tx.view.endpointsOf(s.Num, math.MaxInt) {
		if e.Identity != last.Identity || e.ID != last.ID {
			tx.tellEndpoint(s, objects.EndpointConnected, e.Identity, e.ID)
		}
		last = e
	}
}
