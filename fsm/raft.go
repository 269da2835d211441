package fsm

import (
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"
)

var _ raft.BatchingFSM = (*FSM)(nil)

// Apply implements raft.FSM for one log entry.
func (f *FSM) Apply(log *raft.Log) any { return f.ApplyBatch([]*raft.Log{log})[0] }

// ApplyBatch implements raft.BatchingFSM: it applies the entries and publishes
// one view after the last. The response to an entry is a []*Result with one
// result for each command of its batch, and nil for raft's own entries, which
// only move the index.
//
// An entry that cannot be decoded ends the process: the log is the truth, and
// skipping a part of it would make this node's state differ from its peers'.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	f.applying.Lock()
	defer f.applying.Unlock()
	responses := make([]any, len(logs))
	var applied []Applied
	var events []Event
	for i, log := range logs {
		f.work.meta.Index, f.work.meta.Term = log.Index, log.Term
		if log.Type != raft.LogCommand {
			continue
		}
		stamp, commands, err := decodeBatch(log.Data)
		if err != nil {
			panic(fmt.Sprintf("log entry %d: %v", log.Index, err))
		}
		f.work.meta.Time = max(f.work.meta.Time, stamp)
		if events == nil {
			events = make([]Event, 0, len(commands)) // most make one
		}
		applied = slices.Grow(applied, len(commands))
		decided, results := make([]Result, len(commands)), make([]*Result, len(commands))
		tx := tx{view: f.work, events: events}
		for j := range commands {
			tx.command = &commands[j]
			decided[j] = f.apply(&tx)
			results[j] = &decided[j]
			applied = append(applied, Applied{ID: tx.command.ID, Result: results[j]})
		}
		events = tx.events
		f.dedup.expire(f.work.meta.Time, log.Index)
		f.digests.add(f.work.chain(checksumOf(log.Data), tx.results))
		responses[i] = results
	}
	f.publish()
	if len(applied) > 0 {
		f.config.Applied(applied)
	}
	f.feed.append(Batch{Index: f.work.meta.Index, Events: events})
	return responses
}

// Snapshot implements raft.FSM. It costs the same for any amount of data, which
// is the last published view; only the dedup windows' references to chunks are copied.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	return &snapshot{view: f.View(), windows: f.dedup.snapshot()}, nil
}

// Restore implements raft.FSM: it reads a whole snapshot aside, verifies it,
// and then replaces the state. Followers of the feed are told to start afresh,
// since what lies between the old and the new state was never applied here.
func (f *FSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	view, windows, err := readSnapshot(r)
	if err != nil {
		return err
	}
	f.applying.Lock()
	defer f.applying.Unlock()
	f.work = view
	f.dedup.restore(windows)
	f.digests.reset(view.Digest())
	f.publish()
	f.feed.reset()
	return nil
}

type snapshot struct {
	view    *View
	windows []storedWindow
}

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := writeSnapshot(sink, s.view, s.windows); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}
