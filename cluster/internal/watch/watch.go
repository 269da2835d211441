// Package watch is a value that others wait on.
package watch

import "sync"

// Value holds a value that others wait on. Waiters see the newest value, not
// each one in between. The zero Value holds the zero T.
type Value[T comparable] struct {
	mu      sync.Mutex
	value   T
	changed chan struct{} // closed by the next change
}

// Get returns the value, and a channel that is closed when it has changed.
func (v *Value[T]) Get() (T, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return v.value, v.changed
}

// Set replaces the value, and wakes all waiters if it is another one.
func (v *Value[T]) Set(value T) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(value)
}

// put is Set, with the lock held.
func (v *Value[T]) put(value T) {
	if value == v.value {
		return
	}
	v.value = value
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// Update replaces the value by what next makes of it, and returns what it was.
// next must not use the Value.
func (v *Value[T]) Update(next func(T) T) (was T) {
	v.mu.Lock()
	defer v.mu.Unlock()
	was = v.value
	v.put(next(was))
	return was
}
