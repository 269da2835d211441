package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations, to within a hundredth, in little memory. The zero
// value is ready; any number of goroutines may add.
type Histogram struct {
	counts [bucketCount]atomic.Int64
	max    atomic.Int64 // µs
}

// A bucket is for one number of microseconds up to 2^precision, and for 2^n of
// them beyond, with 2^precision buckets for each doubling.
const (
	precision   = 7
	longest     = 36 // 2^36 µs are 19 hours
	bucketCount = (longest - precision + 1) << precision
)

func bucketOf(µs uint64) int {
	µs = min(µs, 1<<longest-1)
	if µs < 1<<precision {
		return int(µs)
	}
	shift := bits.Len64(µs) - precision - 1
	return shift<<precision + int(µs>>shift)
}

// middle returns the duration in the middle of a bucket.
func middle(bucket int) time.Duration {
	if bucket < 2<<precision {
		return time.Duration(bucket) * time.Microsecond
	}
	shift := bucket>>precision - 1
	lowest := uint64(bucket-shift<<precision) << shift
	return time.Duration(lowest+1<<shift/2) * time.Microsecond
}

// Add counts a duration; one below zero counts as zero.
func (h *Histogram) Add(d time.Duration) {
	µs := max(0, d.Microseconds())
	h.counts[bucketOf(uint64(µs))].Add(1)
	for old := h.max.Load(); µs > old && !h.max.CompareAndSwap(old, µs); old = h.max.Load() {
	}
}

// Latency sums up durations.
type Latency struct {
	Count               int64
	P50, P99, P999, Max time.Duration
}

// Summary sums up what was counted.
func (h *Histogram) Summary() Latency {
	l := Latency{Max: time.Duration(h.max.Load()) * time.Microsecond}
	for i := range h.counts {
		l.Count += h.counts[i].Load()
	}
	l.P50, l.P99, l.P999 = h.quantile(l.Count, 500), h.quantile(l.Count, 990), h.quantile(l.Count, 999)
	return l
}

// quantile returns the duration that so many thousandths of count do not exceed.
func (h *Histogram) quantile(count, thousandths int64) time.Duration {
	rank := (count*thousandths + 999) / 1000
	for i := range h.counts {
		if rank -= h.counts[i].Load(); rank <= 0 && count > 0 {
			return middle(i)
		}
	}
	return 0
}

// Reset forgets what was counted. Nobody may add meanwhile.
func (h *Histogram) Reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
	h.max.Store(0)
}
