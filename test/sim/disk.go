package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

var (
	errIO       = errors.New("sim: input/output error")
	errNoSpace  = errors.New("sim: no space left on device")
	errPowerOut = errors.New("sim: the node is down")
	errNotFound = errors.New("not found") // as raft knows it
)

// retained is how many snapshots a disk keeps.
const retained = 2

// Disk is what a node keeps over a crash: log, stable store and snapshots. A
// write takes its time, and is durable when it returns, not before: what is
// under way at a crash is there afterwards, or a part of it, or nothing.
type Disk struct {
	mu        sync.Mutex
	rand      *rand.Rand
	latency   time.Duration // of a write, at most
	logs      map[uint64]raft.Log
	low, high uint64
	values    map[string][]byte
	snapshots []*snapshot // newest first

	life      *life
	hangs     time.Time     // until when writes wait
	repaired  chan struct{} // closed by the next Repair
	fullUntil time.Time
	failing   bool // the next write fails

	incarnation string      // of the node, once it has run
	settled     atomic.Bool // it has had its vote
}

// life is the time between two crashes.
type life struct {
	over    chan struct{}
	pending []*pending
}

// pending is a write under way.
type pending struct {
	parts  int
	commit func(parts int, torn bool)
}

// snapshot is one that is whole.
type snapshot struct {
	meta    raft.SnapshotMeta
	content []byte
}

func newDisk(r *rand.Rand, latency time.Duration) *Disk {
	return &Disk{
		rand: rand.New(rand.NewPCG(r.Uint64(), r.Uint64())), latency: latency,
		logs: make(map[uint64]raft.Log), values: make(map[string][]byte), repaired: make(chan struct{}),
	}
}

// open begins a life. The stores that it returns are dead after the next crash.
func (d *Disk) open() *volume {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.life = &life{over: make(chan struct{})}
	return &volume{disk: d, life: d.life}
}

// Crash ends a life. Of each write that is under way none, all, or the first
// parts are durable; with tear the part behind those may be there by half.
func (d *Disk) Crash(tear bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life == nil {
		return
	}
	for _, p := range d.life.pending {
		p.commit(d.rand.IntN(p.parts+1), tear)
	}
	close(d.life.over)
	d.life, d.failing = nil, false
}

// FailOnce has the next write fail. A part of it may be on the disk all the same.
func (d *Disk) FailOnce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = true
}

// Writing reports whether a write is under way.
func (d *Disk) Writing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.life != nil && len(d.life.pending) > 0
}

// Fill has all writes fail for a while.
func (d *Disk) Fill(while time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fullUntil = time.Now().Add(while)
}

// Hang has what is written from now on wait for a while.
func (d *Disk) Hang(while time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangs = time.Now().Add(while)
}

// Repair ends what FailOnce, Fill and Hang began.
func (d *Disk) Repair() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing, d.fullUntil, d.hangs = false, time.Time{}, time.Time{}
	close(d.repaired)
	d.repaired = make(chan struct{})
}

// volume is the disk in one life of its node.
type volume struct {
	disk *Disk
	life *life
}

var (
	_ raft.LogStore      = (*volume)(nil)
	_ raft.StableStore   = (*volume)(nil)
	_ raft.SnapshotStore = (*volume)(nil)
)

// write makes a write of some parts, of which commit makes the first ones durable.
func (v *volume) write(parts int, commit func(parts int, torn bool)) error {
	d := v.disk
	d.mu.Lock()
	if d.life != v.life {
		d.mu.Unlock()
		return errPowerOut
	}
	p := &pending{parts, commit}
	v.life.pending = append(v.life.pending, p)
	wait := max(0, time.Until(d.hangs))
	if d.latency > 0 {
		wait += upTo(d.rand, d.latency)
	}
	repaired := d.repaired
	d.mu.Unlock()

	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-repaired:
		case <-v.life.over:
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life != v.life {
		return errPowerOut // the crash has decided what is there
	}
	v.life.pending = slices.DeleteFunc(v.life.pending, func(x *pending) bool { return x == p })
	switch {
	case time.Now().Before(d.fullUntil):
		return errNoSpace
	case d.failing:
		d.failing = false
		commit(d.rand.IntN(parts+1), false)
		return errIO
	}
	commit(parts, false)
	return nil
}

