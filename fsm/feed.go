package fsm

import (
	"context"
	"errors"
	"sync"

	"lockstep/objects"
)

// The defaults of Config.FeedLength and Config.FeedBytes.
const (
	defaultFeedLength = 4096
	defaultFeedBytes  = 64 << 20
)

// eventBytes is the part of an event's size that does not depend on its data:
// the event with the records of an object and an item.
const eventBytes = 512

// Event is an event as it happens. The session that sent the command knows its
// own echo by the command's id.
type Event struct {
	objects.Event
	Origin CommandID
}

// Batch is the events of one round of applying, in order. It holds no view: an
// old view would keep all that was overwritten since in memory.
type Batch struct {
	Index  uint64 // of the round's last log entry
	Events []Event
}

// size returns about how much memory a batch keeps.
func (b Batch) size() (bytes int64) {
	for _, e := range b.Events {
		bytes += eventBytes
		switch {
		case e.Message != nil:
			bytes += int64(len(e.Message.Data))
		case e.Item != nil:
			bytes += int64(len(e.Item.Key) + len(e.Item.Data))
		case e.Object != nil:
			bytes += int64(len(e.Object.Data))
		}
	}
	return bytes
}

// ErrBehind says that a cursor lost its place: it was overtaken by more than the
// feed holds, or the state was replaced by a snapshot. The cursor
// stands at the newest batch again; what lies between must be read from a view.
var ErrBehind = errors.New("fsm: the feed has moved on")

// Feed is a ring of applied batches, bounded in their number and in bytes: the
// oldest go first, whether or not all followers have read them. Appending never
// waits.
type Feed struct {
	mu       sync.Mutex
	ring     []Batch
	oldest   uint64 // number of the oldest batch kept; batch n is at n % len(ring)
	next     uint64 // number of the next batch
	bytes    int64
	maxBytes int64
	epoch    uint64 // raised when the state is replaced
	arrived  chan struct{}
}

func newFeed(length int, maxBytes int64) *Feed {
	return &Feed{ring: make([]Batch, length), maxBytes: maxBytes, arrived: make(chan struct{})}
}

// Bytes returns about how much memory the batches in the feed keep.
func (f *Feed) Bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// append adds a batch. One that alone exceeds the bound is kept all the same,
// until the next one arrives.
func (f *Feed) append(b Batch) {
	if len(b.Events) == 0 {
		return
	}
	size := b.size()
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.oldest < f.next && (f.next-f.oldest >= uint64(len(f.ring)) || f.bytes+size > f.maxBytes) {
		f.dropOldest()
	}
	*f.at(f.next) = b
	f.bytes += size
	f.next++
	f.wake()
}

func (f *Feed) at(number uint64) *Batch { return &f.ring[number%uint64(len(f.ring))] }

func (f *Feed) dropOldest() {
	b := f.at(f.oldest)
	f.bytes -= b.size()
	*b = Batch{}
	f.oldest++
}

func (f *Feed) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch++
	clear(f.ring)
	f.oldest, f.bytes = f.next, 0
	f.wake()
}

func (f *Feed) wake() {
	close(f.arrived)
	f.arrived = make(chan struct{})
}

// Follow returns a cursor that starts behind the newest batch.
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

// Next waits for the batch behind the last one. It returns ErrBehind when the
// place was lost, or the context's error.
func (c *Cursor) Next(ctx context.Context) (Batch, error) {
	for {
		b, arrived, err := c.take()
		if err != nil || arrived == nil {
			return b, err
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

// take returns the next batch, or what to wait for when there is none yet.
func (c *Cursor) take() (Batch, <-chan struct{}, error) {
	f := c.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.epoch != f.epoch || c.next < f.oldest:
		c.epoch, c.next = f.epoch, f.next
		return Batch{}, nil, ErrBehind
	case c.next == f.next:
		return Batch{}, f.arrived, nil
	}
	b := *f.at(c.next)
	c.next++
	return b, nil, nil
}
