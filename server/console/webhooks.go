package console

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
)

// maxDeliveries is how many waiting deliveries are shown.
const maxDeliveries = 200

// delivery is a webhook that waits, or an attempt at one.
type delivery struct {
	Seq      uint64  `json:"seq"`
	Service  string  `json:"service"`
	Receiver string  `json:"receiver"` // scheme and host: the rest may be a secret
	Event    string  `json:"event"`
	Object   string  `json:"object,omitempty"`
	Name     string  `json:"name,omitempty"`
	Item     string  `json:"item,omitempty"`
	Identity string  `json:"identity,omitempty"`
	At       string  `json:"at"` // when it was queued, or tried
	Attempts int     `json:"attempts"`
	Next     string  `json:"next,omitempty"`
	Took     float64 `json:"took_ms,omitempty"`
	Error    string  `json:"error,omitempty"`
	GivenUp  bool    `json:"given_up,omitempty"`
}

func deliveryOf(s *objects.Service, seq uint64, f *fsm.Fact) delivery {
	d := delivery{Seq: seq, Service: s.SID.String(), Event: eventName(f.Type, f.Object.Kind()), Name: f.UniqueName, Item: f.Key, Identity: f.Identity}
	if u, err := url.Parse(s.WebhookURL); err == nil && u.Host != "" {
		d.Receiver = u.Scheme + "://" + u.Host
	}
	if !f.Object.IsZero() {
		d.Object = f.Object.String()
	}
	if f.Object.Kind() == objects.KindList && f.EventID > 0 {
		d.Item = strconv.FormatUint(f.Index, 10)
	}
	return d
}

// ownAttempts returns the last attempts that this node made.
func (c *Console) ownAttempts() (all []delivery) {
	view := c.Node.View()
	for _, a := range c.Node.Attempts() {
		s, ok := view.ServiceByNumber(a.Service)
		if !ok {
			continue
		}
		d := deliveryOf(s, a.Seq, &a.Fact)
		d.At, d.Attempts, d.Error, d.GivenUp = stamp(a.At.UnixMilli()), a.Number, a.Error, a.GivenUp
		d.Took = round(a.Took.Seconds() * 1000)
		all = append(all, d)
	}
	return all
}

func (c *Console) webhooks(_ http.ResponseWriter, r *http.Request, who *user) (any, error) {
	if !who.rights().Data {
		return nil, objects.ErrKeyScope
	}
	t, err := c.askLeader(r.Context(), question{Part: partAttempts})
	problem := ""
	if err != nil { // what waits is known all the same
		problem = err.Error()
	}
	view := c.Node.View()
	attempts, last := []delivery{}, map[uint64]delivery{}
	for _, a := range t.Attempts {
		if _, later := last[a.Seq]; !later {
			last[a.Seq] = a
		}
		if service, _ := objects.ParseSID(a.Service); who.mayUse(service) {
			attempts = append(attempts, a)
		}
	}
	waiting, count := []delivery{}, 0
	view.Deliveries(0, func(x *fsm.Delivery) bool {
		s, ok := view.ServiceByNumber(x.Service)
		if !ok || !who.mayUse(s.SID) {
			return true
		}
		count++
		if len(waiting) < maxDeliveries {
			d := deliveryOf(s, x.Seq, &x.Fact)
			d.At, d.Attempts, d.Error = stamp(x.Created), x.Attempts, last[x.Seq].Error
			if x.NotBefore > 0 {
				d.Next = stamp(x.NotBefore)
			}
			waiting = append(waiting, d)
		}
		return true
	})
	return map[string]any{"waiting": waiting, "waiting_count": count, "attempts": attempts, "problem": problem}, nil
}

func stamp(unixMilli int64) string { return time.UnixMilli(unixMilli).UTC().Format(time.RFC3339Nano) }

// retryWebhook has a delivery tried now.
func (c *Console) retryWebhook(_ http.ResponseWriter, r *http.Request, who *user) (any, error) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil {
		return nil, objects.ErrNotFound
	}
	view := c.Node.View()
	d, waiting := view.Delivery(seq)
	if !waiting {
		return nil, objects.ErrNotFound.With("It does not wait any more")
	}
	s, ok := view.ServiceByNumber(d.Service)
	if !ok || !who.mayUse(s.SID) || !who.rights().Write {
		return nil, objects.ErrKeyScope
	}
	t, err := c.askLeader(r.Context(), question{Part: partHurry, Delivery: seq})
	if err != nil {
		return nil, err
	}
	if !t.Hurried {
		return nil, objects.ErrUnavailable.With("The leader has just changed; try again")
	}
	return nil, nil
}
