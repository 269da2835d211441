package ratelimit

import (
	"sync"
	"time"
)

// shard is a part of the buckets. Those that spent something since the last
// turn are in young, those that did so in the time before it, but not since,
// in old. A turn comes when all of old have become full, and drops them at
// once: a sweep that costs the same however many they are. Only when young has
// too many it comes earlier.
type shard[K comparable] struct {
	mu         sync.Mutex
	young, old map[K]time.Time // when each is full
	turned     time.Time
}

// maxYoung bounds the young buckets of a shard, and with them the old ones.
const maxYoung = 4096

// wait returns how long a cost has to wait. The shard is locked by the caller,
// as for spend and turn.
func (s *shard[K]) wait(key K, now time.Time, burst, cost time.Duration) time.Duration {
	return max(0, s.lack(key, now, burst)+min(cost, burst)-burst)
}

func (s *shard[K]) spend(key K, now time.Time, burst, cost time.Duration) {
	s.young[key] = now.Add(min(s.lack(key, now, burst)+cost, 2*burst))
}

// lack returns the time in which a bucket will be full. One capacity can be
// missing and another one owed; more only if the clock was set back.
func (s *shard[K]) lack(key K, now time.Time, burst time.Duration) time.Duration {
	full, found := s.young[key]
	if !found {
		full = s.old[key]
	}
	return min(max(full.Sub(now), 0), 2*burst)
}

func (s *shard[K]) turnAlone(now time.Time, burst time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now, burst)
}

// turn reports whether it was time for a turn. Callers' clocks are read before
// the lock is taken, so now may be a little before the last turn; it is far
// before it only if the clock was set back.
func (s *shard[K]) turn(now time.Time, burst time.Duration) bool {
	if s.young != nil && now.Sub(s.turned).Abs() < 2*burst && len(s.young) < maxYoung {
		return false
	}
	s.old, s.young = s.young, map[K]time.Time{}
	s.turned = now
	return true
}
