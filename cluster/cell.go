package cluster

import "sync"

// cell holds a value that others wait on. Waiters see the newest value, not
// each one in between.
type cell[T comparable] struct {
	mu      sync.Mutex
	value   T
	changed chan struct{} // closed by the next change
}

// get gives the value, and a channel that is closed when it has changed.
func (c *cell[T]) get() (T, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.value, c.changed
}

func (c *cell[T]) set(value T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if value == c.value {
		return
	}
	c.value = value
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}
