package rest

import (
	"context"
	"net/http"

	"lockstep/objects"
	"lockstep/server/api"
)

// Leases hold items of maps for clients that are not connected by the realtime
// protocol; they are an extension of the API.

func openLease(ctx context.Context, c *call) (answer, error) {
	ttl, err := c.leaseTTL()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	lease, err := c.api.OpenLease(ctx, c.caller, ttl)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: c.encoder.Lease(nil, lease)}, nil
}

func fetchLease(ctx context.Context, c *call) (answer, error) {
	lease, err := c.api.FetchLease(ctx, c.caller, c.lease)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: c.encoder.Lease(nil, lease)}, nil
}

func renewLease(ctx context.Context, c *call) (answer, error) {
	ttl, err := c.leaseTTL()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	lease, err := c.api.RenewLease(ctx, c.caller, c.lease, ttl)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: c.encoder.Lease(nil, lease)}, nil
}

func closeLease(ctx context.Context, c *call) (answer, error) {
	return removed, c.api.CloseLease(ctx, c.caller, c.lease)
}

// leaseTTL reads the seconds that a lease lasts, nil when absent.
func (c *call) leaseTTL() (*int64, error) {
	text := c.params.get("Ttl")
	if text == "" {
		return nil, nil
	}
	seconds, err := api.ParseWhole(text)
	if err != nil {
		return nil, objects.ErrGrace
	}
	return new(int64(min(seconds, objects.MaxGraceSeconds+1))), nil
}

// hold reads the lease that is to hold an item, nil when none is named.
func (c *call) hold() *api.Hold {
	if lease := c.params.get("Lease"); lease != "" {
		return &api.Hold{Lease: lease}
	}
	return nil
}
