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
	writes = ratelimit.Bucket{Name: "write-map-MP1", Rate: 20}
)

// drain takes tokens one by one until a bucket refuses, and counts them.
func drain(l *ratelimit.Limiter, b ratelimit.Bucket, now time.Time) (taken int) {
	for l.Take(b, 1, now) == 0 {
		taken++
	}
	return taken
}

func TestTakeCapacityThenRate(t *testing.T) {
	for _, rate := range []float64{0.5, 1, 7, 20, 30, 60, 80, 333} {
		l := ratelimit.New(ratelimit.Default())
		b := ratelimit.Bucket{Name: "b", Rate: rate}
		require.Equal(t, int(rate*10), drain(l, b, start), "capacity at rate %v", rate)
		require.Equal(t, int(rate*4), drain(l, b, start.Add(4*time.Second)), "after 4 s at rate %v", rate)
		require.Equal(t, int(rate*10), drain(l, b, start.Add(time.Hour)), "full again at rate %v", rate)
	}
}

func TestTakeRetryAfter(t *testing.T) {
	l := ratelimit.New(ratelimit.Default())
	require.Equal(t, 200, drain(l, writes, start))
	for _, c := range []struct {
		price float64
		want  time.Duration
	}{
		{1, time.Second}, {10, time.Second}, {20, time.Second}, {21, 2 * time.Second}, {100, 5 * time.Second},
		{200, 10 * time.Second},
		{500, 10 * time.Second}, // more than fits: as soon as it is full
	} {
		require.Equal(t, c.want, l.Take(writes, c.price, start), "price %v", c.price)
	}
	require.Equal(t, time.Second, l.Take(writes, 1, start.Add(49*time.Millisecond)))
	require.Zero(t, l.Take(writes, 1, start.Add(50*time.Millisecond)))
}

func TestTakeRefusedCostsNothing(t *testing.T) {
	l := ratelimit.New(ratelimit.Default())
	require.Equal(t, 200, drain(l, writes, start))
	for range 1000 {
		require.NotZero(t, l.Take(writes, 10, start))
	}
	require.Equal(t, 20, drain(l, writes, start.Add(time.Second)))
}

func TestTakePriceAboveCapacity(t *testing.T) {
	l := ratelimit.New(ratelimit.Default())
	slow := ratelimit.Bucket{Name: "slow", Rate: 0.5} // capacity 5
	require.Zero(t, l.Take(slow, 10, start), "full")
	require.Equal(t, 20*time.Second, l.Take(slow, 10, start), "owes 5")
	require.Equal(t, 12*time.Second, l.Take(slow, 1, start))
	require.Equal(t, time.Second, l.Take(slow, 10, start.Add(20*time.Second-1)))
	require.Zero(t, l.Take(slow, 10, start.Add(20*time.Second)), "full again")

	require.Zero(t, l.Take(slow, 1e300, start.Add(time.Minute)))
	require.Zero(t, l.Take(slow, math.Inf(1), start.Add(time.Minute+20*time.Second)), "never owes more than its capacity")
}

func TestTakeWithoutLimit(t *testing.T) {
	l := ratelimit.New(ratelimit.Off())
	for _, rate := range []float64{0, -1, math.NaN()} {
		for range 1000 {
			require.Zero(t, l.Take(ratelimit.Bucket{Name: "b", Rate: rate}, 1e9, start))
		}
	}
	require.Equal(t, 200, drain(l, writes, start), "a limit of its own holds")
}

func TestTakeOthersAreNotAffected(t *testing.T) {
	l := ratelimit.New(ratelimit.Default())
	require.Equal(t, 200, drain(l, writes, start))
	for i := range 500 {
		require.Equal(t, 10, drain(l, ratelimit.Bucket{Name: fmt.Sprint(i), Rate: 1}, start))
	}
}

