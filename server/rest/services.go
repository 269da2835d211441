package rest

import (
	"net/http"

	"lockstep/fsm"
	"lockstep/objects"
)

func (q *request) createService() (answer, error) {
	change, err := q.serviceSettings()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	s, err := q.api.CreateService(q.ctx, q.caller, change)
	if err != nil {
		return answer{}, err
	}
	q.made = s.SID.String()
	return answer{status: http.StatusCreated, body: q.encoder.Service(nil, s)}, nil
}

func (q *request) updateService() (answer, error) {
	change, err := q.serviceSettings()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	s, err := q.api.UpdateService(q.ctx, q.caller, change)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: q.encoder.Service(nil, s)}, nil
}

func (q *request) fetchService() (answer, error) {
	s, err := q.api.FetchService(q.ctx, q.caller)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: q.encoder.Service(nil, s)}, nil
}

func (q *request) removeService() (answer, error) {
	return removed, q.api.RemoveService(q.ctx, q.caller)
}

func (q *request) listServices() (answer, error) {
	p, err := q.paging()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	span, err := p.numbers()
	if err != nil {
		return answer{}, q.refuse(err)
	}
	entries, err := q.api.ListServices(q.ctx, q.caller, span)
	if err != nil {
		return answer{}, err
	}
	entries, more := cut(&p, entries)
	page := pageOf[*objects.Service]{
		paging: p, key: "services", entries: entries, more: more,
		position: func(s *objects.Service) string { return numberPosition(s.Num) },
		write:    q.encoder.Service,
	}
	return page.answer(q)
}

// serviceSettings reads the settings that a form names.
func (q *request) serviceSettings() (*fsm.UpdateService, error) {
	change := &fsm.UpdateService{
		FriendlyName: q.params.optional("FriendlyName"),
		WebhookURL:   q.params.optional("WebhookUrl"),
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
		value, err := q.params.boolean(flag.name)
		if err != nil {
			return nil, err
		}
		*flag.value = value
	}
	if text := q.params.get("ReachabilityDebouncingWindow"); text != "" {
		window, err := parseWhole(text)
		if err != nil {
			return nil, objects.ErrParameter.With("ReachabilityDebouncingWindow must be a whole number of milliseconds")
		}
		change.DebounceWindow = new(int64(min(window, objects.MaxDebounce+1)))
	}
	return change, nil
}
