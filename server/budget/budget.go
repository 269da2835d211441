// Package budget counts the bytes that a node holds at a time, in all and by the
// client that sent or asked for them, and reports when they are too many.
//
// The package starts no goroutines.
package budget

import (
	"context"
	"sync"

	"lockstep/server/cond"
)

// Budget bounds the bytes of a node. Its Shares divide them by name.
type Budget struct {
	total int64

	mu       sync.Mutex
	used     int64
	returned cond.Cond // when bytes are returned
}

// New makes a Budget of so many bytes. A negative number means no bound.
func New(total int64) *Budget { return &Budget{total: total} }

// Share is a part of a Budget that bounds each name, too.
type Share struct {
	budget *Budget
	each   int64
	by     map[string]int64 // no zeros; guarded by the budget's lock
}

// Share makes a Share of the budget. A negative number means no bound.
func (b *Budget) Share(each int64) *Share {
	return &Share{budget: b, each: each, by: make(map[string]int64)}
}

// Take takes n bytes for a name. If they are too many for the name or for the node,
// it takes none and returns false.
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

// Charge takes n bytes even beyond the bounds, for data that is already held.
func (s *Share) Charge(name string, n int64) {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.add(name, n)
}

// Return returns n bytes to the budget.
func (s *Share) Return(name string, n int64) {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	s.add(name, -n)
	b.returned.Broadcast()
}

// Room waits until neither the name nor the node is above its bound.
func (s *Share) Room(ctx context.Context, name string) error {
	b := s.budget
	return b.returned.Wait(ctx, &b.mu, func() bool {
		return !exceeds(s.by[name], s.each) && !exceeds(b.used, b.total)
	})
}

// Used returns the number of bytes taken on the node.
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
