// Package limits is the rate limits of an installation: what is counted, at
// what rate, and what each operation costs.
//
// They hold across nodes because they are kept where all writes and all
// read-index rounds meet, on the leader. The other nodes watch the applied
// writes go by and charge them to buckets of their own: when leadership moves,
// the new leader knows the levels, and the change is no licence for everybody's
// burst. Reads leave no trace in the log: of those a node remembers the ones that
// it passed to the leader.
//
// One identity may not use up what all share: its requests are counted in a
// bucket of its own besides, which gains less. Both pay or neither does.
//
// The methods may be called from any goroutine; the package starts none.
package limits

import (
	"context"
	"errors"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/ratelimit"
)

// Limits are one node's.
type Limits struct {
	table    table
	buckets  *ratelimit.Limiter[objects.Bucket]
	clock    func() time.Time
	admitted recent
}

// New returns limits at these rates, which must be valid.
func New(rates Rates, clock func() time.Time) *Limits {
	return &Limits{table: tableOf(rates), buckets: ratelimit.New[objects.Bucket](rates.Burst), clock: clock}
}

// Admit decides on the leader whether a command may enter the log: whether its
// buckets pay for it. known reports that it is a copy of one that was applied.
//
// A command that was let in once is let in again: its second copy comes from a
// node that does not know what became of the first, and must hear what became
// of it, not that it is one too many. After some repetitions that is no excuse
// any more: clients choose the ids of some commands.
func (l *Limits) Admit(view *fsm.View, c *fsm.Command, known bool) *objects.Error {
	cost, _ := ofCommand(view, c)
	if cost.price == 0 || !l.table.limits(cost.bucket) {
		return nil
	}
	times := l.admitted.times(c.ID)
	if known {
		times = max(times, 1)
	}
	if times > 0 && times <= maxRepeats {
		l.admitted.add(c.ID)
		return nil
	}
	wait := l.take(cost, l.clock())
	if wait == 0 {
		l.admitted.add(c.ID)
		return nil
	}
	return objects.ErrRate.With("Rate limit exceeded for %v", cost.bucket).After(int(wait / time.Second))
}

// maxRepeats is how many more times a command is let in for nothing.
const maxRepeats = 16

// AdmitReads decides on the leader about the reads of one round: of each bucket
// as many go on as it, and what it shares with others, have tokens for.
func (l *Limits) AdmitReads(charges []cluster.ReadCharge) []cluster.ReadGrant {
	now := l.clock()
	grants := make([]cluster.ReadGrant, len(charges))
	for i, c := range charges {
		g := &grants[i]
		for g.Count < c.Count && g.RetryAfter == 0 {
			if g.RetryAfter = l.take(charge{c.Bucket, 1}, now); g.RetryAfter == 0 {
				g.Count++
			}
		}
	}
	return grants
}

// ChargeRead remembers a read that another node, which leads, has let through.
func (l *Limits) ChargeRead(b objects.Bucket) { l.charge(charge{b, 1}, l.clock()) }

// Follow charges what this node sees applied while another one leads, until the
// context ends.
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

// chargeEvent charges at the time of the log entry, so that a log replayed after
// a restart is not a crowd of writes in one moment.
func (l *Limits) chargeEvent(e objects.Event) {
	at, now := time.UnixMilli(e.At), l.clock()
	if now.Sub(at) >= l.buckets.Burst() {
		return // it has been earned again since, and the buckets keep one time for all
	}
	if at.After(now) {
		at = now
	}
	l.charge(ofEvent(e), at)
}

func (l *Limits) take(c charge, now time.Time) time.Duration {
	own, shared := l.table.buckets(c.bucket)
	return l.buckets.Take(now, c.price, own, shared)
}

func (l *Limits) charge(c charge, at time.Time) {
	own, shared := l.table.buckets(c.bucket)
	l.buckets.Charge(at, c.price, own, shared)
}
