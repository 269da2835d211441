package livequery

import (
	"context"
	"slices"
	"sync"
	"time"
)

// slots are the CPUs that evaluations may use. An evaluation takes one for a
// slice of time and then lets others go on.
//
// Waiters stand in one of two lines, whose turns alternate, so that scans do not
// hold up changes, nor changes scans. Within a line the keys take turns, however
// many wait under each of them.
type slots struct {
	slice time.Duration
	now   func() time.Time

	mu    sync.Mutex
	free  int
	lines [lineCount]line
	last  lineID // the line that had its turn last
}

type lineID int

const (
	changes lineID = iota // by map
	scans                 // by identity
	lineCount
)

// line holds the waiters by key. A key with waiters is in keys exactly once.
type line struct {
	keys    []string // in the order of their turns
	waiting map[string][]chan struct{}
}

func newSlots(count int, slice time.Duration) *slots {
	s := &slots{slice: slice, now: time.Now, free: count}
	for i := range s.lines {
		s.lines[i].waiting = make(map[string][]chan struct{})
	}
	return s
}

// turn is the use of a slot.
type turn struct {
	slots *slots
	line  lineID
	key   string
	held  bool
	since time.Time
	calls int
}

// enter waits for a slot.
func (s *slots) enter(ctx context.Context, line lineID, key string) (*turn, error) {
	t := &turn{slots: s, line: line, key: key}
	return t, t.wait(ctx)
}

// leave gives the slot back, if the turn has one.
func (t *turn) leave() {
	t.slots.mu.Lock()
	defer t.slots.mu.Unlock()
	if t.held {
		t.held = false
		t.slots.release()
	}
}

// clockCalls is the number of calls after which next reads the clock, since that
// costs as much as a cheap comparison.
const clockCalls = 8

// next is called before each comparison. When the slice is over, it gives the
// slot to a waiter.
func (t *turn) next(ctx context.Context) error {
	if t.calls++; t.calls%clockCalls != 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.slots.now().Sub(t.since) < t.slots.slice {
		return nil
	}
	return t.yield(ctx)
}

// yield goes to the end of the line if there are waiters.
func (t *turn) yield(ctx context.Context) error {
	s := t.slots
	s.mu.Lock()
	if !s.anyWaiting() {
		s.mu.Unlock()
		t.since = s.now()
		return nil
	}
	t.held = false
	granted := s.lines[t.line].add(t.key)
	s.release()
	s.mu.Unlock()
	return t.await(ctx, granted)
}

func (t *turn) wait(ctx context.Context) error {
	s := t.slots
	s.mu.Lock()
	granted := s.lines[t.line].add(t.key)
	s.grant()
	s.mu.Unlock()
	return t.await(ctx, granted)
}

// await waits until the slot is granted or the context ends.
func (t *turn) await(ctx context.Context, granted chan struct{}) error {
	select {
	case <-granted:
	case <-ctx.Done():
		s := t.slots
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.lines[t.line].remove(t.key, granted) {
			s.release() // it was granted meanwhile
		}
		return ctx.Err()
	}
	t.held, t.since = true, t.slots.now()
	return nil
}

func (s *slots) anyWaiting() bool {
	return slices.ContainsFunc(s.lines[:], func(l line) bool { return len(l.keys) > 0 })
}

func (s *slots) release() {
	s.free++
	s.grant()
}

// grant gives free slots to the waiters whose turn it is.
func (s *slots) grant() {
	for s.free > 0 && s.anyWaiting() {
		s.last = (s.last + 1) % lineCount
		if granted := s.lines[s.last].pop(); granted != nil {
			s.free--
			close(granted)
		}
	}
}

func (l *line) add(key string) chan struct{} {
	granted := make(chan struct{})
	if len(l.waiting[key]) == 0 {
		l.keys = append(l.keys, key)
	}
	l.waiting[key] = append(l.waiting[key], granted)
	return granted
}

// pop takes the first waiter of the key whose turn it is, or returns nil.
func (l *line) pop() chan struct{} {
	if len(l.keys) == 0 {
		return nil
	}
	key := l.keys[0]
	l.keys = l.keys[1:]
	all := l.waiting[key]
	if len(all) == 1 {
		delete(l.waiting, key)
	} else {
		l.waiting[key] = all[1:]
		l.keys = append(l.keys, key)
	}
	return all[0]
}

// remove reports whether the one to remove still waited.
func (l *line) remove(key string, granted chan struct{}) bool {
	all := l.waiting[key]
	i := slices.Index(all, granted)
	switch {
	case i < 0:
		return false
	case len(all) > 1:
		l.waiting[key] = slices.Delete(all, i, i+1)
	default:
		delete(l.waiting, key)
		l.keys = slices.DeleteFunc(l.keys, func(k string) bool { return k == key })
	}
	return true
}
