package limits

import (
	"slices"
	"sync"
	"time"

	"lockstep/objects"
)

// maxRefusals is how many buckets are remembered that refused lately.
const maxRefusals = 256

// Refusal is what one bucket has refused on this node since it started, or since the
// bucket was last forgotten for want of room.
type Refusal struct {
	Bucket      objects.Bucket
	Count       uint64
	First, Last time.Time
}

// refusals remembers the buckets that refused last.
type refusals struct {
	mu    sync.Mutex
	of    map[objects.Bucket]*Refusal
	total uint64
}

func (r *refusals) note(b objects.Bucket, count int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total += uint64(count)
	x := r.of[b]
	if x == nil {
		if r.of == nil {
			r.of = make(map[objects.Bucket]*Refusal)
		}
		if len(r.of) >= maxRefusals {
			r.forgetOldest()
		}
		x = &Refusal{Bucket: b, First: at}
		r.of[b] = x
	}
	x.Count += uint64(count)
	x.Last = at
}

func (r *refusals) forgetOldest() {
	var oldest *Refusal
	for _, x := range r.of {
		if oldest == nil || x.Last.Before(oldest.Last) {
			oldest = x
		}
	}
	delete(r.of, oldest.Bucket)
}

// Refusals returns which buckets refused, the latest first, and how much was refused
// in all. Only the node that leads refuses.
func (l *Limits) Refusals() (latest []Refusal, total uint64) {
	r := &l.refused
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.of {
		latest = append(latest, *x)
	}
	slices.SortFunc(latest, func(a, b Refusal) int { return b.Last.Compare(a.Last) })
	return latest, r.total
}
