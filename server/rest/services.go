package rest

import (
	"context"
	"net/http"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
)

func createService(ctx context.Context, c *call) (answer, error) {
	change, err := c.serviceSettings()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	s, err := c.api.CreateService(ctx, c.caller, change)
	if err != nil {
		return answer{}, err
	}
	c.made = s.SID.String()
	return answer{status: http.StatusCreated, body: c.encoder.Service(nil, s)}, nil
}

func updateService(ctx context.Context, c *call) (answer, error) {
	change, err := c.serviceSettings()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	s, err := c.api.UpdateService(ctx, c.caller, change)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: c.encoder.Service(nil, s)}, nil
}

func fetchService(ctx context.Context, c *call) (answer, error) {
	s, err := c.api.FetchService(ctx, c.caller)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: c.encoder.Service(nil, s)}, nil
}

func removeService(ctx context.Context, c *call) (answer, error) {
	return removed, c.api.RemoveService(ctx, c.caller)
}

func listServices(ctx context.Context, c *call) (answer, error) {
	p, err := c.paging()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	span, err := p.Numbers()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	entries, err := c.api.ListServices(ctx, c.caller, span)
	if err != nil {
		return answer{}, err
	}
	entries, more := api.Cut(&p.PageQuery, entries)
	page := pageOf[*objects.Service]{
		paging: p, key: "services", entries: entries, more: more,
		position: func(s *objects.Service) string { return api.NumberPosition(s.Num) },
		write:    c.encoder.Service,
	}
	return page.answer(c)
}

// serviceSettings reads the settings that a form names.
func (c *call) serviceSettings() (*fsm.UpdateService, error) {
	change := &fsm.UpdateService{
		FriendlyName: c.params.optional("FriendlyName"),
		WebhookURL:   c.params.optional("WebhookUrl"),
	}
	for _, flag := range []struct {
		name  string
		value **bool
	}{
		{"WebhooksFromRestEnabled", &change.WebhooksFromREST},
		{"ReachabilityWebhooksEnabled", &change.ReachabilityWebhooks},
		{"AclEnabled", &change.ACLEnabled},
		{"ReachabilityDebouncingEnabled", &change.Debouncing},
	} {
		value, err := c.params.boolean(flag.name)
		if err != nil {
			return nil, err
		}
		*flag.value = value
	}
	if text := c.params.get("ReachabilityDebouncingWindow"); text != "" {
		window, err := api.ParseWhole(text)
		if err != nil {
			return nil, objects.ErrParameter.With("ReachabilityDebouncingWindow must be a whole number of milliseconds")
		}
		change.DebounceWindow = new(int64(min(window, objects.MaxDebounce+1)))
	}
	return change, nil
}
