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
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// probeVariable holds what a probe is to do, in the environment of its process.
const probeVariable = "ATTACK_PROBE"

// order is what a probe is to do: it writes the items of a map through one
// session and hears of them in another, at a fixed rate.
type order struct {
	URL, Token string // of the node that is attacked
	Map        string // SID
	Queries    bool   // also ask for the map's items by a query, twice a second
	Receiver   string // also be a webhook's receiver, at this address
}

// report is what a probe felt since the last one, in milliseconds. What had not
// come yet counts as long as it has been missing.
type report struct {
	Events, Writes, Queries, Webhooks []float64

	Failed int // writes and queries that were refused or lost with their session
	Error  string
}

const writeInterval = 125 * time.Millisecond

// probe is the innocent client. It has a process of its own, so that what the
// attackers cost on their side is not in its figures, and measures from the
// moment at which something was due, so that its own waiting counts.
type probe struct {
	order order

	mu      sync.Mutex
	report  report
	events  map[int]time.Time // due and not heard of yet, by number
	hooks   map[int]time.Time
	writing time.Time // since when the writer waits; zero: it does not
}

// runProbe is the whole life of a probe's process: each line that it reads is
// a request for a report.
func runProbe(text string) {
	p := &probe{events: map[int]time.Time{}, hooks: map[int]time.Time{}}
	if err := json.Unmarshal([]byte(text), &p.order); err != nil {
		panic(err)
	}
	ctx := context.Background()
	if p.order.Receiver != "" {
		l, err := net.Listen("tcp", p.order.Receiver)
		if err != nil {
			panic(err)
		}
		go func() { _ = http.Serve(l, http.HandlerFunc(p.receive)) }()
	}
	go p.again(func() error { return p.listen(ctx) })
	n := 1000 // numbers of one length: no write makes the state grow
	go p.again(func() error { return p.write(ctx, &n) })
	if p.order.Queries {
		go p.again(func() error { return p.query(ctx) })
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
	for n, due := range p.events {
		if missing := since(due); missing > 1000 {
			r.Events = append(r.Events, missing)
			delete(p.events, n)
		}
	}
	for n, due := range p.hooks {
		if missing := since(due); missing > 1000 {
			r.Webhooks = append(r.Webhooks, missing)
			delete(p.hooks, n)
		}
	}
	if !p.writing.IsZero() && since(p.writing) > 1000 {
		r.Writes = append(r.Writes, since(p.writing))
	}
	return r
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

func (p *probe) receive(w http.ResponseWriter, r *http.Request) {
	var x item
	if json.Unmarshal([]byte(r.PostFormValue("ItemData")), &x) == nil {
		p.mu.Lock()
		p.report.Webhooks = append(p.report.Webhooks, arrived(p.hooks, x.N)...)
		p.mu.Unlock()
	}
}

func (p *probe) listen(ctx context.Context) error {
	r, err := harness.Connect(ctx, p.order.URL, p.order.Token)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Follow(p.order.Map, "map", 0); err != nil {
		return err
	}
	for {
		n, err := r.Next(time.Minute)
		if err != nil {
			return err
		}
		var x item
		if json.Unmarshal(n.Event.ItemData, &x) == nil {
			p.mu.Lock()
			p.report.Events = append(p.report.Events, arrived(p.events, x.N)...)
			p.mu.Unlock()
		}
	}
}

func (p *probe) write(ctx context.Context, n *int) error {
	r, err := harness.Connect(ctx, p.order.URL, p.order.Token)
	if err != nil {
		return err
	}
	defer r.Close()
	for due := time.Now(); ; due = due.Add(writeInterval) {
		time.Sleep(time.Until(due))
		*n++
		p.mu.Lock()
		p.events[*n], p.writing = due, due
		if p.order.Receiver != "" {
			p.hooks[*n] = due
		}
		p.mu.Unlock()
		a, err := r.Do("PUT", "/v3/Maps/"+p.order.Map+"/Items/k", map[string]any{"data": item{*n}})
		if err == nil {
			err = a.Err()
		}
		p.mu.Lock()
		p.writing = time.Time{}
		p.report.Writes = append(p.report.Writes, since(due))
		if err != nil {
			delete(p.events, *n)
			delete(p.hooks, *n)
		}
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (p *probe) query(ctx context.Context) error {
	r, err := harness.Connect(ctx, p.order.URL, p.order.Token)
	if err != nil {
		return err
	}
	defer r.Close()
	for i := 0; ; i++ {
		due := time.Now()
		a, err := r.Do("POST", "/v3/Insights/"+p.order.Map+"/Items", map[string]any{"query_string": fmt.Sprintf(`n != "%d"`, i)})
		if err == nil {
			err = a.Err()
		}
		p.mu.Lock()
		p.report.Queries = append(p.report.Queries, since(due))
		p.mu.Unlock()
		if err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// running is a probe as the tests see it.
type running struct {
	t      *testing.T
	ask    func() error
	answer *json.Decoder
}

func startProbe(t *testing.T, o order) *running {
	t.Helper()
	text, err := json.Marshal(o)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), probeVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // it says nothing
	})
	return &running{t: t, answer: json.NewDecoder(out), ask: func() error {
		_, err := in.Write([]byte("report\n"))
		return err
	}}
}

func (r *running) report() (x report) {
	r.t.Helper()
	require.NoError(r.t, r.ask())
	require.NoError(r.t, r.answer.Decode(&x))
	return x
}

func percentile(all []float64, p float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
