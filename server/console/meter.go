package console

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Durations are counted in buckets each of which is an eighth of a power of two wide,
// from 1 µs on: a quantile is right within 12%.
const (
	perDoubling = 8
	doublings   = 26 // up to a minute
	bucketCount = perDoubling * doublings
)

// Meter counts requests by how long they took. Its methods may be called from any
// goroutine.
type Meter struct {
	buckets [bucketCount]atomic.Uint64
}

// Observe counts a request.
func (m *Meter) Observe(took time.Duration) { m.buckets[bucketOf(took)].Add(1) }

func bucketOf(took time.Duration) int {
	µs := uint64(max(took.Microseconds(), 1))
	power := bits.Len64(µs) - 1
	part := 0
	if power >= 3 {
		part = int(µs>>(power-3)) & (perDoubling - 1)
	} else {
		part = int(µs<<(3-power)) & (perDoubling - 1)
	}
	return min(power*perDoubling+part, bucketCount-1)
}

// middleOf returns the duration that stands for a bucket, in milliseconds.
func middleOf(bucket int) float64 {
	low := math.Exp2(float64(bucket/perDoubling)) * (1 + float64(bucket%perDoubling)/perDoubling)
	high := math.Exp2(float64(bucket/perDoubling)) * (1 + float64(bucket%perDoubling+1)/perDoubling)
	return (low + high) / 2 / 1000
}

// counts is what a meter has counted until a moment.
type counts [bucketCount]uint64

func (m *Meter) counts() (c counts) {
	for i := range m.buckets {
		c[i] = m.buckets[i].Load()
	}
	return c
}

// since returns what was counted after an earlier moment, and how much in all.
func (c counts) since(earlier *counts) (more counts, total uint64) {
	for i := range c {
		more[i] = c[i] - earlier[i]
		total += more[i]
	}
	return more, total
}

// quantile returns the duration in milliseconds that a part of the requests did not
// exceed.
func (c *counts) quantile(part float64, total uint64) float64 {
	rank, seen := uint64(math.Ceil(part*float64(total))), uint64(0)
	for i, n := range c {
		if seen += n; seen >= rank && n > 0 {
			return math.Round(middleOf(i)*1000) / 1000
		}
	}
	return 0
}
