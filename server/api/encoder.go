package api

import "lockstep/server/resource"

// Encoder returns what writes the resources of this node's account for a
// protocol, with URLs of an origin.
func (a *API) Encoder(origin string, protocol resource.Protocol) resource.Encoder {
	account, _ := a.node.View().Account()
	return resource.Encoder{Origin: origin, Account: account, Protocol: protocol}
}
