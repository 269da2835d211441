// Package disk watches over what a node writes to its log and its stable store,
// because raft does not: it goes on after a write that failed, with a last index
// that may be wrong, and panics where the write was of its term; and it hangs with
// a write that hangs, while its heartbeats keep the others from choosing a leader.
//
// The first write that fails is the last one that is tried. A later sync may
// report success although what it was to write was thrown away.
package disk

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrFailed: a write to the node's disk failed.
var ErrFailed = errors.New("cluster: a write to this node's disk failed")

// Disk is what a node writes to.
type Disk struct {
	broken chan struct{} // closed when a write has failed

	mu      sync.Mutex
	failure error
	guarded bool
	begun   map[uint64]time.Time // the writes under way
	next    uint64

	appended, cut, set func(time.Duration)
}

// Observe has each write that succeeded told to one of three: entries appended to the log,
// entries removed from it, values set. It is called before anything is written.
func (d *Disk) Observe(appended, cut, set func(time.Duration)) {
	d.appended, d.cut, d.set = appended, cut, set
}

// New returns a disk on which nothing has failed yet.
func New() *Disk {
	ignore := func(time.Duration) {}
	return &Disk{broken: make(chan struct{}), begun: make(map[uint64]time.Time), appended: ignore, cut: ignore, set: ignore}
}

// Guard has raft never hear of a failed write: the goroutine that makes one ends
// there, as if the process had ended, though what it has deferred is done. Without
// it, which is for what is written before raft runs, writers are given the error.
func (d *Disk) Guard() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guarded = true
}

// Broken is closed when a write has failed.
func (d *Disk) Broken() <-chan struct{} { return d.broken }

// Failure returns why nothing is written any more, or nil.
func (d *Disk) Failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failure
}

// Waiting returns for how long the oldest write has been under way.
func (d *Disk) Waiting() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	var longest time.Duration
	for _, begun := range d.begun {
		longest = max(longest, time.Since(begun))
	}
	return longest
}

// Log returns a log store whose writes are watched.
func (d *Disk) Log(inner raft.LogStore) raft.LogStore { return &logStore{inner, d} }

// Later returns a log store to which what is in the log already is written once more.
// Its appends are watched, and not observed.
func (d *Disk) Later(inner raft.LogStore) raft.LogStore { return &laterStore{inner, d} }

// Stable returns a stable store whose writes are watched.
func (d *Disk) Stable(inner raft.StableStore) raft.StableStore { return &stableStore{inner, d} }

// write is try, and the end of the goroutine if that has failed while the disk is
// guarded.
func (d *Disk) write(what string, took func(time.Duration), write func() error) error {
	err := d.try(what, took, write)
	if err != nil && d.isGuarded() {
		runtime.Goexit()
	}
	return err
}

// try makes one write, unless an earlier one has failed.
func (d *Disk) try(what string, took func(time.Duration), write func() error) error {
	begun := time.Now()
	d.mu.Lock()
	err, id := d.failure, d.next
	if err == nil {
		d.begun[id] = begun
		d.next++
	}
	d.mu.Unlock()
	if err == nil {
		err = write()
		d.end(id)
		if err == nil {
			took(time.Since(begun))
		}
	}
	if err == nil {
		return nil
	}
	return d.fail(what, err)
}

func (d *Disk) end(id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.begun, id)
}

func (d *Disk) fail(what string, err error) error {
	d.mu.Lock()
	if d.failure == nil {
		d.failure = fmt.Errorf("%w: %s: %w", ErrFailed, what, err)
		close(d.broken)
	}
	defer d.mu.Unlock()
	return d.failure
}

func (d *Disk) isGuarded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.guarded
}

type logStore struct {
	raft.LogStore
	disk *Disk
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	return s.disk.write("append to the log", s.disk.appended, func() error { return s.LogStore.StoreLogs(logs) })
}

// DeleteRange implements raft.LogStore. Raft may be told that entries which a
// snapshot covers could not be removed: the caller waits for its answer, and
// relies on nothing that is gone.
func (s *logStore) DeleteRange(first, last uint64) error {
	cut := func() error { return s.LogStore.DeleteRange(first, last) }
	if s.isFront(first, last) {
		return s.disk.try("cut the log", s.disk.cut, cut)
	}
	return s.disk.write("cut the log", s.disk.cut, cut)
}

// isFront reports whether a range begins with the log and ends before it does.
func (s *logStore) isFront(first, last uint64) bool {
	low, err := s.FirstIndex()
	if err != nil || first != low {
		return false
	}
	high, err := s.LastIndex()
	return err == nil && last < high
}

type laterStore struct {
	raft.LogStore
	disk *Disk
}

// StoreLog implements raft.LogStore.
func (s *laterStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *laterStore) StoreLogs(logs []*raft.Log) error {
	return s.disk.write("write the log", func(time.Duration) {}, func() error { return s.LogStore.StoreLogs(logs) })
}

type stableStore struct {
	raft.StableStore
	disk *Disk
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, value []byte) error {
	return s.disk.write("set "+string(key), s.disk.set, func() error { return s.StableStore.Set(key, value) })
}

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, value uint64) error {
	return s.disk.write("set "+string(key), s.disk.set, func() error { return s.StableStore.SetUint64(key, value) })
}
