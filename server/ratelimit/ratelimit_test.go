package ratelimit_test

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/server/ratelimit"
)

var (
	start  = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	writes = ratelimit.Bucket[string]{Key: "write-map-MP1", Rate: 20}
)

// drain takes tokens one by one until a bucket refuses, and counts them.
func drain(l *ratelimit.Limiter[string], b ratelimit.Bucket[string], now time.Time) (taken int) {
	for l.Take(now, 1, b) == 0 {
		taken++
	}
	return taken
}

func TestTakeCapacityThenRate(t *testing.T) {
	for _, rate := range []float64{0.5, 1, 7, 20, 30, 60, 80, 333} {
		l := ratelimit.New[string](0)
		b := ratelimit.Bucket[string]{Key: "b", Rate: rate}
		require.Equal(t, int(rate*10), drain(l, b, start), "capacity at rate %v", rate)
		require.Equal(t, int(rate*4), drain(l, b, start.Add(4*time.Second)), "after 4 s at rate %v", rate)
		require.Equal(t, int(rate*10), drain(l, b, start.Add(time.Hour)), "full again at rate %v", rate)
	}
}

func TestTakeRetryAfter(t *testing.T) {
	l := ratelimit.New[string](0)
	require.Equal(t, 200, drain(l, writes, start))
	for _, c := range []struct {
		price float64
		want  time.Duration
	}{
		{1, time.Second}, {10, time.Second}, {20, time.Second}, {21, 2 * time.Second}, {100, 5 * time.Second},
		{200, 10 * time.Second},
		{500, 10 * time.Second}, // more than fits: as soon as it is full
	} {
		require.Equal(t, c.want, l.Take(start, c.price, writes), "price %v", c.price)
	}
	require.Equal(t, time.Second, l.Take(start.Add(49*time.Millisecond), 1, writes))
	require.Zero(t, l.Take(start.Add(50*time.Millisecond), 1, writes))
}

func TestTakeRefusedCostsNothing(t *testing.T) {
	l := ratelimit.New[string](0)
	require.Equal(t, 200, drain(l, writes, start))
	for range 1000 {
		require.NotZero(t, l.Take(start, 10, writes))
	}
	require.Equal(t, 20, drain(l, writes, start.Add(time.Second)))
}

func TestTakePriceAboveCapacity(t *testing.T) {
	l := ratelimit.New[string](0)
	slow := ratelimit.Bucket[string]{Key: "slow", Rate: 0.5} // capacity 5
	require.Zero(t, l.Take(start, 10, slow), "full")
	require.Equal(t, 20*time.Second, l.Take(start, 10, slow), "owes 5")
	require.Equal(t, 12*time.Second, l.Take(start, 1, slow))
	require.Equal(t, time.Second, l.Take(start.Add(20*time.Second-1), 10, slow))
	require.Zero(t, l.Take(start.Add(20*time.Second), 10, slow), "full again")

	require.Zero(t, l.Take(start.Add(time.Minute), 1e300, slow))
	require.Zero(t, l.Take(start.Add(time.Minute+20*time.Second), math.Inf(1), slow), "never owes more than its capacity")
}

func TestTakeWithoutLimit(t *testing.T) {
	l := ratelimit.New[string](0)
	for _, rate := range []float64{0, -1, math.NaN()} {
		for range 1000 {
			require.Zero(t, l.Take(start, 1e9, ratelimit.Bucket[string]{Key: "b", Rate: rate}))
		}
	}
	require.Equal(t, 200, drain(l, writes, start), "a limit of its own holds")
}

func TestTakeOthersAreNotAffected(t *testing.T) {
	l := ratelimit.New[string](0)
	require.Equal(t, 200, drain(l, writes, start))
	for i := range 500 {
		require.Equal(t, 10, drain(l, ratelimit.Bucket[string]{Key: fmt.Sprint(i), Rate: 1}, start))
	}
}

func TestCharge(t *testing.T) {
	l := ratelimit.New[string](0)
	l.Charge(start, 50, writes)
	require.Equal(t, 150, drain(l, writes, start))

	l.Charge(start, 100, writes)
	require.Equal(t, 6*time.Second, l.Take(start, 1, writes), "100 are owed")

	for range 100 {
		l.Charge(start, 100, writes)
	}
	require.Equal(t, 11*time.Second, l.Take(start, 1, writes), "at most a capacity is owed")
	require.Equal(t, 20, drain(l, writes, start.Add(11*time.Second)))
	l.Charge(start, 100, ratelimit.Bucket[string]{Key: "free"})
}

func TestTakeClockSetBack(t *testing.T) {
	l := ratelimit.New[string](0)
	require.Equal(t, 200, drain(l, writes, start))
	back := start.Add(-24 * time.Hour)
	wait := l.Take(back, 1, writes)
	require.LessOrEqual(t, wait, 11*time.Second, "nobody is locked out for a day")

	l = ratelimit.New[string](0)
	require.Equal(t, 200, drain(l, writes, start))
	for i := range 200 { // callers that read the clock at once, and arrive in another order
		require.NotZero(t, l.Take(start.Add(-time.Duration(i)*time.Microsecond), 1, writes))
	}
}

