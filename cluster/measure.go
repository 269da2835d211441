package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/replica"
)

// Measure is what Config.Observe is told of, in seconds unless it says otherwise.
// Each is observed once for a group of commands, reads or entries, never for each
// of them.
type Measure int

const (
	// MeasureQueued is the wait of the oldest command of a log entry, on the leader,
	// until the entry is made.
	MeasureQueued Measure = iota
	// MeasureForwarded is the time of a group of commands to the leader and of its
	// answer back.
	MeasureForwarded
	// MeasureAppended is a write of entries to this node's log, with its fsync.
	MeasureAppended
	// MeasureCut is the removal of entries from it, and MeasurePromised a write of
	// the term or the vote.
	MeasureCut
	MeasurePromised
	// MeasureCommitted is the time of a log entry of this leader from when raft has it
	// until a majority does, and its application begins.
	MeasureCommitted
	// MeasureApplied is the application of the entries that were committed together.
	MeasureApplied
	// MeasureRound is a round of reads: the question to the leader and its answer.
	MeasureRound
	// MeasureSnapshot is the writing of a snapshot.
	MeasureSnapshot

	// MeasureEntryCommands and MeasureEntryBytes are the commands of a log entry that
	// this node makes, and its bytes; MeasureRoundReads the reads of a round.
	MeasureEntryCommands
	MeasureEntryBytes
	MeasureRoundReads

	// Measures is how many there are.
	Measures
)

// observe tells of a measure, if somebody listens.
func (c Config) observe(what Measure, value float64) {
	if c.Observe != nil {
		c.Observe(what, value)
	}
}

func (c Config) took(what Measure) func(time.Duration) {
	return func(d time.Duration) { c.observe(what, d.Seconds()) }
}

// batches is what the batcher tells of its work.
func (n *Node) batches() batch.Observer {
	return batch.Observer{
		Made: func(commands, bytes int, waited time.Duration) {
			n.config.observe(MeasureEntryCommands, float64(commands))
			n.config.observe(MeasureEntryBytes, float64(bytes))
			n.config.observe(MeasureQueued, waited.Seconds())
		},
		Applied: func(handed time.Time) {
			if wait, ok := n.history.began(handed); ok {
				n.config.observe(MeasureCommitted, wait.Seconds())
			}
		},
		Traced: func(span *Span, arrived, handed time.Time) {
			wait, ok := n.history.began(handed)
			if n.config.Tracer == nil || !ok {
				return
			}
			n.config.Tracer.Record(span, "queue", arrived, handed)
			n.config.Tracer.Record(span, "commit", handed, handed.Add(wait))
			n.config.Tracer.Record(span, "apply", handed.Add(wait), time.Now())
		},
	}
}

// keptTimes is how many rounds of applying the node knows the time of: followers
// of the feed that are further behind are not measured.
const keptTimes = 1024

// history is when what was applied lately was.
type history struct {
	opened time.Time

	mu    sync.Mutex
	last  time.Time // the newest round began
	times [keptTimes]round
	next  int
}

// round is the entries that were applied together.
type round struct {
	index uint64 // of the last one
	at    time.Duration
}

// applying notes that a round begins.
func (h *history) applying() time.Time {
	now := time.Now()
	h.mu.Lock()
	h.last = now
	h.mu.Unlock()
	return now
}

// began returns the time from handed until the newest round began, which is that of
// an entry that was the only one under way since handed.
func (h *history) began(handed time.Time) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait := h.last.Sub(handed)
	return wait, wait >= 0
}

// applied notes that a round which ends with an entry is about to be told.
func (h *history) applied(index uint64) {
	at := time.Since(h.opened)
	h.mu.Lock()
	h.times[h.next%keptTimes] = round{index, at}
	h.next++
	h.mu.Unlock()
}

// since returns the time that has passed since the round of an entry.
func (h *history) since(index uint64) (time.Duration, bool) {
	now := time.Since(h.opened)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := h.next - 1; i >= max(0, h.next-keptTimes); i-- {
		switch r := h.times[i%keptTimes]; {
		case r.index == index:
			return now - r.at, true
		case r.index < index:
			return 0, false
		}
	}
	return 0, false
}

