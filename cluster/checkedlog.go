package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"lockstep/fsm"
)

// checkedLog is a log store that believes nothing that it reads: each entry,
// raft's own ones included, is kept with a checksum of its place, term, kind and
// data. Disks lie, and bbolt has no checksum on its data pages. What fails the
// check is neither applied nor sent to anybody.
type checkedLog struct {
	raft.LogStore

	// damaged is told of an entry that fails the check while raft runs, which can
	// only panic or go on without the entry.
	damaged func(error)

	// configuration is the index of the newest configuration that was written, or
	// a later one if that was replaced: raft does not tell.
	configuration atomic.Uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(l *raft.Log) []byte {
	var place [17]byte
	binary.LittleEndian.PutUint64(place[:], l.Index)
	binary.LittleEndian.PutUint64(place[8:], l.Term)
	place[16] = byte(l.Type)
	sum := crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, l.Data)
	return binary.LittleEndian.AppendUint32(nil, sum)
}

// StoreLog implements raft.LogStore.
func (c *checkedLog) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (c *checkedLog) StoreLogs(logs []*raft.Log) error {
	checked := make([]*raft.Log, len(logs))
	for i, l := range logs {
		entry := *l // raft and its cache keep theirs
		entry.Extensions = checksum(l)
		checked[i] = &entry
	}
	if err := c.LogStore.StoreLogs(checked); err != nil {
		return err
	}
	for _, l := range logs {
		c.note(l)
	}
	return nil
}

func (c *checkedLog) note(l *raft.Log) {
	if l.Type == raft.LogConfiguration {
		c.configuration.Store(l.Index)
	}
}

// GetLog implements raft.LogStore.
func (c *checkedLog) GetLog(index uint64, l *raft.Log) error {
	err := c.get(index, l)
	if errors.Is(err, ErrDamaged) && c.damaged != nil {
		c.damaged(err)
	}
	return err
}

func (c *checkedLog) get(index uint64, l *raft.Log) error {
	err := c.LogStore.GetLog(index, l)
	switch {
	case errors.Is(err, raft.ErrLogNotFound):
		return err
	case err != nil:
		return fmt.Errorf("%w: log entry %d: %w", ErrDamaged, index, err)
	case l.Index != index || string(l.Extensions) != string(checksum(l)):
		return fmt.Errorf("%w: log entry %d does not match its checksum", ErrDamaged, index)
	}
	l.Extensions = nil
	return nil
}

// verify reads the whole log, before raft does. Up to the entry that a snapshot
// covers, entries may be missing: raft leaves what stood there before it
// installed the snapshot. It returns the term of the last entry.
func (c *checkedLog) verify(first, last, covered uint64) (term uint64, err error) {
	for index := first; first > 0 && index <= last; index++ {
		var l raft.Log
		err := c.get(index, &l)
		switch {
		case errors.Is(err, raft.ErrLogNotFound) && index <= covered:
		case errors.Is(err, raft.ErrLogNotFound):
			return 0, fmt.Errorf("%w: the newest that can be read ends with entry %d, and entry %d is not in the log", ErrSnapshots, covered, index)
		case err != nil:
			return 0, err
		default:
			if err := checkLevel(&l); err != nil {
				return 0, err
			}
			c.note(&l)
			term = l.Term
		}
	}
	return term, nil
}

// checkLevel refuses an entry that only a newer release can read. An entry that
// nobody can is raft's to come upon.
func checkLevel(l *raft.Log) error {
	if l.Type != raft.LogCommand {
		return nil
	}
	if err := fsm.CheckBatch(l.Data); errors.Is(err, fsm.ErrNewer) {
		return fmt.Errorf("log entry %d: %w", l.Index, err)
	}
	return nil
}
