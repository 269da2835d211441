package migrate

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/objects"
	"lockstep/server/transfer"
)

// Mirror follows a source after an import, by its webhooks if there are any, and by
// looking for what has changed at intervals.
type Mirror struct {
	*Copier
	Every time.Duration
	Hints *Hints // nil: there are no webhooks

	// Followed, if it is set, is told how many objects a look has found changed.
	Followed func(changed int)
}

// Follow copies what changes until the context ends, or, if it is to end by itself, a
// look finds nothing. That the context has ended is no error.
func (m *Mirror) Follow(ctx context.Context, untilQuiet bool) error {
	err := m.follow(ctx, untilQuiet)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (m *Mirror) follow(ctx context.Context, untilQuiet bool) error {
	if err := m.Import(ctx); err != nil {
		return err
	}
	look := time.NewTicker(m.Every)
	defer look.Stop()
	var hinted <-chan struct{}
	if m.Hints != nil {
		hinted = m.Hints.some
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hinted:
			changed, err := m.hinted(ctx)
			m.tell(changed)
			if err != nil {
				return err
			}
		case <-look.C:
			changed, err := m.round(ctx, false)
			m.tell(changed)
			if err != nil || changed == 0 && untilQuiet {
				return err
			}
		}
	}
}

func (m *Mirror) tell(changed int) {
	if m.Followed != nil && changed > 0 {
		m.Followed(changed)
	}
}

// hinted looks at the objects of which webhooks told.
func (m *Mirror) hinted(ctx context.Context) (changed int, err error) {
	for _, o := range m.Hints.take() {
		if !m.copies(o.ServiceSID) {
			continue
		}
		now, err := m.From.again(ctx, o)
		switch {
		case client.IsNotFound(err):
			changed++
			err = m.remove(ctx, o)
		case err == nil && m.due(now):
			changed++
			err = m.object(ctx, m.From, now)
		}
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// Switch copies what has changed since the last look, and brings every record once
// more: the report then says what is not here as it is there. Permissions, whose
// changes no revision tells of, are found so, too.
func (m *Mirror) Switch(ctx context.Context, report *Report) error {
	m.To.Report = report
	if err := m.Verify(ctx); err != nil {
		return err
	}
	for range rounds {
		if changed, err := m.round(ctx, false); err != nil || changed == 0 {
			return err
		}
	}
	return fmt.Errorf("the source is still being written to: %d looks have each found changes", rounds)
}

// maxHints is of how many objects webhooks may tell until they are looked at. More
// are found by the next look at all.
const maxHints = 10_000

// Hints takes webhooks. They say no more than which object to look at, so that a
// forged one does no harm: what is there is read from the source.
type Hints struct {
	some chan struct{}

	mu      sync.Mutex
	pending map[string]*transfer.Record
}

// NewHints makes a receiver of webhooks.
func NewHints() *Hints {
	return &Hints{some: make(chan struct{}, 1), pending: map[string]*transfer.Record{}}
}

// ServeHTTP implements http.Handler.
func (h *Hints) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if r.Method != http.MethodPost || r.ParseForm() != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	service := r.PostForm.Get("ServiceSid")
	for parameter, kind := range map[string]string{"DocumentSid": transfer.Document, "ListSid": transfer.List, "MapSid": transfer.Map} {
		if sid := r.PostForm.Get(parameter); objects.LooksLikeSID(service) && objects.LooksLikeSID(sid) {
			// Copies: a part of the body would keep all of it.
			h.add(&transfer.Record{Kind: kind, SID: strings.Clone(sid), ServiceSID: strings.Clone(service)})
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Hints) add(o *transfer.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.pending) < maxHints {
		h.pending[o.SID] = o
	}
	select {
	case h.some <- struct{}{}:
	default:
	}
}

func (h *Hints) take() (all []*transfer.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.pending {
		all = append(all, o)
	}
	clear(h.pending)
	return all
}

// Hook makes the source send the webhooks of its services to a URL until the returned
// function is called. A service that has another URL is refused: its receiver would
// hear nothing meanwhile.
func (m *Mirror) Hook(ctx context.Context, target string) (unhook func(context.Context) error, err error) {
	before := map[string]bool{} // whether changes by REST were told, by service
	unhook = func(ctx context.Context) error {
		for sid, fromREST := range before {
			if err := m.hook(ctx, sid, "", fromREST); err != nil && !client.IsNotFound(err) {
				return fmt.Errorf("service %s of the source still sends its webhooks to %s: %w", sid, target, err)
			}
		}
		return nil
	}
	var services []*transfer.Record
	for s, err := range m.From.services(ctx, m.Only) {
		if err != nil {
			return unhook, err
		}
		if s.WebhookURL != "" && s.WebhookURL != target {
			return unhook, fmt.Errorf("service %s sends its webhooks to %s already, which would hear nothing any more: follow without --webhook-url, or have that receiver pass them on", s.SID, s.WebhookURL)
		}
		services = append(services, s)
	}
	for _, s := range services {
		before[s.SID] = s.FromREST && s.WebhookURL == ""
		if err := m.hook(ctx, s.SID, target, true); err != nil {
			return unhook, err
		}
	}
	m.Service = func(s *transfer.Record) { // what was set for this is not the service's
		if fromREST, hooked := before[s.SID]; hooked && s.WebhookURL == target {
			s.WebhookURL, s.FromREST = "", fromREST
		}
	}
	return unhook, nil
}

func (m *Mirror) hook(ctx context.Context, service, target string, fromREST bool) error {
	return m.From.Client.Do(ctx, client.Request{Method: http.MethodPost, Path: client.Path("Services", service), Form: url.Values{
		"WebhookUrl": {target}, "WebhooksFromRestEnabled": {strconv.FormatBool(fromREST)},
	}}, nil)
}
