package console

import (
	"context"
	"math"
	"sync"
	"time"
)

// A node measures itself at intervals, and remembers the last ten minutes.
const (
	sampleInterval = 2 * time.Second
	maxSamples     = 300
)

// Sample is what a node did in an interval.
type Sample struct {
	At       int64   `json:"t"`        // its end, Unix milliseconds
	Writes   float64 `json:"writes"`   // a second, of those that came to this node
	Reads    float64 `json:"reads"`    // likewise
	WriteP50 float64 `json:"w50"`      // milliseconds; 0 without writes
	WriteP99 float64 `json:"w99"`      //
	ReadP50  float64 `json:"r50"`      //
	ReadP99  float64 `json:"r99"`      //
	Age      float64 `json:"age"`      // seconds since it had all that was committed
	Sessions int     `json:"sessions"` // at the end
	Refused  float64 `json:"refused"`  // a second, by rate limits
}

// sampler keeps a node's samples.
type sampler struct {
	writes, reads *Meter

	mu      sync.Mutex
	samples []Sample // the newest last
}

// Run measures until the context ends.
func (c *Console) Run(ctx context.Context) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	writes, reads := c.sampler.writes.counts(), c.sampler.reads.counts()
	_, refused := c.Node.Refusals()
	for last := time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		seconds := max(now.Sub(last).Seconds(), 0.001)
		last = now
		g := c.Node.Gauges()
		s := Sample{At: c.Clock().UnixMilli(), Age: round(g.Age.Seconds()), Sessions: g.Sessions}
		s.Writes, s.WriteP50, s.WriteP99, writes = measure(c.sampler.writes, &writes, seconds)
		s.Reads, s.ReadP50, s.ReadP99, reads = measure(c.sampler.reads, &reads, seconds)
		_, all := c.Node.Refusals()
		s.Refused, refused = round(float64(all-refused)/seconds), all
		c.sampler.add(s)
	}
}

func measure(m *Meter, before *counts, seconds float64) (rate, p50, p99 float64, now counts) {
	now = m.counts()
	more, total := now.since(before)
	if total > 0 {
		p50, p99 = more.quantile(.5, total), more.quantile(.99, total)
	}
	return round(float64(total) / seconds), p50, p99, now
}

func round(x float64) float64 { return math.Round(x*100) / 100 }

func (s *sampler) add(x Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) == maxSamples {
		s.samples = append(s.samples[:0], s.samples[1:]...)
	}
	s.samples = append(s.samples, x)
}

// after returns the samples that ended after a time.
func (s *sampler) after(at int64) []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := len(s.samples)
	for first > 0 && s.samples[first-1].At > at {
		first--
	}
	return append([]Sample{}, s.samples[first:]...)
}