func TestTakeConcurrently(t *testing.T) {
	l := ratelimit.New[string](0)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				if l.Take(start, 1, writes) == 0 {
					taken.Add(1)
				}
				l.Take(start.Add(time.Duration(i*j)*time.Millisecond), 1, ratelimit.Bucket[string]{Key: strconv.Itoa(j), Rate: 1})
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 200, taken.Load())
}

// TestTakeWindows: in no window of time is more admitted than the capacity and
// what the rate adds; every refusal names a time at which the price passes.
func TestTakeWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := time.Duration(rapid.Int64Range(int64(time.Second), int64(30*time.Second)).Draw(t, "burst"))
		rate := rapid.Float64Range(0.1, 100).Draw(t, "rate")
		capacity := rate * burst.Seconds()
		l := ratelimit.New[string](burst)
		b := ratelimit.Bucket[string]{Key: "b", Rate: rate}

		type admission struct {
			at    time.Time
			price float64
		}
		var admitted []admission
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*burst)).Draw(t, "pause")) >> rapid.IntRange(0, 12).Draw(t, "shift"))
			price := rapid.Float64Range(0.01, capacity).Draw(t, "price")
			if wait := l.Take(now, price, b); wait > 0 {
				require.Zero(t, wait%time.Second)
				now = now.Add(wait)
				require.Zero(t, l.Take(now, price, b), "after the time that was named")
			}
			admitted = append(admitted, admission{now, price})
		}
		for i := range admitted {
			sum := 0.0
			for _, a := range admitted[i:] {
				sum += a.price
				limit := capacity + rate*a.at.Sub(admitted[i].at).Seconds()
				require.LessOrEqual(t, sum, limit+1e-5, "rounding to nanoseconds aside")
			}
		}
	})
}

// TestTakeAgainstModel: forgetting full buckets is never noticed.
func TestTakeAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const rate, capacity = 4.0, 40.0
		l := ratelimit.New[string](0)
		levels := map[string]float64{"a": capacity, "b": capacity, "c": capacity}
		now := start
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			pause := time.Duration(rapid.IntRange(0, 60).Draw(t, "quarters")) * 250 * time.Millisecond
			now = now.Add(pause)
			for name, level := range levels {
				levels[name] = min(capacity, level+rate*pause.Seconds())
			}
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
			price := float64(rapid.IntRange(1, 100).Draw(t, "price"))
			b := ratelimit.Bucket[string]{Key: name, Rate: rate}
			if rapid.Bool().Draw(t, "charge") {
				l.Charge(now, price, b)
				levels[name] = max(levels[name]-price, -capacity)
				continue
			}
			if missing := min(price, capacity) - levels[name]; missing > 0 {
				require.Equal(t, math.Ceil(missing/rate), l.Take(now, price, b).Seconds())
				continue
			}
			require.Zero(t, l.Take(now, price, b))
			levels[name] = max(levels[name]-price, -capacity)
		}
	})
}

func BenchmarkTakeOneBucket(b *testing.B) {
	l := ratelimit.New[string](0)
	b.ReportAllocs()
	for b.Loop() {
		l.Take(time.Now(), 1, writes)
	}
}

func BenchmarkTakeManyBuckets(b *testing.B) {
	names := make([]string, 1<<16)
	for i := range names {
		names[i] = fmt.Sprintf("write-map-MP%032x", i)
	}
	l := ratelimit.New[string](0)
	var next atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Take(time.Now(), 1, ratelimit.Bucket[string]{Key: names[next.Add(1)&(1<<16-1)], Rate: 20})
		}
	})
}

func TestTakeFromSeveralBucketsOrNone(t *testing.T) {
	l := ratelimit.New[string](0)
	own := ratelimit.Bucket[string]{Key: "own", Rate: 15}
	shared := ratelimit.Bucket[string]{Key: "shared", Rate: 20}
	free := ratelimit.Bucket[string]{Key: "free"}
	for range 150 {
		require.Zero(t, l.Take(start, 1, own, shared, free))
	}
	for range 100 {
		require.Equal(t, time.Second, l.Take(start, 1, own, shared), "its own is empty")
	}
	require.Equal(t, 50, drain(l, shared, start), "of what all share it took no more")
	later := start.Add(2 * time.Second)
	require.Equal(t, 40, drain(l, shared, later))
	for range 100 {
		require.Equal(t, time.Second, l.Take(later, 1, own, shared), "what all share is empty")
	}
	require.Equal(t, 30, drain(l, own, later), "its own lost nothing")
	require.Equal(t, 2*time.Second, l.Take(later, 21, own, shared), "the longer wait counts")
}

func TestTakeFromSeveralConcurrently(t *testing.T) {
	l := ratelimit.New[string](0)
	shared := ratelimit.Bucket[string]{Key: "shared", Rate: 20}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				own := ratelimit.Bucket[string]{Key: strconv.Itoa((i + j) % 16), Rate: 15}
				both := []ratelimit.Bucket[string]{own, shared}
				if j%2 == 0 {
					both[0], both[1] = shared, own
				}
				if l.Take(start, 1, both...) == 0 {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 200, taken.Load())
}
