// Package api is the operations of the Sync API, whatever the protocol that
// carries them. It checks what needs no state, builds commands and proposes
// them, reads at a linearizable point, and checks the permission to read.
//
// Every error that it returns has an *objects.Error in its chain.
//
// It knows neither HTTP nor websockets, authenticates nobody, keeps no state
// and starts no goroutines. All its methods may be called from anywhere.
package api

import (
	"context"

	"lockstep/fsm"
	"lockstep/objects"
)

// Node is what this package needs of the cluster.
type Node interface {
	// Propose has a command decided, once, however often it is tried. A
	// refusal of the domain is a Result; an error means that there was none.
	Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error)

	// Read returns a view that contains everything acknowledged before the call.
	// It is charged to the bucket, unless that is none. An error with a method
	// RetryAfter() time.Duration says that the bucket is empty for so long.
	Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error)

	// View returns the local store's latest view, which may lag.
	View() *fsm.View
}

// API carries out operations. Make one with New.
type API struct{ node Node }

// New makes the operations of a node.
func New(node Node) *API { return &API{node: node} }

// Caller is on whose behalf an operation runs.
type Caller struct {
	Actor   fsm.Actor
	Service fsm.Ref // the service that the path or the token names

	// Key is the idempotency key of a write; empty for none. Within one Scope
	// (a credential, or an identity) and service, a key stands for one write.
	// Fingerprint is a hash of the request: the same key with another one is refused.
	Key         string
	Scope       string
	Fingerprint [16]byte

	// KeepData says that answers to writes contain the data, also when the write is
	// repeated under its key.
	KeepData bool

	// Propose has commands decided in place of the node's, for a caller that wants to
	// know their ids before and orders them among others. It may be nil.
	Propose func(context.Context, *fsm.Command) (*fsm.Result, error)

	// Part makes the write one operation of a transaction; see there. nil: it is
	// carried out by itself.
	Part *Part
}

// Found is an object as one linearizable read found it.
type Found struct {
	View    *fsm.View
	Service *objects.Service
	Object  *objects.Object
}

// Create is what a new object is made of.
type Create struct {
	Name *string // unique name; nil for none
	Data []byte  // JSON as it came, nil if absent: a document's value, a list's context
	TTL  *int64  // seconds; nil or 0: it never expires
}

// Update is a change of an object. What is nil stays as it is.
type Update struct {
	Data    []byte // JSON as it came: a document's value, a list's context
	TTL     *int64 // seconds; 0: it never expires
	IfMatch string // as in the HTTP header; documents only
}

// ItemWrite is a write of one item of a list or map. What is nil stays as it is.
type ItemWrite struct {
	Mode          fsm.WriteMode
	Key           fsm.ItemKey // not for AppendItem
	Data          []byte      // JSON as it came
	TTL           *int64      // seconds; 0: it never expires
	CollectionTTL *int64      // of the list or map
	Match         objects.Precondition
	Hold          *Hold // who holds it from then on; nil: nobody more than before
}

// Written is an item right after a write, with the object that holds it.
type Written struct {
	Object  *objects.Object
	Item    *objects.Item
	Created bool // a PutItem found no item
}

// ItemPage is a stretch of the items of a list or map.
type ItemPage struct {
	Found
	Items []*objects.Item

	// Before and After say whether items exist on that side of the page, in the
	// order that was asked for.
	Before, After bool
}
