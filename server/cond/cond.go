// Package cond provides a condition variable whose waiters give up when their
// context ends, which those of sync.Cond cannot. It starts no goroutine.
package cond

import (
	"context"
	"sync"
)

// Cond is a condition variable. The zero value is ready for use. The caller's own
// lock guards it, and must be the same one in every call.
type Cond struct {
	changed chan struct{} // closed by the next Broadcast; nil: nothing waits
}

// Wait returns once holds returns true, or with the error of the context. It must
// be called without the lock, which it takes to call holds: at once, and again
// after each Broadcast.
func (c *Cond) Wait(ctx context.Context, lock sync.Locker, holds func() bool) error {
	for {
		changed := c.check(lock, holds)
		if changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// check returns nil if the condition holds, else the channel that the next
// Broadcast closes.
func (c *Cond) check(lock sync.Locker, holds func() bool) <-chan struct{} {
	lock.Lock()
	defer lock.Unlock()
	if holds() {
		return nil
	}
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// Broadcast has every waiter look again. It must be called with the lock held.
func (c *Cond) Broadcast() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}