// SinceApplied returns the time since this node's store applied the entries that
// end with an index, if that was lately.
func (n *Node) SinceApplied(index uint64) (time.Duration, bool) { return n.history.since(index) }

// timedStore is the store as raft has it, with the time that applying takes. It
// applies what this node's disk has.
type timedStore struct {
	replica.FSM
	node *Node

	// ended says that there is an entry which the disk will never have. Raft's
	// goroutine for the store has it.
	ended bool
}

// errNotWritten: the store is behind what raft believes to be applied.
var errNotWritten = errors.New("entries were not written to this node's log")

// ApplyBatch implements raft.BatchingFSM. What is not applied has no results.
func (s *timedStore) ApplyBatch(logs []*raft.Log) []any {
	if s.ended = s.ended || !s.node.log.Wait(logs[len(logs)-1].Index); s.ended {
		return make([]any, len(logs))
	}
	begun := s.node.history.applying()
	responses := s.FSM.ApplyBatch(logs)
	s.node.config.observe(MeasureApplied, time.Since(begun).Seconds())
	return responses
}

// Apply implements raft.FSM.
func (s *timedStore) Apply(log *raft.Log) any { return s.ApplyBatch([]*raft.Log{log})[0] }

// Snapshot implements raft.FSM.
func (s *timedStore) Snapshot() (raft.FSMSnapshot, error) {
	if s.ended {
		return nil, errNotWritten
	}
	return s.FSM.Snapshot()
}

// timedSnapshots is a snapshot store that tells how long writing takes, and that
// knows the size of the newest one.
type timedSnapshots struct {
	raft.SnapshotStore
	took func(time.Duration)
	size atomic.Int64
}

func newTimedSnapshots(inner raft.SnapshotStore, took func(time.Duration)) *timedSnapshots {
	s := &timedSnapshots{SnapshotStore: inner, took: took}
	if kept, err := inner.List(); err == nil && len(kept) > 0 { // an error is raft's to meet
		s.size.Store(kept[0].Size)
	}
	return s
}

// Create implements raft.SnapshotStore.
func (s *timedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &timedSink{SnapshotSink: sink, store: s, begun: time.Now()}, nil
}

type timedSink struct {
	raft.SnapshotSink
	store   *timedSnapshots
	begun   time.Time
	written int64
}

// Write implements io.Writer.
func (s *timedSink) Write(b []byte) (int, error) {
	n, err := s.SnapshotSink.Write(b)
	s.written += int64(n)
	return n, err
}

// Close implements io.Closer: the snapshot counts from now on.
func (s *timedSink) Close() error {
	err := s.SnapshotSink.Close()
	if err == nil {
		s.store.size.Store(s.written)
		s.store.took(time.Since(s.begun))
	}
	return err
}

// Depths are what waits on this node, and how large its files are.
type Depths struct {
	Commands  int // on this leader, for a log entry
	Forwarded int // to be sent to the leader
	Reads     int // for a round

	SnapshotBytes int64  // of the newest snapshot; 0: there is none
	LogBytes      int64  // of the log's file; 0 in simulations
	LogEntries    uint64 // in it, those in front that snapshots cover among them
}

// Depths returns what waits on this node. It may wait for the disk.
func (n *Node) Depths() Depths {
	d := Depths{Forwarded: n.proposer.Waiting(), Reads: n.reads.Waiting(), SnapshotBytes: n.snapshots.size.Load()}
	if t := n.leadership.Leading(); t != nil {
		d.Commands = t.Waiting()
	}
	if n.config.Parts == nil {
		if info, err := os.Stat(filepath.Join(n.config.DataDir, raftDirectory, logFile)); err == nil {
			d.LogBytes = info.Size()
		}
	}
	first, err := n.stores.checked.FirstIndex()
	if err != nil || first == 0 {
		return d
	}
	if last, err := n.stores.checked.LastIndex(); err == nil && last >= first {
		d.LogEntries = last - first + 1
	}
	return d
}
