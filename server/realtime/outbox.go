package realtime

import (
	"slices"
	"sync"
)

// outbox is what waits to be written to one client. It is bounded in frames
// and in bytes for live events; answers to the client's own requests, whose
// number is bounded elsewhere, always fit.
type outbox struct {
	wake chan struct{} // one slot

	maxLength, maxBytes int

	mu     sync.Mutex
	frames []queued
	bytes  int
	last   bool // nothing more is taken in; the connection ends behind what waits
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
func (o *outbox) push(frame []byte, lossy bool) {
	o.mu.Lock()
	if !o.last {
		o.frames = append(o.frames, queued{frame, lossy})
		o.bytes += len(frame)
	}
	o.mu.Unlock()
	o.signal()
}

// offer appends a live event if there is room.
func (o *outbox) offer(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last {
		return true
	}
	if len(o.frames) >= o.maxLength || o.bytes+len(frame) > o.maxBytes {
		return false
	}
	o.frames = append(o.frames, queued{frame, false})
	o.bytes += len(frame)
	o.signal()
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
	for len(o.frames) >= o.maxLength || o.bytes+len(frame) > o.maxBytes {
		oldest := slices.IndexFunc(o.frames, func(q queued) bool { return q.lossy })
		lost++
		if oldest < 0 {
			return lost
		}
		o.bytes -= len(o.frames[oldest].frame)
		o.frames = slices.Delete(o.frames, oldest, oldest+1)
	}
	o.frames = append(o.frames, queued{frame, true})
	o.bytes += len(frame)
	o.signal()
	return lost
}

// take gives all that waits, and whether the connection ends behind it.
func (o *outbox) take() (frames [][]byte, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	frames = make([][]byte, len(o.frames))
	for i, q := range o.frames {
		frames[i] = q.frame
	}
	clear(o.frames)
	o.frames, o.bytes = o.frames[:0], 0
	if cap(o.frames) > 64 {
		o.frames = nil // an idle client keeps no large buffer
	}
	return frames, o.last
}

// finish ends the connection behind what waits and one more frame, if any.
func (o *outbox) finish(frame []byte) {
	o.mu.Lock()
	if !o.last && frame != nil {
		o.frames = append(o.frames, queued{frame, false})
	}
	o.last = true
	o.mu.Unlock()
	o.signal()
}

// close drops what waits: the client is gone.
func (o *outbox) close() {
	o.mu.Lock()
	o.frames, o.bytes, o.last = nil, 0, true
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
