package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/resource"
)

// leasePrefix is what the ids of leases begin with.
const leasePrefix = "LE"

// OpenLease makes a lease, which ends so many seconds after it was renewed last. nil is
// the default.
func (a *API) OpenLease(ctx context.Context, c Caller, ttl *int64) (resource.Lease, error) {
	grace := int64(objects.DefaultGrace)
	if ttl != nil {
		grace = *ttl
	}
	if err := objects.ValidateGrace(grace); err != nil {
		return resource.Lease{}, a.Refuse(ctx, c, objects.KindNone, fsm.Ref{}, objects.Write, err)
	}
	service, err := a.ServiceSID(ctx, c.Service)
	if err != nil {
		return resource.Lease{}, err
	}
	id := c.leaseID(service)
	if _, err := a.proposeIn(ctx, c, service, &fsm.OpenLease{ID: id, Grace: grace * 1000}); err != nil {
		return resource.Lease{}, err
	}
	return a.FetchLease(ctx, c, id)
}

// leaseID makes the id of a lease. That of a keyed request follows from the key: its
// repetition is told of the lease that the first made.
func (c *Caller) leaseID(service objects.SID) string {
	of := random()
	if c.Key != "" {
		of = c.commandID(service)
	}
	sum := sha256.Sum256(append([]byte("lease"), of[:]...))
	return leasePrefix + hex.EncodeToString(sum[:16])
}

// RenewLease puts the end of a lease off. ttl, unless it is nil, is how many seconds it
// lasts from now on.
func (a *API) RenewLease(ctx context.Context, c Caller, id string, ttl *int64) (resource.Lease, error) {
	op := &fsm.RenewLease{ID: id}
	if ttl != nil {
		if err := objects.ValidateGrace(*ttl); err != nil {
			return resource.Lease{}, a.Refuse(ctx, c, objects.KindNone, fsm.Ref{}, objects.Write, err)
		}
		op.Grace = *ttl * 1000
	}
	if _, err := a.propose(ctx, c, op); err != nil {
		return resource.Lease{}, err
	}
	return a.FetchLease(ctx, c, id)
}

// CloseLease ends a lease: what nobody else holds goes at once.
func (a *API) CloseLease(ctx context.Context, c Caller, id string) error {
	_, err := a.propose(ctx, c, &fsm.CloseLease{ID: id})
	return err
}

// FetchLease finds a lease that has not ended.
func (a *API) FetchLease(ctx context.Context, c Caller, id string) (resource.Lease, error) {
	found, err := a.findService(ctx, c)
	if err != nil {
		return resource.Lease{}, err
	}
	h, there := found.View.Holder(found.Service.Num, "", id)
	if !there || h.Until <= found.View.Time() {
		return resource.Lease{}, objects.ErrLeaseGone
	}
	return resource.Lease{
		ID: id, Service: found.Service.SID, TTL: h.Grace / 1000, Items: h.Items,
		Created: h.Created, Expires: h.Until,
	}, nil
}

// Hold says who holds an item that is written: a lease, or else the session, of the
// caller's endpoint, that is connected to a node.
type Hold struct {
	Lease         string
	Node, Session string
	Grace         int64 // seconds after the last session's end
}

// held makes a write one of an item that is held.
func (h *Hold) held(op *fsm.WriteItem) (fsm.Op, error) {
	switch {
	case op.Kind != objects.KindMap:
		return nil, objects.ErrParameter.With("A lease holds items of maps only")
	case op.Data == nil:
		return nil, objects.ErrParameter.With("A lease holds an item that is written with its data")
	case h.Lease != "" && !strings.HasPrefix(h.Lease, leasePrefix):
		return nil, objects.ErrLeaseEnded
	}
	return &fsm.HoldItem{Write: *op, Lease: h.Lease, Node: h.Node, Session: h.Session, Grace: h.Grace * 1000}, nil
}
