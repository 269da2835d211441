// Package guard makes guessing credentials slow and seen: the answer to wrong
// ones is delayed, they are counted, and logged with the addresses that they
// came from, at most once a second.
//
// The delay occupies the goroutine and the connection that serve the request.
// How many wait at a time is bounded, in all and from one address; beyond that
// the answer comes at once, and its connection should be closed. Right
// credentials are never delayed or refused: an attacker must not be able to
// lock others out. What keeps secrets safe is their length; see Config of the
// server.
//
// Run owns the only goroutine.
package guard

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/server/audit"
)

// Config sets up a Guard. Zero is the default, a negative delay is none.
type Config struct {
	Delay   time.Duration // of an answer; 500 ms
	Waiting int           // answers at a time, a sixteenth of them for one address; 256
	Audit   audit.Log
	Metrics prometheus.Registerer // nil: not measured
}

// maxSources is how many addresses are told apart within a second.
const maxSources = 64

// logInterval is how often a line is written at most.
const logInterval = time.Second

// Guard counts and delays wrong credentials. Its methods may be called from any
// goroutine.
type Guard struct {
	config Config
	failed *prometheus.CounterVec

	mu      sync.Mutex
	waiting int
	held    map[string]int // of those who wait, by address
	recent  map[string]int // failures since the last line, by interface and address
	others  int            // and of those that are not told apart
}

// New makes a guard.
func New(c Config) *Guard {
	if c.Delay == 0 {
		c.Delay = 500 * time.Millisecond
	}
	if c.Waiting == 0 {
		c.Waiting = 256
	}
	g := &Guard{
		config: c, held: make(map[string]int), recent: make(map[string]int),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_wrong_credentials_total", Help: "Wrong credentials and tokens, by interface (the log has their addresses).",
		}, []string{"interface"}),
	}
	for _, by := range []string{"rest", "realtime"} {
		g.failed.WithLabelValues(by) // a rate needs a zero to begin with
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(g.failed)
	}
	return g
}

// Refused is called before wrong credentials are answered, and waits. It reports
// whether it did: if not, too many wait already.
func (g *Guard) Refused(ctx context.Context, by, source string) bool {
	g.failed.WithLabelValues(by).Inc()
	if !g.enter(by, source) {
		return false
	}
	defer g.leave(source)
	timer := time.NewTimer(g.config.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

func (g *Guard) enter(by, source string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if key := by + " " + source; len(g.recent) < maxSources || g.recent[key] > 0 {
		g.recent[key]++
	} else {
		g.others++
	}
	if g.config.Delay < 0 || g.waiting >= g.config.Waiting || g.held[source] >= max(1, g.config.Waiting/16) {
		return false
	}
	g.waiting++
	g.held[source]++
	return true
}

func (g *Guard) leave(source string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if g.held[source]--; g.held[source] == 0 {
		delete(g.held, source)
	}
}

// Run writes the lines, until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.report()
		case <-ctx.Done():
			g.report()
			return
		}
	}
}

// report writes one line for what failed since the last one.
func (g *Guard) report() {
	g.mu.Lock()
	recent, others := g.recent, g.others
	if len(recent) == 0 {
		g.mu.Unlock()
		return
	}
	g.recent, g.others = make(map[string]int), 0
	g.mu.Unlock()
	total := others
	var sources []string
	for _, key := range slices.SortedFunc(maps.Keys(recent), func(a, b string) int {
		return 2*(recent[b]-recent[a]) + strings.Compare(a, b)
	}) {
		total += recent[key]
		if len(sources) < 4 {
			sources = append(sources, fmt.Sprintf("%s ×%d", key, recent[key]))
		}
	}
	g.config.Audit.Warn("wrong credentials", "count", total, "addresses", len(recent), "most", strings.Join(sources, ", "))
}
