package cluster

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
)

const (
	// trimInterval is how often the log's bounds are adapted to the size of what
	// is written.
	trimInterval = 5 * time.Second
	// defaultTrailingBytes is what stays in the log behind a snapshot at most.
	defaultTrailingBytes = 256 << 20
	// smallLog is what stays however small the state is, if that is not too much, and
	// logShare the part of a larger one's size.
	smallLog = 64 << 20
	logShare = 8
	// leastTrailing is how many entries stay however large they are.
	leastTrailing = 64
)

// The sizes of entries are kept for so many groups of so many.
const (
	meterGroups = 256
	meterGroup  = 256
)

// meter is a log store that knows how large its newest entries are. Raft bounds
// its log in entries, which may have a hundred bytes or hundreds of thousands.
type meter struct {
	raft.LogStore

	mu     sync.Mutex
	groups [meterGroups]entryGroup // group g is at g % meterGroups
	last   uint64                  // index of the newest entry
}

// entryGroup is the entries whose index divided by meterGroup is number.
type entryGroup struct {
	number  uint64
	entries uint64
	bytes   uint64
}

// StoreLog implements raft.LogStore.
func (m *meter) StoreLog(log *raft.Log) error { return m.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (m *meter) StoreLogs(logs []*raft.Log) error {
	if err := m.LogStore.StoreLogs(logs); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, log := range logs {
		number := log.Index / meterGroup
		g := &m.groups[number%meterGroups]
		if g.number != number {
			*g = entryGroup{number: number}
		}
		g.entries++
		g.bytes += uint64(len(log.Data) + len(log.Extensions))
		m.last = log.Index
	}
	return nil
}

// within returns how many of the newest entries have at most so many bytes. Those
// written before the start count as if they were as large as those since; ok is
// false while there are none.
func (m *meter) within(bytes uint64) (entries uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var seenEntries, seenBytes uint64
	newest := m.last / meterGroup
	for number := newest; newest-number < meterGroups; number-- {
		g := m.groups[number%meterGroups]
		if g.number != number || g.entries == 0 {
			break
		}
		if seenBytes+g.bytes > bytes {
			return seenEntries + g.entries*(bytes-seenBytes)/g.bytes, true
		}
		seenEntries += g.entries
		seenBytes += g.bytes
		if number == 0 {
			break
		}
	}
	if seenBytes == 0 {
		return 0, false
	}
	return seenEntries + (bytes-seenBytes)/max(1, seenBytes/seenEntries), true
}

// trimLog keeps raft's bounds of the log, which are in entries, at what fits in
// a number of bytes.
func (n *Node) trimLog() {
	for {
		lifetime.Pause(n.life.Context(), trimInterval)
		if n.life.Context().Err() != nil {
			return
		}
		if err := n.adaptLog(); err != nil {
			n.config.Logger.Warn("bounds of the log not adapted", "error", err)
		}
	}
}

// adaptLog has raft keep fewer entries behind a snapshot, and take one earlier,
// when entries are large.
func (n *Node) adaptLog() error {
	fit, ok := n.meter.within(uint64(logBytes(n.fsm.View().Bytes(), n.config.TrailingBytes)))
	if !ok {
		return nil
	}
	now := n.raft.ReloadableConfig()
	next := now
	next.TrailingLogs = max(leastTrailing, min(n.config.TrailingLogs, fit))
	next.SnapshotThreshold = max(leastTrailing, min(n.config.SnapshotThreshold, fit))
	if !differ(now.TrailingLogs, next.TrailingLogs) && !differ(now.SnapshotThreshold, next.SnapshotThreshold) {
		return nil
	}
	return n.raft.ReloadConfig(next)
}

// logBytes returns what stays in the log behind a snapshot of a state. All of it is read
// at each start, and is in the node's memory from then on, as bbolt maps its file. So it
// is little beside a state that a node which was away gets as fast as the log, and more
// of one that takes long to get.
func logBytes(state, most int64) int64 { return min(most, max(smallLog, state/logShare)) }

// differ reports whether two numbers differ by more than a tenth.
func differ(a, b uint64) bool {
	return max(a, b)-min(a, b) > max(a, b)/10
}
