package realtime

import (
	"context"
	"slices"
	"sync"
)

// outbox is what waits to be written to one client. It is bounded in frames
// and in bytes for live events. Answers to the client's own requests always
// fit: a request keeps its slot while the outbox is full (session.start), so
// there are never more of them than slots.
type outbox struct {
	wake chan struct{} // one slot

	maxLength, maxBytes int

	mu     sync.Mutex
	frames []queued
	bytes  int
	last   bool          // nothing more is taken in; the connection ends behind what waits
	taken  chan struct{} // closed by take, for those who wait for room; nil: nobody does
}

type queued struct {
	frame []byte
	lossy bool // a stream message
}

func (o *outbox) init(length, bytes int) {
	o.wake = make(chan struct{}, 1)
	o.maxLength, o.maxBytes = length, bytes
}

// push appends a frame whatever waits.
func (o *outbox) push(frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.last {
		o.append(frame, false)
	}
}

// offer appends a live event if there is room.
func (o *outbox) offer(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.last:
	case o.full(len(frame)):
		return false
	default:
		o.append(frame, false)
	}
	return true
}

// offerLossy appends a stream message; older ones give way. It gives the
// number of messages lost, the new one itself if nothing else could go.
func (o *outbox) offerLossy(frame []byte) (lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last {
		return 0
	}
	for o.full(len(frame)) {
		oldest := slices.IndexFunc(o.frames, func(q queued) bool { return q.lossy })
		lost++
		if oldest < 0 {
			return lost
		}
		o.bytes -= len(o.frames[oldest].frame)
		o.frames = slices.Delete(o.frames, oldest, oldest+1)
	}
	o.append(frame, true)
	return lost
}

// full says whether there is no room for a frame of this size.
func (o *outbox) full(size int) bool {
	return len(o.frames) >= o.maxLength || o.bytes+size > o.maxBytes
}

// enough says whether so much waits that replays have time: they leave most of
// the room to live events.
func (o *outbox) enough() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.frames) >= max(o.maxLength/8, 1) || o.bytes >= max(o.maxBytes/8, 1)
}

func (o *outbox) append(frame []byte, lossy bool) {
	o.frames = append(o.frames, queued{frame, lossy})
	o.bytes += len(frame)
	o.signal()
}

// take gives all that waits, and whether the connection ends behind it. The
// frames are put into buffer, if they fit there.
func (o *outbox) take(buffer [][]byte) (frames [][]byte, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	frames = buffer[:0]
	for _, q := range o.frames {
		frames = append(frames, q.frame)
	}
	clear(o.frames)
	o.frames, o.bytes = o.frames[:0], 0
	if cap(o.frames) > idleLength {
		o.frames = nil
	}
	o.freed()
	return frames, o.last
}

// idleLength is the longest buffer of frames that an idle client keeps.
const idleLength = 64

// room waits until the outbox is not full.
func (o *outbox) room(ctx context.Context) {
	for {
		o.mu.Lock()
		if o.last || !o.full(0) {
			o.mu.Unlock()
			return
		}
		if o.taken == nil {
			o.taken = make(chan struct{})
		}
		taken := o.taken
		o.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return
		}
	}
}

func (o *outbox) freed() {
	if o.taken != nil {
		close(o.taken)
		o.taken = nil
	}
}

// finish ends the connection behind what waits and one more frame, if any.
func (o *outbox) finish(frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.last && frame != nil {
		o.append(frame, false)
	}
	o.last = true
	o.freed()
	o.signal()
}

// close drops what waits: the client is gone.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames, o.bytes, o.last = nil, 0, true
	o.freed()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
