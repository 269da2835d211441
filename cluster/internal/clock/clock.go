// Package clock keeps the cluster's time: each node carries it on, takes it
// over from the leader, compares its machine's clock with the others', and does
// not lead while that is far off.
package clock

import (
	"sync"
	"time"

	"lockstep/cluster/internal/transport"
)

const (
	// interval is how often the voters compare their clocks.
	interval = time.Second
	// warnAt is the difference between clocks that is logged, once in warnPause.
	warnAt    = time.Second
	warnPause = time.Minute
	// farAt is the difference beyond which a clock is not believed.
	farAt = 10 * time.Second
	// yieldPause is the pause before leadership is handed over again when that
	// failed: until then all requests to the other node that were under way have
	// ended. Raft never ends a second transfer whose target is still busy with the
	// first one when the leader steps down.
	yieldPause = 2 * transport.RequestTimeout
	// steering is the part of the time passed by which the cluster's clock is
	// moved towards the clocks of its nodes: a tenth.
	steering = 10
)

// Clock is the cluster's time, as this node carries it on. It follows the
// monotonic clock, so that it makes no step when the machine's clock does, and
// is steered slowly towards the machine's clock while a majority of the voters
// agrees with that. It is taken over from the leader, so that a new leader goes
// on where the last one was. It jumps only when nobody has carried it on, since
// the whole cluster was down: then to what the clocks of the voters say.
type Clock struct {
	wall  func() time.Time
	start time.Time // origin of the monotonic readings

	mu     sync.Mutex
	known  bool          // the time is carried on, not only what the log says
	time   time.Duration // since 1970
	at     time.Duration // monotonic reading at that time
	agreed bool          // a majority agrees with the machine's clock
	far    bool          // a majority finds the machine's clock far off
}

// New returns the clock of a node whose machine's clock is wall.
func New(wall func() time.Time) *Clock { return &Clock{wall: wall, start: time.Now()} }

// Now returns the machine's clock.
func (c *Clock) Now() time.Duration { return time.Duration(c.wall().UnixNano()) }

// advance moves the time on to this moment.
func (c *Clock) advance() {
	reading := time.Since(c.start)
	passed := reading - c.at
	c.time += passed
	c.at = reading
	if c.agreed {
		c.time += min(max(c.Now()-c.time, -passed/steering), passed/steering)
	}
}

// Stamp returns the time for a batch of the leader, not before earliest, both in
// Unix milliseconds.
func (c *Clock) Stamp(earliest int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	c.time = max(c.time, time.Duration(earliest)*time.Millisecond)
	return c.time.Milliseconds()
}

// Read returns the time, if it is known.
func (c *Clock) Read() (now time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	return c.time, c.known
}

// Set replaces the time.
func (c *Clock) Set(now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time, c.at, c.known = now, time.Since(c.start), true
}

func (c *Clock) decideSteering(agreed, far bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agreed, c.far = agreed, far
}

// FarOff reports whether a majority finds the machine's clock far off.
func (c *Clock) FarOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.far
}

// Offset returns how far the machine's clock is ahead of the cluster's.
func (c *Clock) Offset() time.Duration {
	now, known := c.Read()
	if !known {
		return 0
	}
	return c.Now() - now
}
