package webhook

import (
	"slices"
	"time"

	"lockstep/fsm"
)

// idle is how long the sender sleeps when nothing is due.
const idle = time.Hour

// queue orders deliveries: those of one stream (an object, or an identity) one
// after the other, different streams side by side. It belongs to one goroutine.
type queue struct {
	total, perService int
	seen              uint64
	streams           map[string]*stream
	order             []*stream // streams with something to send, in the order of arrival
	busy              map[uint64]int
	sending           int
	waiting           int // deliveries, those under way included
}

type stream struct {
	waiting []*fsm.Delivery
	sending bool
}

func newQueue(total, perService int) *queue {
	return &queue{total: total, perService: perService, streams: map[string]*stream{}, busy: map[uint64]int{}}
}

// add takes over what a view has that earlier ones had not.
func (q *queue) add(v *fsm.View) {
	v.Deliveries(q.seen, func(d *fsm.Delivery) bool {
		q.seen = d.Seq
		st := q.streams[d.Stream]
		if st == nil {
			st = &stream{}
			q.streams[d.Stream] = st
			q.order = append(q.order, st)
		}
		st.waiting = append(st.waiting, d)
		q.waiting++
		return true
	})
	if q.waiting > 2*v.WaitingDeliveries()+spare {
		q.prune(v)
	}
}

// spare is how many deliveries that the outbox has dropped are kept for want of
// a reason to look for them.
const spare = 1024

// prune forgets what the outbox has dropped: its bound is this queue's, too.
// What is under way stays.
func (q *queue) prune(v *fsm.View) {
	for name, st := range q.streams {
		first := 0
		if st.sending {
			first = 1
		}
		before := len(st.waiting)
		rest := slices.DeleteFunc(st.waiting[first:], func(d *fsm.Delivery) bool {
			_, there := v.Delivery(d.Seq)
			return !there
		})
		st.waiting = slices.Clone(st.waiting[:first+len(rest)])
		q.waiting -= before - len(st.waiting)
		if len(st.waiting) == 0 {
			delete(q.streams, name)
		}
	}
}

// due gives the deliveries to send now, and counts them as under way.
func (q *queue) due(now time.Time) []*fsm.Delivery {
	var out []*fsm.Delivery
	kept := q.order[:0]
	for _, st := range q.order {
		if len(st.waiting) == 0 && !st.sending {
			continue
		}
		kept = append(kept, st)
		if st.sending || q.sending >= q.total {
			continue
		}
		d := st.waiting[0]
		if q.busy[d.Service] >= q.perService || time.UnixMilli(d.NotBefore).After(now) {
			continue
		}
		st.sending = true
		q.sending++
		q.busy[d.Service]++
		out = append(out, d)
	}
	clear(q.order[len(kept):])
	q.order = kept
	return out
}

// untilDue is the time until a delivery that waits for its next attempt is due.
func (q *queue) untilDue(now time.Time) time.Duration {
	wait := idle
	for _, st := range q.order {
		if st.sending || len(st.waiting) == 0 {
			continue
		}
		if until := time.UnixMilli(st.waiting[0].NotBefore).Sub(now); until > 0 {
			wait = min(wait, until)
		}
	}
	return wait
}

// finish takes the outcome of an attempt: the next of its stream follows, or
// the same one again when its time has come.
func (q *queue) finish(o outcome) {
	d := o.delivery
	st := q.streams[d.Stream]
	st.sending = false
	q.sending--
	if q.busy[d.Service]--; q.busy[d.Service] == 0 {
		delete(q.busy, d.Service)
	}
	if o.retry != nil {
		again := *d
		again.Attempts, again.NotBefore = o.retry.Attempts, o.retry.NotBefore
		st.waiting[0] = &again
		return
	}
	st.waiting[0] = nil
	st.waiting = st.waiting[1:]
	q.waiting--
	if len(st.waiting) == 0 {
		delete(q.streams, d.Stream)
	}
}

func (q *queue) underWay() int { return q.sending }