// FirstIndex implements raft.LogStore.
func (v *volume) FirstIndex() (uint64, error) {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	return v.disk.low, nil
}

// LastIndex implements raft.LogStore.
func (v *volume) LastIndex() (uint64, error) {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	return v.disk.high, nil
}

// GetLog implements raft.LogStore.
func (v *volume) GetLog(index uint64, l *raft.Log) error {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	entry, ok := v.disk.logs[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*l = entry
	return nil
}

// StoreLog implements raft.LogStore.
func (v *volume) StoreLog(l *raft.Log) error { return v.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (v *volume) StoreLogs(logs []*raft.Log) error {
	entries := make([]raft.Log, len(logs))
	for i, l := range logs {
		entries[i] = *l
	}
	return v.write(len(entries), func(parts int, torn bool) {
		for _, e := range entries[:parts] {
			v.disk.put(e)
		}
		if torn && parts < len(entries) && len(entries[parts].Data) > 1 {
			half := entries[parts]
			half.Data = bytes.Clone(half.Data[:len(half.Data)/2])
			v.disk.put(half)
		}
	})
}

func (d *Disk) put(e raft.Log) {
	d.logs[e.Index] = e
	if d.low == 0 {
		d.low = e.Index
	}
	d.high = max(d.high, e.Index)
}

// DeleteRange implements raft.LogStore.
func (v *volume) DeleteRange(first, last uint64) error {
	return v.write(1, func(parts int, _ bool) {
		if parts == 0 {
			return
		}
		d := v.disk
		for index := first; index <= last; index++ {
			delete(d.logs, index)
		}
		if first <= d.low {
			d.low = last + 1
		}
		if last >= d.high {
			d.high = first - 1
		}
		if d.low > d.high {
			d.low, d.high = 0, 0
		}
	})
}

// Set implements raft.StableStore.
func (v *volume) Set(key, value []byte) error {
	value = bytes.Clone(value)
	return v.write(1, func(parts int, _ bool) {
		if parts > 0 {
			v.disk.values[string(key)] = value
		}
	})
}

// Get implements raft.StableStore.
func (v *volume) Get(key []byte) ([]byte, error) {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	value, ok := v.disk.values[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return value, nil
}

// SetUint64 implements raft.StableStore. A node keeps its numbers with Set.
func (v *volume) SetUint64(key []byte, _ uint64) error {
	return fmt.Errorf("sim: %s is set without a checksum", key)
}

// GetUint64 implements raft.StableStore.
func (v *volume) GetUint64(key []byte) (uint64, error) {
	return 0, fmt.Errorf("sim: %s is read without a checksum", key)
}

// Create implements raft.SnapshotStore.
func (v *volume) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &sink{volume: v, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d-%d", term, index, time.Now().UnixMilli()), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}, nil
}

// List implements raft.SnapshotStore.
func (v *volume) List() (all []*raft.SnapshotMeta, err error) {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	for _, s := range v.disk.snapshots {
		meta := s.meta
		all = append(all, &meta)
	}
	return all, nil
}

// Open implements raft.SnapshotStore.
func (v *volume) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	for _, s := range v.disk.snapshots {
		if s.meta.ID == id {
			meta := s.meta
			return &meta, io.NopCloser(bytes.NewReader(s.content)), nil
		}
	}
	return nil, nil, fmt.Errorf("sim: no snapshot %s", id)
}

// sink is a snapshot that is being written: it is there when it is whole.
type sink struct {
	bytes.Buffer
	volume *volume
	meta   raft.SnapshotMeta
	done   bool
}

// ID implements raft.SnapshotSink.
func (s *sink) ID() string { return s.meta.ID }

// Cancel implements raft.SnapshotSink.
func (s *sink) Cancel() error {
	s.done = true
	return nil
}

// Close implements raft.SnapshotSink.
func (s *sink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	s.meta.Size = int64(s.Len())
	whole := &snapshot{meta: s.meta, content: bytes.Clone(s.Bytes())}
	return s.volume.write(1, func(parts int, _ bool) {
		if parts > 0 {
			d := s.volume.disk
			d.snapshots = append([]*snapshot{whole}, d.snapshots...)
			d.snapshots = d.snapshots[:min(retained, len(d.snapshots))]
		}
	})
}
