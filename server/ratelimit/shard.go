package ratelimit

import (
	"sync"
	"time"
)

// shard is a part of the buckets. Those that spent something since the last
// turn are in young, those that did so in the time before it, but not since,
// in old. A turn comes no earlier than all of old have become full, and drops
// them at once: a sweep that costs the same however many they are.
type shard struct {
	mu         sync.Mutex
	young, old map[string]time.Time // when each is full
	turned     time.Time
}

func (s *shard) spend(name string, now time.Time, burst, cost time.Duration, forced bool) (wait time.Duration, turned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	turned = s.turn(now, burst)
	full, found := s.young[name]
	if !found {
		full = s.old[name]
	}
	// One capacity can be missing and another one owed; more only if the clock
	// was set back.
	lack := min(max(full.Sub(now), 0), 2*burst)
	if wait = lack + min(cost, burst) - burst; wait > 0 && !forced {
		return wait, turned
	}
	s.young[name] = now.Add(min(lack+cost, 2*burst))
	return 0, turned
}

func (s *shard) turnAlone(now time.Time, burst time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now, burst)
}

// turn reports whether it was time for a turn. Callers' clocks are read before
// the lock is taken, so now may be a little before the last turn; it is far
// before it only if the clock was set back.
func (s *shard) turn(now time.Time, burst time.Duration) bool {
	if s.young != nil && now.Sub(s.turned).Abs() < 2*burst {
		return false
	}
	s.old, s.young = s.young, map[string]time.Time{}
	s.turned = now
	return true
}
