// Package slots bounds how many connections a listener keeps, in all and for
// each owner. When there are too many the oldest goes, never the newcomer: those
// who hold connections and do nothing cannot keep anybody out.
//
// A Set may be used from any goroutine. It closes what goes outside of its lock.
package slots

import (
	"io"
	"slices"
	"sync"
)

// Set is a bounded set of connections, each of which has an owner: an address,
// or a name once the other side has proved one.
type Set[T interface {
	comparable
	io.Closer
}] struct {
	total, each int

	mu    sync.Mutex
	held  []slot[T] // oldest first
	count map[string]int
}

type slot[T any] struct {
	conn  T
	owner string
}

// New returns an empty set for at most total connections, at most each of them
// of one owner.
func New[T interface {
	comparable
	io.Closer
}](total, each int) *Set[T] {
	return &Set[T]{total: total, each: each, count: make(map[string]int)}
}

// Admit adds a connection. If that makes too many it closes the oldest one: of
// this owner if it has too many, or else of all. It reports whether it did.
func (s *Set[T]) Admit(c T, owner string) (full bool) {
	s.mu.Lock()
	at := -1
	switch {
	case s.count[owner] >= s.each:
		at = slices.IndexFunc(s.held, func(x slot[T]) bool { return x.owner == owner })
	case len(s.held) >= s.total:
		at = 0
	}
	var oldest T
	if full = at >= 0; full {
		oldest = s.remove(at)
	}
	s.held = append(s.held, slot[T]{c, owner})
	s.count[owner]++
	s.mu.Unlock()
	if full {
		oldest.Close()
	}
	return full
}

// Release takes a connection out, if it is still there.
func (s *Set[T]) Release(c T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.IndexFunc(s.held, func(x slot[T]) bool { return x.conn == c }); at >= 0 {
		s.remove(at)
	}
}

// Len returns the number of connections.
func (s *Set[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

func (s *Set[T]) remove(at int) T {
	x := s.held[at]
	s.held = slices.Delete(s.held, at, at+1)
	if s.count[x.owner]--; s.count[x.owner] == 0 {
		delete(s.count, x.owner)
	}
	return x.conn
}
