package webhook

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"lockstep/fsm"
)

// maxRecent is how many attempts are remembered.
const maxRecent = 200

// Attempt is one request that was sent, or given up.
type Attempt struct {
	Seq     uint64 // of the delivery
	Service uint64
	Fact    fsm.Fact // without data
	At      time.Time
	Took    time.Duration
	Number  int    // of the attempt, from 1
	Error   string // why it failed; empty: it was delivered
	GivenUp bool   // there is no further attempt
}

// recent remembers the last attempts.
type recent struct {
	mu   sync.Mutex
	ring []Attempt
	next int
}

func (r *recent) add(a Attempt) {
	a.Fact.Data = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < maxRecent {
		r.ring = append(r.ring, a)
		return
	}
	r.ring[r.next] = a
	r.next = (r.next + 1) % maxRecent
}

// Recent returns the last attempts that this node made, the latest first.
func (s *Sender) Recent() []Attempt {
	r := &s.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	all := append(slices.Clone(r.ring[r.next:]), r.ring[:r.next]...)
	slices.Reverse(all)
	return all
}

// hurryLength is how many deliveries can wait to be hurried.
const hurryLength = 16

// Hurry has a waiting delivery tried now instead of later, or, as deliveries of an
// object go in order, the one that it waits for. It reports whether the request was
// taken: it is not while this node does not lead.
func (s *Sender) Hurry(seq uint64) bool {
	if !s.running.Load() {
		return false
	}
	select {
	case s.hurried <- seq:
		return true
	default:
		return false
	}
}

// hurry lets the first delivery of the stream that has a delivery go now.
func (q *queue) hurry(seq uint64, now time.Time) {
	for _, st := range q.streams {
		if st.sending || !slices.ContainsFunc(st.waiting, func(d *fsm.Delivery) bool { return d.Seq == seq }) {
			continue
		}
		first := *st.waiting[0]
		first.NotBefore = 0
		st.waiting[0] = &first
		for i := range q.alarms {
			if a := &q.alarms[i]; a.stream == st || a.lane != nil && a.lane == st.lane {
				a.at = now
				if a.lane != nil {
					a.lane.resumeAt = now
				}
			}
		}
		heap.Init(&q.alarms)
		return
	}
}
