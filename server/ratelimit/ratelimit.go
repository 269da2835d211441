// Package ratelimit keeps token buckets: who may go on now, and how long the
// others have to wait.
//
// A bucket of rate r holds at most r · burst tokens and gains r a second. It
// is kept as the time at which it will be full again: a price of p tokens moves
// that time p/r seconds further into the future. A bucket that nobody has used
// is full and takes no memory; one that is full again is forgotten.
//
// The clock is the caller's, so that a limiter can run on virtual time. The
// package starts no goroutines, does no I/O, and does not know what the
// buckets stand for; a Limiter can be used by many goroutines at once.
package ratelimit

import (
	"hash/maphash"
	"time"
)

// Bucket names one limit.
type Bucket struct {
	Name string  // stable and unique, such as "write-map-MP…"; clients see it when they are refused
	Rate float64 // tokens a second, the same whenever the bucket is named; 0: no limit
}

// Limiter is a set of buckets, each full at first.
type Limiter struct {
	rates  Rates
	seed   maphash.Seed
	shards [shardCount]shard
}

const shardCount = 64

// New makes a limiter. The rates must be valid.
func New(rates Rates) *Limiter {
	return &Limiter{rates: rates.withDefaults(), seed: maphash.MakeSeed()}
}

// Rates gives the rates that the limiter was made with, from which callers take
// those of their buckets.
func (l *Limiter) Rates() Rates { return l.rates }

// Take takes price tokens from a bucket at the time now. It gives 0 if they
// were there. If not, it takes nothing and gives the time after which they
// will be, when nobody takes others meanwhile: whole seconds, at least one.
//
// A price above the capacity is let through by a full bucket, which then owes
// the rest, but never more than another capacity.
func (l *Limiter) Take(b Bucket, price float64, now time.Time) (retryAfter time.Duration) {
	return wholeSeconds(l.spend(b, price, now, false))
}

// Charge takes price tokens whether they are there or not: for what another
// node has let through already. A bucket owes at most its capacity.
func (l *Limiter) Charge(b Bucket, price float64, now time.Time) {
	l.spend(b, price, now, true)
}

// spend gives how long the price has to wait; it is not paid unless that is 0,
// or forced.
func (l *Limiter) spend(b Bucket, price float64, now time.Time, forced bool) (wait time.Duration) {
	if !(b.Rate > 0) || !(price > 0) {
		return 0
	}
	s := &l.shards[maphash.String(l.seed, b.Name)%shardCount]
	wait, turned := s.spend(b.Name, now, l.rates.Burst, cost(price/b.Rate, l.rates.Burst), forced)
	if turned {
		// Shards whose buckets nobody names any more must be emptied as well.
		for i := range l.shards {
			l.shards[i].turnAlone(now, l.rates.Burst)
		}
	}
	return wait
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
