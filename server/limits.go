package server

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/ratelimit"
)

// limits are the rate limits of the installation. They hold across nodes
// because they are kept where all writes and all read-index rounds meet, on the
// leader. The other nodes watch the applied writes go by and charge them to
// buckets of their own: when leadership moves, the new leader knows the levels,
// and the change is no licence for everybody's burst. Reads leave no trace in
// the log: of those a node remembers the ones that it passed to the leader.
//
// Admitting may be called from any goroutine. follow is one goroutine, owned by
// the Server.
type limits struct {
	buckets *ratelimit.Limiter
	rates   ratelimit.Rates
	clock   func() time.Time
	space   space

	// store is this node's own. It is there before the node can lead.
	store atomic.Pointer[fsm.FSM]

	admitted recent
}

func newLimits(rates ratelimit.Rates, clock func() time.Time, space space) *limits {
	return &limits{buckets: ratelimit.New(rates), rates: rates, clock: clock, space: space}
}

// admit decides on the leader whether a command may enter the log: whether its
// bucket pays for it, and whether there is space for it. A refusal is a result;
// nil lets it in.
func (l *limits) admit(c *fsm.Command) *fsm.Result {
	store := l.store.Load()
	if store == nil {
		return nil
	}
	view := store.View()
	if refusal := l.admitRate(store, view, c); refusal != nil {
		return refusal
	}
	if refused := l.space.refuse(view, c); refused != nil {
		if _, known := store.Lookup(c.ID); !known {
			return &fsm.Result{Err: refused}
		}
	}
	return nil
}

// admitRate decides whether a command's bucket pays for it.
//
// A command that was let in once is let in again: its second copy comes from a
// node that does not know what became of the first, and must hear what became
// of it, not that it is one too many. After some repetitions that is no excuse
// any more: clients choose the ids of some commands.
func (l *limits) admitRate(store *fsm.FSM, view *fsm.View, c *fsm.Command) *fsm.Result {
	b, price, limited := l.price(view, c)
	if !limited || b.Rate == 0 {
		return nil
	}
	times := l.admitted.times(c.ID)
	if times == 0 {
		if _, known := store.Lookup(c.ID); known {
			times = 1
		}
	}
	if times > 0 && times <= maxRepeats {
		l.admitted.add(c.ID)
		return nil
	}
	wait := l.buckets.Take(b, price, l.clock())
	if wait == 0 {
		l.admitted.add(c.ID)
		return nil
	}
	return &fsm.Result{Err: rateExceeded(b.Name, wait)}
}

// maxRepeats is how many more times a command is let in for nothing.
const maxRepeats = 16

func rateExceeded(bucket string, wait time.Duration) *objects.Error {
	return objects.ErrRate.With("Rate limit exceeded for %s", bucket).After(int(wait / time.Second))
}

// price says which bucket pays for a command, and how much. Commands of the
// cluster itself, of services and of keys are not limited, nor are those that
// address what does not exist: they change nothing.
func (l *limits) price(view *fsm.View, c *fsm.Command) (b ratelimit.Bucket, price float64, limited bool) {
	service, ok := view.Service(fsm.Ref{SID: c.Service})
	if !ok {
		return b, 0, false
	}
	target := func(kind objects.Kind, ref fsm.Ref) (o *objects.Object, ok bool) {
		return view.Object(service.Num, kind, ref)
	}
	switch op := c.Op.(type) {
	case *fsm.CreateObject:
		return l.creation(op.SID.Kind(), service.SID), 1, true
	case *fsm.UpdateObject:
		o, ok := target(op.Kind, op.Object)
		return l.writeBy(c.Actor, view, service, o), ratelimit.WritePrice(len(op.Data)), ok
	case *fsm.WriteItem:
		o, ok := target(op.Kind, op.Object)
		return l.writeBy(c.Actor, view, service, o), ratelimit.WritePrice(len(op.Data)), ok
	case *fsm.RemoveItem:
		o, ok := target(op.Kind, op.Object)
		return l.writeBy(c.Actor, view, service, o), 1, ok
	case *fsm.Publish:
		o, ok := target(objects.KindStream, op.Stream)
		return l.message(o), 1, ok
	case *fsm.SetPermission:
		o, ok := target(op.Kind, op.Object)
		return l.permission(o), 1, ok
	case *fsm.RemovePermission:
		o, ok := target(op.Kind, op.Object)
		return l.permission(o), 1, ok
	}
	return b, 0, false
}

func (l *limits) creation(kind objects.Kind, service objects.SID) ratelimit.Bucket {
	return ratelimit.Bucket{Name: "create-" + kind.String() + "-" + service.String(), Rate: l.rates.Creations}
}

