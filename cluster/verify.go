package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"lockstep/fsm"
)

// verify looks at what is on disk before raft does, which panics where a
// snapshot and the log have a gap between them, and believes what it reads.
func (s *stores) verify() error {
	first, err := s.checked.FirstIndex()
	if err != nil {
		return fmt.Errorf("%w: first log entry: %w", ErrDamaged, err)
	}
	last, err := s.checked.LastIndex()
	if err != nil {
		return fmt.Errorf("%w: last log entry: %w", ErrDamaged, err)
	}
	taken, err := s.snapshots.List()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshots, err)
	}
	good, err := s.newestGood(taken)
	covered, term := uint64(0), uint64(0)
	switch {
	case good != nil:
		covered, term = good.Index, good.Term
	case errors.Is(err, fsm.ErrNewer):
		return err
	case len(taken) > 0:
		return fmt.Errorf("%w: none of %d can be read: %w", ErrSnapshots, len(taken), err)
	}
	if last > 0 && first > covered+1 {
		return fmt.Errorf("%w: the newest that can be read ends with entry %d, and the log begins with entry %d", ErrSnapshots, covered, first)
	}
	newest, err := s.checked.verify(first, last, covered)
	if err != nil {
		return err
	}
	return s.stable.verify(max(term, newest))
}

// newestGood returns the newest snapshot whose content is what was written, as
// raft will find it. One that only a newer release can read is no reason to go on
// from an older one.
func (s *stores) newestGood(taken []*raft.SnapshotMeta) (good *raft.SnapshotMeta, err error) {
	for _, meta := range taken {
		_, content, openErr := s.snapshots.Open(meta.ID) // reads all of it
		if openErr != nil {
			err = fmt.Errorf("snapshot %s: %w", meta.ID, openErr)
			continue
		}
		if err := fsm.CheckSnapshot(content); errors.Is(err, fsm.ErrNewer) {
			return nil, errors.Join(fmt.Errorf("snapshot %s: %w", meta.ID, err), content.Close())
		}
		return meta, content.Close()
	}
	return nil, err
}
