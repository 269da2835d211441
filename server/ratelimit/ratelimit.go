// Package ratelimit keeps token buckets. It decides which requests may go on now, and
// how long the others have to wait.
//
// A bucket of rate r holds at most r · burst tokens and gains r a second. It
// is kept as the time at which it will be full again: a price of p tokens moves
// that time p/r seconds further into the future. An unused bucket is full and takes
// no memory; one that is full again is forgotten.
//
// It is written by hand since golang.org/x/time/rate lacks three things that are
// needed here: a bucket that owes (for a price above its capacity, and for what
// another node has let through), several buckets of which all pay or none, and
// buckets by the million that cost nothing once they are full.
//
// The clock is the caller's, so that a limiter can run on virtual time. The
// package starts no goroutines, does no I/O, and does not know what the
// buckets stand for; a Limiter can be used by many goroutines at once.
package ratelimit

import (
	"hash/maphash"
	"slices"
	"time"
)

// Bucket is one limit.
type Bucket[K comparable] struct {
	Key  K
	Rate float64 // tokens a second, the same whenever the bucket is named; 0: no limit

	// Times is how many times the price this bucket pays, where several pay at once
	// and not all the same. Zero: once.
	Times float64
}

// time returns how long the bucket takes to gain its part of a price.
func (b Bucket[K]) time(price float64, burst time.Duration) time.Duration {
	if b.Times > 0 {
		price *= b.Times
	}
	return cost(price/b.Rate, burst)
}

func (b Bucket[K]) limits() bool { return b.Rate > 0 }

// Limiter is a set of buckets, each full at first. It keeps at most about half
// a million of them: when more have been used lately than that, those not used
// for longest are forgotten, which makes them full.
type Limiter[K comparable] struct {
	burst  time.Duration
	seed   maphash.Seed
	shards [shardCount]shard[K]
}

const shardCount = 64

// DefaultBurst is the time in which a bucket fills, if New is told nothing else.
const DefaultBurst = 10 * time.Second

// New returns a limiter whose buckets take so long to fill; zero: DefaultBurst.
func New[K comparable](burst time.Duration) *Limiter[K] {
	if burst == 0 {
		burst = DefaultBurst
	}
	return &Limiter[K]{burst: burst, seed: maphash.MakeSeed()}
}

// Burst returns the time in which a bucket fills.
func (l *Limiter[K]) Burst() time.Duration { return l.burst }

// Take takes price tokens, at the time now, from each of the buckets, which must
// differ. It returns 0 if they were there. If one of the buckets lacks them, it
// takes nothing from any and returns the time after which all will have them,
// when nobody takes others meanwhile: whole seconds, at least one.
//
// A price above the capacity is let through by a full bucket, which then owes
// the rest, but never more than another capacity.
func (l *Limiter[K]) Take(now time.Time, price float64, buckets ...Bucket[K]) (retryAfter time.Duration) {
	wait, _ := l.spend(now, price, false, buckets)
	return wholeSeconds(wait)
}

// TakeEach is Take of what each bucket is to pay (Bucket.Times), and returns which of
// them has to wait longest; -1 if none has to.
func (l *Limiter[K]) TakeEach(now time.Time, buckets ...Bucket[K]) (retryAfter time.Duration, lacking int) {
	wait, lacking := l.spend(now, 1, false, buckets)
	return wholeSeconds(wait), lacking
}

// Charge takes price tokens whether they are there or not: for what another
// node has let through already. A bucket owes at most its capacity.
func (l *Limiter[K]) Charge(now time.Time, price float64, buckets ...Bucket[K]) {
	l.spend(now, price, true, buckets)
}

// spend returns how long the price has to wait, and for which bucket, -1 for none; it
// is not paid unless it need not wait, or forced.
func (l *Limiter[K]) spend(now time.Time, price float64, forced bool, buckets []Bucket[K]) (wait time.Duration, lacking int) {
	lacking = -1
	if !(price > 0) || !slices.ContainsFunc(buckets, Bucket[K].limits) {
		return 0, lacking
	}
	const few = 4
	places := make([]int, 0, few) // of the shards, bucket by bucket
	for _, b := range buckets {
		places = append(places, int(maphash.Comparable(l.seed, b.Key)%shardCount))
	}
	locked := distinct(places)
	turned := l.lock(locked, now)
	for i, b := range buckets {
		if !b.limits() {
			continue
		}
		if its := l.shards[places[i]].wait(b.Key, now, l.burst, b.time(price, l.burst)); its > wait {
			wait, lacking = its, i
		}
	}
	if wait == 0 || forced {
		for i, b := range buckets {
			if b.limits() {
				l.shards[places[i]].spend(b.Key, now, l.burst, b.time(price, l.burst))
			}
		}
	}
	for _, p := range locked {
		l.shards[p].mu.Unlock()
	}
	if turned {
		// Shards whose buckets nobody names any more must be emptied as well.
		for i := range l.shards {
			l.shards[i].turnAlone(now, l.burst)
		}
	}
	return wait, lacking
}

// lock locks shards, which come in the order in which everybody locks them.
func (l *Limiter[K]) lock(places []int, now time.Time) (turned bool) {
	for _, p := range places {
		l.shards[p].mu.Lock()
		if l.shards[p].turn(now, l.burst) {
			turned = true
		}
	}
	return turned
}

// distinct returns the places in order, each once.
func distinct(places []int) []int {
	if len(places) < 2 {
		return places
	}
	sorted := slices.Sorted(slices.Values(places))
	return slices.Compact(sorted)
}

// cost is a price in time, at most what a bucket can lack. Fractions of a
// nanosecond are dropped, or a bucket of 300 tokens would let only 299 pass.
func cost(seconds float64, burst time.Duration) time.Duration {
	most := 2 * burst
	if seconds < most.Seconds() {
		return time.Duration(seconds * float64(time.Second))
	}
	return most
}

func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
