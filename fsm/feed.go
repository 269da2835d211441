package fsm

import (
	"context"
	"errors"
	"sync"

	"lockstep/objects"
)

const defaultFeedLength = 4096

// Batch is what one round of applying did: its events in order, and the view
// right after them.
type Batch struct {
	View   *View
	Events []objects.Event
}

// ErrBehind says that a cursor lost its place: it was overtaken by more batches
// than the feed holds, or the state was replaced by a snapshot. The cursor
// stands at the newest batch again; what lies between must be read from a view.
var ErrBehind = errors.New("fsm: the feed has moved on")

// Feed is a bounded ring of applied batches. Appending never waits for anyone.
type Feed struct {
	mu      sync.Mutex
	ring    []Batch
	next    uint64 // number of the next batch; batch n is at n % len(ring)
	epoch   uint64 // raised when the state is replaced
	arrived chan struct{}
}

func newFeed(length int) *Feed {
	return &Feed{ring: make([]Batch, length), arrived: make(chan struct{})}
}

func (f *Feed) append(b Batch) {
	if len(b.Events) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring[f.next%uint64(len(f.ring))] = b
	f.next++
	f.wake()
}

func (f *Feed) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch++
	clear(f.ring)
	f.wake()
}

func (f *Feed) wake() {
	close(f.arrived)
	f.arrived = make(chan struct{})
}

// Follow gives a cursor that starts behind the newest batch.
func (f *Feed) Follow() *Cursor {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &Cursor{feed: f, next: f.next, epoch: f.epoch}
}

// Cursor is one follower's place in the feed. It is used by one goroutine.
type Cursor struct {
	feed  *Feed
	next  uint64
	epoch uint64
}

// Next waits for the batch behind the last one. It gives ErrBehind when the
// place was lost, or the context's error.
func (c *Cursor) Next(ctx context.Context) (Batch, error) {
	for {
		b, arrived, err := c.take()
		if err != nil || b.View != nil {
			return b, err
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

func (c *Cursor) take() (Batch, <-chan struct{}, error) {
	f := c.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.epoch != f.epoch || f.next-c.next > uint64(len(f.ring)):
		c.epoch, c.next = f.epoch, f.next
		return Batch{}, nil, ErrBehind
	case c.next == f.next:
		return Batch{}, f.arrived, nil
	}
	b := f.ring[c.next%uint64(len(f.ring))]
	c.next++
	return b, nil, nil
}
