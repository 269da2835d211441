// Package journal makes appending to the log one write and one sync of the disk.
//
// bbolt, beneath, syncs twice for each transaction, first its pages and then the page
// that leads to them, and writes several pages for the smallest. So what is appended
// goes to the end of a journal first, which counts; bbolt gets it later, in few large
// transactions, in the background.
//
// There are two files, of which one is appended to while bbolt takes over what is in
// the other. When the first one is full they change places; if bbolt has not taken all
// of the second one over by then, appending waits for it. So what is in memory and in
// the files has a bound.
//
// Whoever opens the journal has bbolt take over all that is in it. A record that was
// being written when the machine lost its power was acknowledged by nobody, and is
// dropped. Records are numbered, so one that is missing or altered before another one is
// noticed, as ErrDamaged. An altered last one looks like one that was not written to
// its end: that something which was told is gone is found as it is for any log that is a
// copy of before (package recall).
package journal

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// ErrDamaged: what is in the journal is not what was written to it.
var ErrDamaged = errors.New("the journal of the log is damaged")

// limits are the size and the number of entries from which a file is full. One batch
// goes into one file, whatever its size.
type limits struct {
	bytes   int64
	entries int
}

var usual = limits{bytes: 1 << 20, entries: 2048}

// names of the files.
var names = [2]string{"journal.0", "journal.1"}

// Log is a log store with a journal in front of it. It tells what it has, whether that
// is beneath or not.
//
// The first error of a write is returned to whoever appends or cuts then or later:
// nothing is written after it.
type Log struct {
	beneath raft.LogStore
	limits  limits
	files   [2]file
	taking  sync.WaitGroup

	writing sync.Mutex // held by whoever writes to the files, and by no reader
	current int        // of files, which is appended to
	offset  int64      // in it
	number  uint64     // of the next record
	buffer  []byte

	mu      sync.Mutex
	changed sync.Cond
	fresh   []*raft.Log // in the current file
	older   []*raft.Log // in the other one, while they are not beneath
	failure error
}

// Open opens the journal in a directory, which is made if it is not there, and has
// beneath take over what is in it.
func Open(dir string, beneath raft.LogStore) (*Log, error) { return open(dir, beneath, usual) }

func open(dir string, beneath raft.LogStore, limits limits) (*Log, error) {
	kept, err := readMissing(dir, beneath)
	if err != nil {
		return nil, err
	}
	if len(kept.entries) > 0 {
		if err := beneath.StoreLogs(kept.entries); err != nil {
			return nil, fmt.Errorf("take over the journal of the log: %w", err)
		}
	}
	l := newLog(beneath, nil)
	l.limits, l.number, l.current = limits, kept.next, kept.newer
	for i, name := range names {
		if l.files[i], err = openFile(filepath.Join(dir, name), limits.bytes); err != nil {
			return nil, errors.Join(fmt.Errorf("open the journal of the log: %w", err), l.closeFiles())
		}
	}
	if err := l.clear(); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	return l, nil
}

// Read returns a log that has what is in the journal of a directory, if there is one,
// and beneath. Nothing can be written to it, and nothing is written.
func Read(dir string, beneath raft.LogStore) (raft.LogStore, error) {
	kept, err := readMissing(dir, beneath)
	if err != nil {
		return nil, err
	}
	return newLog(beneath, kept.entries), nil
}

func newLog(beneath raft.LogStore, entries []*raft.Log) *Log {
	l := &Log{beneath: beneath, fresh: entries}
	l.changed.L = &l.mu
	return l
}

// readMissing is read with the entries that are not beneath.
func readMissing(dir string, beneath raft.LogStore) (k kept, err error) {
	if k, err = read(dir); err != nil {
		return k, err
	}
	k.entries, err = missing(beneath, k.entries)
	return k, err
}

// missing returns the entries that are not beneath. Those that were cut off there since
// they were taken over are not missing.
func missing(beneath raft.LogStore, entries []*raft.Log) ([]*raft.Log, error) {
	last, err := beneath.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	for ; len(entries) > 0 && entries[0].Index <= last; entries = entries[1:] {
		var kept raft.Log
		switch err := beneath.GetLog(entries[0].Index, &kept); {
		case errors.Is(err, raft.ErrLogNotFound):
		case err != nil:
			return nil, fmt.Errorf("read the log: %w", err)
		case kept.Term != entries[0].Term:
			return nil, fmt.Errorf("%w: it is not of this log: entry %d is of another term", ErrDamaged, kept.Index)
		}
	}
	return entries, nil
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. What it is given must not be changed afterwards.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.makeRoom(entries); err != nil {
		return err
	}
	if err := l.append(entries); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh = append(l.fresh, entries...)
	return nil
}

