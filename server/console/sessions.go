package console

import (
	"sync"
	"time"

	"lockstep/objects"
)

// A node is used by so many sessions at a time, and by so many of one key. One that
// was idle for a while gives way.
const (
	maxSessions       = 512
	maxSessionsOfKey  = 64
	idle              = 15 * time.Minute
	maxEndedRemembers = 4096
)

// sessions bounds how many sessions use a node, and remembers those that were ended
// before their time. It holds nothing that a session needs.
type sessions struct {
	mu    sync.Mutex
	used  map[string]use
	ended map[string]int64 // until when it would have lasted, Unix milliseconds
}

type use struct {
	name string
	last time.Time
}

func newSessions() *sessions {
	return &sessions{used: make(map[string]use), ended: make(map[string]int64)}
}

// use notes that a session is used now. There may be too many.
func (s *sessions) use(x *session, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.used[x.ID]; !known && !s.hasRoom(x.Name, now) {
		return objects.ErrTooMany.With("There are as many sessions of the console as there may be").After(int(idle / time.Second))
	}
	s.used[x.ID] = use{x.Name, now}
	return nil
}

func (s *sessions) hasRoom(name string, now time.Time) bool {
	ofKey := 0
	for id, u := range s.used {
		switch {
		case now.Sub(u.last) > idle:
			delete(s.used, id)
		case u.name == name:
			ofKey++
		}
	}
	return len(s.used) < maxSessions && ofKey < maxSessionsOfKey
}

// end ends a session that would have lasted until a time.
func (s *sessions) end(id string, until int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, id)
	if len(s.ended) >= maxEndedRemembers {
		s.forget(now)
	}
	s.ended[id] = until
}

// forget makes room: what has ended by itself meanwhile goes, or the one that would
// end next.
func (s *sessions) forget(now time.Time) {
	next := ""
	for id, until := range s.ended {
		if until <= now.UnixMilli() {
			delete(s.ended, id)
		} else if next == "" || until < s.ended[next] {
			next = id
		}
	}
	if len(s.ended) >= maxEndedRemembers {
		delete(s.ended, next)
	}
}

func (s *sessions) hasEnded(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ended := s.ended[id]
	return ended
}
