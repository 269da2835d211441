package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"lockstep/fsm"
)

// vettedLog is a log store that refuses commands that were spoilt on their way here,
// and those that only a newer release can read, before anything is done with them.
type vettedLog struct {
	raft.LogStore
	newer func(error) // is told of those of a newer release
}

// StoreLog implements raft.LogStore.
func (v *vettedLog) StoreLog(l *raft.Log) error { return v.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (v *vettedLog) StoreLogs(logs []*raft.Log) error {
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		if err := fsm.CheckBatch(l.Data); err != nil {
			err = fmt.Errorf("log entry %d not stored: %w", l.Index, err)
			if errors.Is(err, fsm.ErrNewer) {
				v.newer(err)
			}
			return err
		}
	}
	return v.LogStore.StoreLogs(logs)
}
