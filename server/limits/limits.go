// Package limits holds the rate limits of an installation: the rates, and the price
// of each operation.
//
// The limits hold across nodes because the leader keeps them, where all writes and
// all read-index rounds meet. The other nodes charge the writes that they apply to
// buckets of their own, so that a new leader knows the levels and a change of
// leadership does not give every client a fresh burst. Reads leave no trace in the
// log, so each node remembers the reads that it passed to the leader.
//
// So that one identity cannot use up a shared bucket, its requests also pay from a
// bucket of its own, which gains less. Both buckets pay, or neither does.
//
// The methods may be called from any goroutine; the package starts none.
package limits

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/ratelimit"
)

// Limits are the limits that one node keeps.
type Limits struct {
	now      atomic.Pointer[limiter]
	clock    func() time.Time
	admitted recent
	refused  refusals
}

// limiter is the rates with what they are counted in.
type limiter struct {
	table   table
	buckets *ratelimit.Limiter[objects.Bucket]
}

// New returns limits at these rates, which must be valid.
func New(rates Rates, clock func() time.Time) *Limits {
	l := &Limits{clock: clock}
	l.now.Store(&limiter{tableOf(rates), ratelimit.New[objects.Bucket](rates.Burst)})
	return l
}

// Change sets other rates, which must be valid. What buckets lack they gain at the
// new rates; with another burst they begin full.
func (l *Limits) Change(rates Rates) {
	buckets := ratelimit.New[objects.Bucket](rates.Burst)
	if before := l.now.Load().buckets; before.Burst() == buckets.Burst() {
		buckets = before
	}
	l.now.Store(&limiter{tableOf(rates), buckets})
}

// Admit decides on the leader whether a command may enter the log, by charging its
// buckets. known reports that the command is a copy of one that was applied.
//
// A command that was admitted once is admitted again for free. The node that sends
// the second copy does not know the outcome of the first and must be told that
// outcome, not that a limit is reached. After maxRepeats copies the command pays
// again, because clients choose the ids of some commands.
func (l *Limits) Admit(view *fsm.View, c *fsm.Command, known bool) *objects.Error {
	if t, ok := c.Op.(*fsm.Transact); ok {
		costs, _ := ofParts(view, c, t)
		return l.admit(c.ID, known, costs)
	}
	cost, _ := ofCommand(view, c)
	return l.admit(c.ID, known, []charge{cost})
}

// admit decides about a command that costs so much in all.
func (l *Limits) admit(id fsm.CommandID, known bool, costs []charge) *objects.Error {
	limited := func(c charge) bool { return c.price > 0 && l.now.Load().table.limits(c.bucket) }
	if !slices.ContainsFunc(costs, limited) {
		return nil
	}
	times := l.admitted.times(id)
	if known {
		times = max(times, 1)
	}
	if times > 0 && times <= maxRepeats {
		l.admitted.add(id)
		return nil
	}
	wait, lacking := l.take(l.clock(), costs...)
	if wait == 0 {
		l.admitted.add(id)
		return nil
	}
	l.refused.note(lacking, 1, l.clock())
	of := "this transaction"
	if len(costs) == 1 {
		of = costs[0].bucket.String()
	}
	return objects.ErrRate.With("Rate limit exceeded for %s", of).After(int(wait / time.Second))
}

// maxRepeats is how many times a repeated command is admitted for free.
const maxRepeats = 16

// AdmitReads decides on the leader about the reads of one round. It grants each
// bucket as many reads as it, and the bucket it shares with others, have tokens for.
func (l *Limits) AdmitReads(charges []cluster.ReadCharge) []cluster.ReadGrant {
	now := l.clock()
	grants := make([]cluster.ReadGrant, len(charges))
	for i, c := range charges {
		g := &grants[i]
		for g.Count < c.Count && g.RetryAfter == 0 {
			if g.RetryAfter, _ = l.take(now, charge{c.Bucket, 1}); g.RetryAfter == 0 {
				g.Count++
			}
		}
		if g.Count < c.Count {
			l.refused.note(c.Bucket, int(c.Count-g.Count), now)
		}
	}
	return grants
}

// ChargeRead charges a read that another node has admitted as the leader.
func (l *Limits) ChargeRead(b objects.Bucket) { l.charge(charge{b, 1}, l.clock()) }

// Follow charges the writes that this node applies while another one leads, until
// the context ends.
func (l *Limits) Follow(ctx context.Context, feed *fsm.Feed, leads func() bool) {
	cursor := feed.Follow()
	for {
		batch, err := cursor.Next(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, fsm.ErrBehind) || leads() {
			continue
		}
		for _, e := range batch.Events {
			l.chargeEvent(e.Event)
		}
	}
}

// chargeEvent charges at the time of the log entry, so that a log replayed after a
// restart does not count as many writes at one moment.
func (l *Limits) chargeEvent(e objects.Event) {
	at, now := time.UnixMilli(e.At), l.clock()
	if now.Sub(at) >= l.now.Load().buckets.Burst() {
		return // it has been earned again since, and the buckets keep one time for all
	}
	if at.After(now) {
		at = now
	}
	l.charge(ofEvent(e), at)
}

// take has all buckets of all charges pay, or none: then it returns how long to wait,
// and which bucket lacks most.
func (l *Limits) take(now time.Time, charges ...charge) (wait time.Duration, lacking objects.Bucket) {
	limiter := l.now.Load()
	if len(charges) == 1 {
		own, shared := limiter.table.buckets(charges[0].bucket)
		return limiter.buckets.Take(now, charges[0].price, own, shared), charges[0].bucket
	}
	var all []ratelimit.Bucket[objects.Bucket]
	var of []objects.Bucket // the charge's, of each
	for _, c := range charges {
		own, shared := limiter.table.buckets(c.bucket)
		for _, b := range [...]ratelimit.Bucket[objects.Bucket]{own, shared} {
			i := slices.IndexFunc(all, func(other ratelimit.Bucket[objects.Bucket]) bool { return other.Key == b.Key })
			switch {
			case c.price == 0 || b.Rate == 0:
			case i < 0:
				b.Times = c.price
				all, of = append(all, b), append(of, c.bucket)
			default:
				all[i].Times += c.price
			}
		}
	}
	wait, i := limiter.buckets.TakeEach(now, all...)
	if i >= 0 {
		lacking = of[i]
	}
	return wait, lacking
}

func (l *Limits) charge(c charge, at time.Time) {
	limiter := l.now.Load()
	own, shared := limiter.table.buckets(c.bucket)
	limiter.buckets.Charge(at, c.price, own, shared)
}