// writeBy is write for those who may. Who may not pays from a bucket of his own,
// so that nobody can use up the writes of an object that is not his to write.
func (l *limits) writeBy(a fsm.Actor, view *fsm.View, s *objects.Service, o *objects.Object) ratelimit.Bucket {
	if o != nil && !view.May(a, s, o, objects.Write) {
		return ratelimit.Bucket{Name: "denied-" + s.SID.String() + "-" + a.Identity, Rate: l.rates.Writes}
	}
	return l.write(o)
}

func (l *limits) write(o *objects.Object) ratelimit.Bucket {
	return bucketOf("write-", o, l.rates.Writes)
}

func (l *limits) message(o *objects.Object) ratelimit.Bucket {
	return bucketOf("publish-", o, l.rates.Messages)
}

func (l *limits) permission(o *objects.Object) ratelimit.Bucket {
	if o == nil {
		return ratelimit.Bucket{}
	}
	return ratelimit.Bucket{Name: "write-permission-" + o.SID.String(), Rate: l.rates.Permissions}
}

func bucketOf(prefix string, o *objects.Object, rate float64) ratelimit.Bucket {
	if o == nil {
		return ratelimit.Bucket{}
	}
	return ratelimit.Bucket{Name: prefix + o.Kind().String() + "-" + o.SID.String(), Rate: rate}
}

// admitReads decides on the leader about the reads of one round: of each bucket
// as many go on as it has tokens for.
func (l *limits) admitReads(charges []cluster.ReadCharge) []cluster.ReadGrant {
	now := l.clock()
	grants := make([]cluster.ReadGrant, len(charges))
	for i, c := range charges {
		bucket := ratelimit.Bucket{Name: c.Bucket, Rate: l.readRate(c.Bucket)}
		g := &grants[i]
		for g.Count < c.Count && g.RetryAfter == 0 {
			if g.RetryAfter = l.buckets.Take(bucket, 1, now); g.RetryAfter == 0 {
				g.Count++
			}
		}
	}
	return grants
}

// chargeRead remembers a read that another node, which leads, has let through.
func (l *limits) chargeRead(bucket string) {
	l.buckets.Charge(ratelimit.Bucket{Name: bucket, Rate: l.readRate(bucket)}, 1, l.clock())
}

// readRate tells the rate of a bucket for reads by its name, which is all that
// travels between nodes.
func (l *limits) readRate(bucket string) float64 {
	switch {
	case strings.HasPrefix(bucket, "read-permission-"):
		return l.rates.Permissions
	case strings.HasPrefix(bucket, "query-"):
		return l.rates.Queries
	}
	return l.rates.Reads
}

// follow charges what this node sees applied while another one leads, until the
// context ends.
func (l *limits) follow(ctx context.Context, feed *fsm.Feed, leads func() bool) {
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
			l.charge(e)
		}
	}
}

// charge prices an event as admit priced its command. It pays at the time of
// the log entry, so that a log replayed after a restart is not a crowd of
// writes in one moment.
func (l *limits) charge(e objects.Event) {
	at, now := time.UnixMilli(e.At), l.clock()
	if now.Sub(at) >= l.buckets.Rates().Burst {
		return // it has been earned again since, and the buckets keep one time for all
	}
	if at.After(now) {
		at = now
	}
	switch e.Type {
	case objects.ObjectCreated:
		l.buckets.Charge(l.creation(e.Object.Kind(), e.Object.ServiceSID), 1, at)
	case objects.ObjectUpdated, objects.ContextUpdated:
		l.buckets.Charge(l.write(e.Object), ratelimit.WritePrice(len(e.Object.Data)), at)
	case objects.ItemAdded, objects.ItemUpdated:
		l.buckets.Charge(l.write(e.Object), ratelimit.WritePrice(len(e.Item.Data)), at)
	case objects.ItemRemoved:
		if expired := e.Item.Expires != 0 && e.Item.Expires <= e.At; !expired {
			l.buckets.Charge(l.write(e.Object), 1, at)
		}
	case objects.MessagePublished:
		l.buckets.Charge(l.message(e.Object), 1, at)
	case objects.PermissionChanged:
		l.buckets.Charge(l.permission(e.Object), 1, at)
	}
}

// recentLength is after how many admissions the older half of them is forgotten.
const recentLength = 8192

// recent counts how often the last commands were let in, between one and two
// times recentLength of them: those that may be under way and not yet applied.
type recent struct {
	mu         sync.Mutex
	young, old map[fsm.CommandID]int
}

func (r *recent) times(id fsm.CommandID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(r.young[id], r.old[id])
}

func (r *recent) add(id fsm.CommandID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := max(r.young[id], r.old[id]) + 1
	if r.young == nil || len(r.young) >= recentLength {
		r.old, r.young = r.young, make(map[fsm.CommandID]int, recentLength)
	}
	r.young[id] = times
}