// makeRoom changes to the other file if the current one is full.
func (l *Log) makeRoom(entries []*raft.Log) error {
	l.mu.Lock()
	failure, here := l.failure, len(l.fresh)
	l.mu.Unlock()
	switch {
	case failure != nil:
		return failure
	case here == 0, here < l.limits.entries && l.offset+recordSize(entries) <= l.limits.bytes:
		return nil
	}
	return l.change()
}

// append writes a record to the current file.
func (l *Log) append(entries []*raft.Log) error {
	l.buffer = appendRecord(l.buffer[:0], l.number, entries)
	f := l.files[l.current]
	if _, err := f.WriteAt(l.buffer, l.offset); err != nil {
		return l.fail(fmt.Errorf("write to the journal of the log: %w", err))
	}
	if err := f.Sync(); err != nil {
		return l.fail(fmt.Errorf("sync the journal of the log: %w", err))
	}
	l.offset += int64(len(l.buffer))
	l.number++
	if int64(cap(l.buffer)) > l.limits.bytes {
		l.buffer = nil
	}
	return nil
}

// change changes to the other file, as soon as all that is in there is beneath, and has
// what is in the current one taken over.
func (l *Log) change() error {
	entries, err := l.handOver()
	if err != nil {
		return err
	}
	l.taking.Go(func() { l.take(entries) })
	return l.begin()
}

func (l *Log) handOver() ([]*raft.Log, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.waitForOlder(); err != nil {
		return nil, err
	}
	l.older, l.fresh = l.fresh, nil
	return l.older, nil
}

// begin begins the other file anew, with a record of nothing, which says of those behind
// it that they are older. It fits into a sector, so that those are all there until it is:
// no record is missing while others are written over them.
func (l *Log) begin() error {
	l.current, l.offset = 1-l.current, 0
	return l.append(nil)
}

func (l *Log) waitForOlder() error {
	for len(l.older) > 0 && l.failure == nil {
		l.changed.Wait()
	}
	return l.failure
}

// take stores entries beneath.
func (l *Log) take(entries []*raft.Log) {
	err := errEnded
	defer func() { l.taken(err) }() // even if the goroutine ends there
	err = l.beneath.StoreLogs(entries)
}

var errEnded = errors.New("it came to no end")

func (l *Log) taken(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.older = nil
	} else if l.failure == nil { // the next to write is told
		l.failure = fmt.Errorf("take over the journal of the log: %w", err)
	}
	l.changed.Broadcast()
}

// fail has nothing written any more, and returns why.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = err
	}
	return l.failure
}

// DeleteRange implements raft.LogStore. An end that is cut off must not come back from
// the journal, so that is emptied before.
func (l *Log) DeleteRange(first, last uint64) error {
	beneath, err := l.beneath.LastIndex()
	if err != nil {
		return err
	}
	if last >= beneath {
		if err := l.empty(); err != nil {
			return err
		}
	}
	return l.beneath.DeleteRange(first, last)
}

// empty has everything beneath, and nothing in the journal.
func (l *Log) empty() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.flush(); err != nil {
		return err
	}
	return l.clear()
}

// flush has everything beneath.
func (l *Log) flush() error {
	l.mu.Lock()
	some := len(l.fresh) > 0
	l.mu.Unlock()
	if some {
		if err := l.change(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waitForOlder()
}

// clear empties both files, all of which is beneath, the older one first.
func (l *Log) clear() error {
	for range l.files {
		if err := l.begin(); err != nil {
			return err
		}
	}
	return nil
}

// GetLog implements raft.LogStore.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	if e := l.journaled(index); e != nil {
		*entry = *e
		return nil
	}
	return l.beneath.GetLog(index, entry)
}

// journaled returns an entry if it is not beneath yet. Raft leaves a gap in the log where
// it has installed a snapshot.
func (l *Log) journaled(index uint64) *raft.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, entries := range [...][]*raft.Log{l.fresh, l.older} {
		at, found := slices.BinarySearchFunc(entries, index, func(e *raft.Log, index uint64) int { return cmp.Compare(e.Index, index) })
		if found {
			return entries[at]
		}
	}
	return nil
}

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.Lock()
	oldest := l.older
	if len(oldest) == 0 {
		oldest = l.fresh
	}
	l.mu.Unlock()
	first, err := l.beneath.FirstIndex()
	if err == nil && first == 0 && len(oldest) > 0 {
		first = oldest[0].Index
	}
	return first, err
}

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.Lock()
	newest := l.fresh
	if len(newest) == 0 {
		newest = l.older
	}
	l.mu.Unlock()
	if len(newest) > 0 {
		return newest[len(newest)-1].Index, nil
	}
	return l.beneath.LastIndex()
}

// Close has everything beneath if it can be written, and closes the files; what cannot is
// there when the journal is opened again. The log beneath stays open.
func (l *Log) Close() error {
	_ = l.empty()
	l.taking.Wait()
	return l.closeFiles()
}

func (l *Log) closeFiles() (err error) {
	for _, f := range l.files {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
