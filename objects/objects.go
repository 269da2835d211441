// Package objects is the domain of Sync: what a service, a document, a list, a
// map, a stream, an item and a permission are, their identifiers, names, sizes,
// revisions and TTLs, and every refusal that a client can meet.
//
// It is pure: values and rules, the standard library only. It knows no clock,
// no randomness, no network and no consensus.
package objects

// Service is one name space of objects with its settings. Records of this
// package are immutable once stored: a change is a new record.
type Service struct {
	Num        uint64 `cbor:"1,keyasint"` // given at creation, rising, never reused
	SID        SID    `cbor:"2,keyasint"`
	UniqueName string `cbor:"3,keyasint,omitempty"`
	Created    int64  `cbor:"4,keyasint"` // Unix milliseconds, as all times here
	Updated    int64  `cbor:"5,keyasint"`
	ServiceSettings
}

// ServiceSettings are the settings of a service that its owner can change.
type ServiceSettings struct {
	FriendlyName         string `cbor:"10,keyasint,omitempty"` // empty: none
	WebhookURL           string `cbor:"11,keyasint,omitempty"` // empty: none
	WebhooksFromREST     bool   `cbor:"12,keyasint,omitempty"`
	ReachabilityWebhooks bool   `cbor:"13,keyasint,omitempty"`
	ACLEnabled           bool   `cbor:"14,keyasint,omitempty"`
	Debouncing           bool   `cbor:"15,keyasint,omitempty"`
	DebounceWindow       int64  `cbor:"16,keyasint,omitempty"` // milliseconds
}

// Object is a document, list, map or stream.
type Object struct {
	Num          uint64  `cbor:"1,keyasint"` // order of creation, never reused
	SID          SID     `cbor:"2,keyasint"`
	ServiceSID   SID     `cbor:"4,keyasint"`
	Service      uint64  `cbor:"3,keyasint"`           // number of its service
	UniqueName   string  `cbor:"5,keyasint,omitempty"` // empty: none
	EventID      EventID `cbor:"6,keyasint,omitempty"` // of its last event
	Created      int64   `cbor:"7,keyasint"`
	Updated      int64   `cbor:"8,keyasint"`
	Expires      int64   `cbor:"9,keyasint,omitempty"` // 0: never
	CreatedBy    string  `cbor:"10,keyasint"`
	Data         []byte  `cbor:"11,keyasint,omitempty"` // documents: the value; lists: the context
	Items        uint64  `cbor:"12,keyasint,omitempty"` // number of items
	ContextEvent EventID `cbor:"17,keyasint,omitempty"` // lists: of the last change of the context
	ContextAt    int64   `cbor:"18,keyasint,omitempty"` // and its time

	// 13 to 16 and 19 are what the store adds to its own record of an object.
}

// Kind says which of the four kinds it is.
func (o *Object) Kind() Kind { return o.SID.Kind() }

// Revision of a document or collection: every event is one change.
func (o *Object) Revision() Revision { return Revision(o.EventID) }

// Item is one item of a list or map.
type Item struct {
	Object    uint64   `cbor:"1,keyasint"` // number of its list or map
	Index     uint64   `cbor:"2,keyasint,omitempty"`
	Key       string   `cbor:"3,keyasint,omitempty"`
	Revision  Revision `cbor:"4,keyasint"`
	EventID   EventID  `cbor:"5,keyasint"` // of its last change
	Added     EventID  `cbor:"6,keyasint"` // of its creation
	Created   int64    `cbor:"7,keyasint"`
	Updated   int64    `cbor:"8,keyasint"`
	Expires   int64    `cbor:"9,keyasint,omitempty"`
	CreatedBy string   `cbor:"10,keyasint"`
	Data      []byte   `cbor:"11,keyasint,omitempty"`
}

// Permission is what one identity may do with one object.
type Permission struct {
	Object   uint64 `cbor:"1,keyasint"` // number of the object
	Identity string `cbor:"2,keyasint"`
	Rights   Rights `cbor:"3,keyasint,omitempty"`
}

// Rights is a set of rights.
type Rights uint8

const (
	Read   Rights = 1 << iota // see the object and its items
	Write                     // change the document; create, update and delete items
	Manage                    // delete the object
)

// Has reports whether all of want are among r.
func (r Rights) Has(want Rights) bool { return r&want == want }

// APIKey signs access tokens and opens the REST API. Its secret is kept as it
// is, since verifying an HS256 signature needs it.
type APIKey struct {
	SID          SID    `cbor:"1,keyasint"`
	Secret       string `cbor:"2,keyasint"`
	FriendlyName string `cbor:"3,keyasint,omitempty"`
	Created      int64  `cbor:"4,keyasint"`

	KeyScope
}

// KeyScope is what an API key is restricted to; the zero value is everything.
// The restrictions add up.
type KeyScope struct {
	SignOnly bool `cbor:"5,keyasint,omitempty"` // it signs access tokens and does not open the REST API
	ReadOnly bool `cbor:"6,keyasint,omitempty"` // it reads by REST, and signs no access tokens, which would let clients write
	Service  SID  `cbor:"7,keyasint,omitempty"` // the one service that it is good for
	Role     Role `cbor:"8,keyasint,omitempty"` // what it is for
}

// Role is what an API key is for: data, or the work of an operator who need not see
// any.
type Role uint8

// The roles. Those of operators open neither the REST API nor sign access tokens.
const (
	RoleData   Role = iota
	RoleViewer      // sees how the cluster is
	RoleAdmin       // looks after its nodes, too; hands out no credentials
)

// ParseRole reads the name of a role; an empty one is data.
func ParseRole(name string) (Role, error) {
	switch name {
	case "", "data":
		return RoleData, nil
	case "viewer":
		return RoleViewer, nil
	case "admin":
		return RoleAdmin, nil
	}
	return RoleData, ErrParameter.With("A role is data, viewer or admin")
}

// String returns the name of a role.
func (r Role) String() string {
	switch r {
	case RoleViewer:
		return "viewer"
	case RoleAdmin:
		return "admin"
	}
	return "data"
}

// Validate returns what is wrong with a scope, if anything.
func (s KeyScope) Validate() error {
	if s.SignOnly && s.ReadOnly {
		return ErrParameter.With("A key that only reads signs no tokens: it cannot be one that only signs")
	}
	if s.Role != RoleData && (s.SignOnly || s.ReadOnly || !s.Service.IsZero()) {
		return ErrParameter.With("The key of an operator opens no data, of whichever service, and signs no tokens")
	}
	return nil
}

// SystemIdentity is the creator of what REST credentials create.
const SystemIdentity = "system"
