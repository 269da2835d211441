// Package asynclog has a leader write its own log while its followers write
// theirs. hashicorp/raft first writes an entry and then sends it, so that every
// write waits for two disks in a row; by Raft itself a leader may do both at once
// (Ongaro's dissertation, 10.2.1), if its own copy counts only when it is written.
//
// Here raft is told at once that a batch is written, and counts the leader's copy
// too early. So what raft believes to be committed is that only when it is on this
// disk, too, and until then nobody hears of it:
//
//   - the store applies nothing before Wait says so, and
//   - followers are told of nothing more than Written returns.
//
// A server that crashes meanwhile lacks entries that it sent to others, but nobody
// was told that they are committed, and it never leads that term again. One that
// leads no more, but is still writing, may tell another leader that it has them. That
// counts for nothing before it has an entry of the other one's term, too, and that
// is written behind them: what is stored waits for what was stored before.
//
// Configurations, and everything else that is no command, are written before raft
// goes on, since raft acts on them by itself. At most one batch is being written.
package asynclog

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Log is a log store that writes a leader's batches in a goroutine of its own.
// Close ends that.
//
// It relies on the store beneath to end the goroutine that writes after a failure,
// as disk.Disk does: after the first one every write goes straight there.
type Log struct {
	raft.LogStore // the one beneath

	leads   atomic.Pointer[func() bool]
	batches chan []*raft.Log
	writer  sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	batch   []*raft.Log // that is being written
	failed  bool
}

// New returns the log of a server that does not lead.
func New(beneath raft.LogStore) *Log {
	l := &Log{LogStore: beneath, batches: make(chan []*raft.Log, 1)}
	l.changed.L = &l.mu
	l.writer.Go(l.run)
	return l
}

// Use has batches written in the background as long as leads reports that this
// server does. Raft must have it so whenever it stores entries that this server made,
// and never while it stores another one's.
func (l *Log) Use(leads func() bool) { l.leads.Store(&leads) }

// Close waits for what is being written. Nothing may be stored afterwards.
func (l *Log) Close() {
	close(l.batches)
	l.writer.Wait()
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if !l.flush() || !l.leading() || !areCommands(entries) {
		return l.LogStore.StoreLogs(entries)
	}
	l.mu.Lock()
	l.batch = entries
	l.mu.Unlock()
	l.batches <- entries // there is room: the one before is written
	return nil
}

func (l *Log) leading() bool {
	leads := l.leads.Load()
	return leads != nil && (*leads)()
}

func areCommands(entries []*raft.Log) bool {
	return !slices.ContainsFunc(entries, func(e *raft.Log) bool { return e.Type != raft.LogCommand })
}

func (l *Log) run() {
	for batch := range l.batches {
		l.write(batch)
	}
}

func (l *Log) write(batch []*raft.Log) {
	written := false
	defer func() { // even if the goroutine ends there
		l.mu.Lock()
		defer l.mu.Unlock()
		if written {
			l.batch = nil
		} else {
			l.failed = true
		}
		l.changed.Broadcast()
	}()
	written = l.LogStore.StoreLogs(batch) == nil
}

// GetLog implements raft.LogStore.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	if e := l.pending(index); e != nil {
		*entry = *e
		return nil
	}
	return l.LogStore.GetLog(index, entry)
}

// pending returns an entry if it is being written.
func (l *Log) pending(index uint64) *raft.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.batch) == 0 || index < l.batch[0].Index || index-l.batch[0].Index >= uint64(len(l.batch)) {
		return nil
	}
	return l.batch[index-l.batch[0].Index]
}

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.Lock()
	batch := l.batch
	l.mu.Unlock()
	if len(batch) > 0 {
		return batch[len(batch)-1].Index, nil
	}
	return l.LogStore.LastIndex()
}

// DeleteRange implements raft.LogStore.
func (l *Log) DeleteRange(first, last uint64) error {
	l.flush()
	return l.LogStore.DeleteRange(first, last)
}

// Wait waits until the entries up to an index are written, and returns false if they
// never will be.
func (l *Log) Wait(index uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.batch) > 0 && l.batch[0].Index <= index {
		if l.failed {
			return false
		}
		l.changed.Wait()
	}
	return true
}

// Written returns an index, or the last one before it that is written.
func (l *Log) Written(index uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.batch) > 0 && l.batch[0].Index <= index {
		return l.batch[0].Index - 1
	}
	return index
}

// flush waits until everything is written, and returns false if it never will be.
func (l *Log) flush() bool { return l.Wait(^uint64(0)) }