func TestCharge(t *testing.T) {
	l := ratelimit.New(ratelimit.Default())
	l.Charge(writes, 50, start)
	require.Equal(t, 150, drain(l, writes, start))

	l.Charge(writes, 100, start)
	require.Equal(t, 6*time.Second, l.Take(writes, 1, start), "100 are owed")

	for range 100 {
		l.Charge(writes, 100, start)
	}
	require.Equal(t, 11*time.Second, l.Take(writes, 1, start), "at most a capacity is owed")
	require.Equal(t, 20, drain(l, writes, start.Add(11*time.Second)))
	l.Charge(ratelimit.Bucket{Name: "free"}, 100, start)
}

func TestTakeClockSetBack(t *testing.T) {
	l := ratelimit.New(ratelimit.Default())
	require.Equal(t, 200, drain(l, writes, start))
	back := start.Add(-24 * time.Hour)
	wait := l.Take(writes, 1, back)
	require.LessOrEqual(t, wait, 11*time.Second, "nobody is locked out for a day")

	l = ratelimit.New(ratelimit.Default())
	require.Equal(t, 200, drain(l, writes, start))
	for i := range 200 { // callers that read the clock at once, and arrive in another order
		require.NotZero(t, l.Take(writes, 1, start.Add(-time.Duration(i)*time.Microsecond)))
	}
}

func TestTakeConcurrently(t *testing.T) {
	l := ratelimit.New(ratelimit.Default())
	var taken atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				if l.Take(writes, 1, start) == 0 {
					taken.Add(1)
				}
				l.Take(ratelimit.Bucket{Name: strconv.Itoa(j), Rate: 1}, 1, start.Add(time.Duration(i*j)*time.Millisecond))
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
		l := ratelimit.New(ratelimit.Rates{Burst: burst})
		b := ratelimit.Bucket{Name: "b", Rate: rate}

		type admission struct {
			at    time.Time
			price float64
		}
		var admitted []admission
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*burst)).Draw(t, "pause")) >> rapid.IntRange(0, 12).Draw(t, "shift"))
			price := rapid.Float64Range(0.01, capacity).Draw(t, "price")
			if wait := l.Take(b, price, now); wait > 0 {
				require.Zero(t, wait%time.Second)
				now = now.Add(wait)
				require.Zero(t, l.Take(b, price, now), "after the time that was named")
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
		l := ratelimit.New(ratelimit.Default())
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
			b := ratelimit.Bucket{Name: name, Rate: rate}
			if rapid.Bool().Draw(t, "charge") {
				l.Charge(b, price, now)
				levels[name] = max(levels[name]-price, -capacity)
				continue
			}
			if missing := min(price, capacity) - levels[name]; missing > 0 {
				require.Equal(t, math.Ceil(missing/rate), l.Take(b, price, now).Seconds())
				continue
			}
			require.Zero(t, l.Take(b, price, now))
			levels[name] = max(levels[name]-price, -capacity)
		}
	})
}

func TestWritePrice(t *testing.T) {
	for bytes, want := range map[int]float64{
		0: 1, 1: 1, 1023: 1, 1024: 1, 1536: 1.5, 2048: 2, 5120: 5, 10239: 10239.0 / 1024, 10240: 10, 10241: 10, 16384: 10,
	} {
		require.Equal(t, want, ratelimit.WritePrice(bytes), "%d bytes", bytes)
	}
}

func BenchmarkTakeOneBucket(b *testing.B) {
	l := ratelimit.New(ratelimit.Default())
	b.ReportAllocs()
	for b.Loop() {
		l.Take(writes, 1, time.Now())
	}
}

func BenchmarkTakeManyBuckets(b *testing.B) {
	names := make([]string, 1<<16)
	for i := range names {
		names[i] = fmt.Sprintf("write-map-MP%032x", i)
	}
	l := ratelimit.New(ratelimit.Default())
	var next atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Take(ratelimit.Bucket{Name: names[next.Add(1)&(1<<16-1)], Rate: 20}, 1, time.Now())
		}
	})
}
