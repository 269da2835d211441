// Package budget counts the bytes that are under way on a node, in all and by
// who has sent or asked for them, and reports when that is too much.
//
// The package starts no goroutines.
package budget

import (
	"context"
	"sync"
)

// Budget is the bytes of a node. Its Shares divide it by who uses it.
type Budget struct {
	total int64

	mu      sync.Mutex
	used    int64
	changed chan struct{} // closed when bytes are given back; nil while nobody waits
}

// New makes a Budget of so many bytes. A negative number is no bound.
func New(total int64) *Budget { return &Budget{total: total} }

// Share is a budget in which each name may have so much of the whole.
type Share struct {
	budget *Budget
	each   int64
	by     map[string]int64 // no zeros; guarded by the budget's lock
}

// Share makes a Share of the budget. A negative number is no bound.
func (b *Budget) Share(each int64) *Share {
	return &Share{budget: b, each: each, by: make(map[string]int64)}
}

// Take takes n bytes for a name, and reports false, and takes nothing, if that
// would be too much for the name or for the node.
func (s *Share) Take(name string, n int64) bool {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if exceeds(s.by[name]+n, s.each) || exceeds(b.used+n, b.total) {
		return false
	}
	s.add(name, n)
	return true
}

// Charge takes n bytes whether they are there or not: for what is there already.
func (s *Share) Charge(name string, n int64) {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.add(name, n)
}

// Return gives n bytes back.
func (s *Share) Return(name string, n int64) {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	s.add(name, -n)
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Room waits until neither the name nor the node is above its bound.
func (s *Share) Room(ctx context.Context, name string) error {
	b := s.budget
	for {
		b.mu.Lock()
		if !exceeds(s.by[name], s.each) && !exceeds(b.used, b.total) {
			b.mu.Unlock()
			return nil
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Used returns the bytes under way on the node.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (s *Share) add(name string, n int64) {
	s.budget.used += n
	if s.by[name] += n; s.by[name] == 0 {
		delete(s.by, name)
	}
}

func exceeds(n, bound int64) bool { return bound >= 0 && n > bound }
