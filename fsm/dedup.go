package fsm

import (
	"cmp"
	"slices"
	"sync"

	"lockstep/objects"
)

// The dedup window holds the results of this many commands of each window
// (the cluster's own, and one a service for idempotency keys), for this long.
const (
	dedupLength = 100_000
	dedupMillis = 10 * 60 * 1000
)

// dedup remembers the results of recent commands by id. The apply goroutine
// writes; others look up.
type dedup struct {
	mu      sync.RWMutex
	byID    map[CommandID]*remembered
	windows map[uint64]*window
}

// window is one queue of remembered commands, oldest first.
type window struct {
	Num   uint64        `cbor:"1,keyasint"` // 0, or the number of a service
	Floor uint64        `cbor:"2,keyasint"` // log index of the newest command forgotten
	Queue []*remembered `cbor:"-"`
}

type remembered struct {
	Window uint64    `cbor:"1,keyasint"`
	ID     CommandID `cbor:"2,keyasint"`
	Print  [16]byte  `cbor:"3,keyasint"`
	Time   int64     `cbor:"4,keyasint"`
	Result Result    `cbor:"5,keyasint"`
}

func newDedup() *dedup {
	return &dedup{byID: make(map[CommandID]*remembered), windows: make(map[uint64]*window)}
}

func (d *dedup) lookup(id CommandID) (*Result, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r, ok := d.byID[id]
	if !ok {
		return nil, false
	}
	return &r.Result, true
}

// check returns the earlier result of a command, or a refusal, or neither when
// the command is new. An entry decided after the command was issued is this
// very command, whatever its age: age is the cluster's clock, which may step.
func (d *dedup) check(c *Command, num uint64, now int64) (*Result, *objects.Error) {
	if r := d.byID[c.ID]; r != nil && (r.Result.Index > c.Issued || now-r.Time <= dedupMillis) {
		if r.Print != c.Print {
			return nil, objects.ErrMoreThanOnce
		}
		return &r.Result, nil
	}
	if w := d.windows[num]; w != nil && w.Floor > c.Issued {
		return nil, objects.ErrUnknownWriter
	}
	return nil, nil
}

func (d *dedup) remember(c *Command, num uint64, now int64, r Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.windows[num]
	if w == nil {
		w = &window{Num: num}
		d.windows[num] = w
	}
	for len(w.Queue) > 0 && (len(w.Queue) >= dedupLength || now-w.Queue[0].Time > dedupMillis) {
		d.forgetOldest(w)
	}
	if !keepsData(c.Op) {
		r = r.withoutData()
	}
	d.add(w, &remembered{Window: num, ID: c.ID, Print: c.Print, Time: now, Result: r})
}

// add appends to a window. An expired entry of the same id gives way.
func (d *dedup) add(w *window, r *remembered) {
	w.Queue = append(w.Queue, r)
	d.byID[r.ID] = r
}

func (d *dedup) forgetOldest(w *window) {
	old := w.Queue[0]
	w.Queue[0] = nil
	w.Queue = w.Queue[1:]
	w.Floor = old.Result.Index
	if d.byID[old.ID] == old {
		delete(d.byID, old.ID)
	}
}

// forgetWindow drops a removed service's window.
func (d *dedup) forgetWindow(num uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.windows[num]
	if w == nil {
		return
	}
	for len(w.Queue) > 0 {
		d.forgetOldest(w)
	}
	delete(d.windows, num)
}

// snapshot gives the windows in the order of their numbers. Entries are
// immutable, so the copy is one of pointers.
func (d *dedup) snapshot() []window {
	out := make([]window, 0, len(d.windows))
	for _, w := range d.windows {
		out = append(out, window{Num: w.Num, Floor: w.Floor, Queue: slices.Clone(w.Queue)})
	}
	slices.SortFunc(out, func(a, b window) int { return cmp.Compare(a.Num, b.Num) })
	return out
}

func (d *dedup) restore(windows []window) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.byID)
	clear(d.windows)
	for _, from := range windows {
		w := &window{Num: from.Num, Floor: from.Floor}
		d.windows[w.Num] = w
		for _, r := range from.Queue {
			d.add(w, r)
		}
	}
}
