package api

import (
	"context"

	"lockstep/fsm"
	"lockstep/objects"
)

// CreateService makes a service with the default settings, changed as asked.
func (a *API) CreateService(ctx context.Context, c Caller, change *fsm.UpdateService) (*objects.Service, error) {
	if err := validateSettings(change); err != nil {
		return nil, err
	}
	op := &fsm.CreateService{
		SID:      objects.NewSID(objects.KindService, random()),
		Settings: change.Change(fsm.DefaultSettings()),
	}
	result, err := a.proposeIn(ctx, c, objects.SID{}, op)
	if err != nil {
		return nil, err
	}
	return result.Service, nil
}

// UpdateService changes the settings that are not nil.
func (a *API) UpdateService(ctx context.Context, c Caller, change *fsm.UpdateService) (*objects.Service, error) {
	if err := validateSettings(change); err != nil {
		return nil, a.Refuse(ctx, c, objects.KindNone, fsm.Ref{}, objects.Write, err)
	}
	result, err := a.propose(ctx, c, change)
	if err != nil {
		return nil, err
	}
	return result.Service, nil
}

// RemoveService removes a service with all that it holds.
func (a *API) RemoveService(ctx context.Context, c Caller) error {
	_, err := a.propose(ctx, c, &fsm.RemoveService{})
	return err
}

// FetchService returns the caller's service.
func (a *API) FetchService(ctx context.Context, c Caller) (*objects.Service, error) {
	found, err := a.findService(ctx, c)
	return found.Service, err
}

// ListServices returns services, whatever the caller's, by creation. Positions
// are the services' numbers.
func (a *API) ListServices(ctx context.Context, _ Caller, span fsm.Span[uint64]) ([]*objects.Service, error) {
	view, err := a.read(ctx, free)
	if err != nil {
		return nil, err
	}
	return view.Services(span), nil
}

func validateSettings(change *fsm.UpdateService) error {
	if name := change.FriendlyName; name != nil {
		if err := objects.ValidateFriendlyName(*name); err != nil {
			return err
		}
	}
	if url := change.WebhookURL; url != nil {
		if err := objects.ValidateWebhookURL(*url); err != nil {
			return err
		}
	}
	if w := change.DebounceWindow; w != nil && (*w < objects.MinDebounce || *w > objects.MaxDebounce) {
		return objects.ErrParameter.With("ReachabilityDebouncingWindow must be a whole number from %d to %d",
			objects.MinDebounce, objects.MaxDebounce)
	}
	return nil
}
