//go:build attack

package attack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// probeVariable holds what a probe is to do, in the environment of its process.
const probeVariable = "ATTACK_PROBE"

// order is what a probe is to do: each client writes an item of its map through
// one session and hears of it in another, at a fixed rate.
type order struct {
	URL      string // of the node that is attacked
	Clients  []client
	Queries  bool   // the first client also asks for its map's items by a query
	Receiver string // also be a webhook's receiver, at this address
}

// client is one innocent client: an identity with a map of its own.
type client struct {
	Token string
	Map   string // SID
}

// report is what a probe felt since the last one, in milliseconds. What had not
// come yet counts as long as it has been missing.
type report struct {
	Events, Writes, Queries, Webhooks []float64

	Failed int // writes and queries that were refused or lost with their session
	Error  string
}

// A client writes less often than one identity may write to an object; several
// together give enough figures for a 99th percentile.
const (
	innocents     = 8
	writeInterval = 125 * time.Millisecond
	queryInterval = 100 * time.Millisecond
)

// probe is the innocent clients. It has a process of its own, so that what the
// attackers cost on their side is not in its figures, and measures from the
// moment at which something was due, so that its own waiting counts.
type probe struct {
	order   order
	writers map[string]*writer // by map

	mu     sync.Mutex // of everything below, the writers' too
	report report
}

// writer is a client that writes and hears of it.
type writer struct {
	*probe
	client client
	n      int       // written last
	due    time.Time // of the next write

	events  map[int]time.Time // due and not heard of yet, by number
	hooks   map[int]time.Time
	writing time.Time // since when it waits for an answer; zero: it does not
}

// runProbe is the whole life of a probe's process: each line that it reads is
// a request for a report.
func runProbe(text string) {
	p := &probe{writers: map[string]*writer{}}
	if err := json.Unmarshal([]byte(text), &p.order); err != nil {
		panic(err)
	}
	ctx := context.Background()
	start := time.Now()
	for i, c := range p.order.Clients {
		p.writers[c.Map] = &writer{
			probe: p, client: c,
			n:      10_000, // numbers of one length: no write makes the state grow
			due:    start.Add(writeInterval * time.Duration(i) / innocents),
			events: map[int]time.Time{}, hooks: map[int]time.Time{},
		}
	}
	if p.order.Receiver != "" {
		l, err := net.Listen("tcp", p.order.Receiver)
		if err != nil {
			panic(err)
		}
		go func() { _ = http.Serve(l, http.HandlerFunc(p.receive)) }()
	}
	for _, w := range p.writers {
		go p.again(func() error { return w.listen(ctx) })
		go p.again(func() error { return w.write(ctx) })
	}
	if p.order.Queries {
		go p.again(func() error { return p.query(ctx, p.order.Clients[0]) })
	}
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		_ = out.Encode(p.take())
	}
}

// again repeats what ends with its session.
func (p *probe) again(run func() error) {
	for {
		err := run()
		p.mu.Lock()
		p.report.Failed++
		p.report.Error = err.Error()
		p.mu.Unlock()
		time.Sleep(200 * time.Millisecond)
	}
}

func (p *probe) take() report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	p.report = report{}
	for _, w := range p.writers {
		r.Events = append(r.Events, overdue(w.events)...)
		r.Webhooks = append(r.Webhooks, overdue(w.hooks)...)
		if !w.writing.IsZero() && since(w.writing) > 1000 {
			r.Writes = append(r.Writes, since(w.writing))
		}
	}
	return r
}

// overdue takes out what has been missing for more than a second.
func overdue(missing map[int]time.Time) (took []float64) {
	for n, due := range missing {
		if ms := since(due); ms > 1000 {
			took = append(took, ms)
			delete(missing, n)
		}
	}
	return took
}

func since(t time.Time) float64 { return float64(time.Since(t).Microseconds()) / 1000 }

type item struct {
	N int `json:"n"`
}

// arrived takes everything up to a number out of what is missing: a client that
// fell behind gets the newest state.
func arrived(missing map[int]time.Time, n int) (took []float64) {
	for i, due := range missing {
		if i <= n {
			took = append(took, since(due))
			delete(missing, i)
		}
	}
	return took
}

func (p *probe) receive(_ http.ResponseWriter, r *http.Request) {
	w := p.writers[r.PostFormValue("MapSid")]
	var x item
	if w == nil || json.Unmarshal([]byte(r.PostFormValue("ItemData")), &x) != nil {
		return
	}
	p.mu.Lock()
	p.report.Webhooks = append(p.report.Webhooks, arrived(w.hooks, x.N)...)
	p.mu.Unlock()
}

func (w *writer) listen(ctx context.Context) error {
	r, err := harness.Connect(ctx, w.order.URL, w.client.Token)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Follow(w.client.Map, "map", 0); err != nil {
		return err
	}
	for {
		n, err := r.Next(time.Minute)
		if err != nil {
			return err
		}
		var x item
		if json.Unmarshal(n.Event.ItemData, &x) == nil {
			w.mu.Lock()
			w.report.Events = append(w.report.Events, arrived(w.events, x.N)...)
			w.mu.Unlock()
		}
	}
}

func (w *writer) write(ctx context.Context) error {
	r, err := harness.Connect(ctx, w.order.URL, w.client.Token)
	if err != nil {
		return err
	}
	defer r.Close()
	for ; ; w.due = w.due.Add(writeInterval) {
		due := w.due
		time.Sleep(time.Until(due))
		w.n++
		w.mu.Lock()
		w.events[w.n], w.writing = due, due
		if w.order.Receiver != "" {
			w.hooks[w.n] = due
		}
		w.mu.Unlock()
		a, err := r.Do("PUT", "/v3/Maps/"+w.client.Map+"/Items/k", map[string]any{"data": item{w.n}})
		if err == nil {
			err = a.Err()
		}
		w.mu.Lock()
		w.writing = time.Time{}
		w.report.Writes = append(w.report.Writes, since(due))
		if err != nil {
			delete(w.events, w.n)
			delete(w.hooks, w.n)
			w.due = time.Now()
		}
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (p *probe) query(ctx context.Context, c client) error {
	r, err := harness.Connect(ctx, p.order.URL, c.Token)
	if err != nil {
		return err
	}
	defer r.Close()
	for i := 0; ; i++ {
		due := time.Now()
		a, err := r.Do("POST", "/v3/Insights/"+c.Map+"/Items", map[string]any{"query_string": fmt.Sprintf(`n != "%d"`, i)})
		if err == nil {
			err = a.Err()
		}
		p.mu.Lock()
		p.report.Queries = append(p.report.Queries, since(due))
		p.mu.Unlock()
		if err != nil {
			return err
		}
		time.Sleep(queryInterval)
	}
}

// running is a probe as the tests see it.
type running struct{ *harness.Self }

func startProbe(t *testing.T, o order) running {
	t.Helper()
	text, err := json.Marshal(o)
	require.NoError(t, err)
	return running{harness.StartSelf(t, probeVariable+"="+string(text))}
}

func (r running) report(t *testing.T) (x report) {
	t.Helper()
	require.NoError(t, json.Unmarshal(r.Ask(), &x))
	return x
}

func percentile(all []float64, p float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
