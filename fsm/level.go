package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
)

// Level is a format level: what may stand in the log and in snapshots. The
// cluster's level is part of the state. Nothing that a level adds (an operation, a
// field, a record) is written before the cluster has reached it, and the leader
// raises it only when every member knows the new one. So a member never meets
// what it cannot read, and members of two releases share one log.
//
// A level is never lowered: a release that does not know the cluster's refuses
// its data, in words.
type Level uint32

const (
	// Level1 is all that the first release reads and writes.
	Level1 Level = 1
)

// ErrNewer is wrapped by every refusal of what a newer release has written.
var ErrNewer = errors.New("written by a newer release, at a format level that this one does not know")

// check reports that this release cannot read what has a level.
func (l Level) check() error {
	if l > Newest {
		return fmt.Errorf("%w (it is at level %d, and this release knows up to level %d)", ErrNewer, l, Newest)
	}
	return nil
}

// cutLevel reads the level at the beginning of b, and returns what follows.
func cutLevel(b []byte) (Level, []byte, error) {
	level, n := binary.Uvarint(b)
	if n <= 0 || level == 0 || level > uint64(^Level(0)) {
		return 0, nil, errors.New("no format level")
	}
	return Level(level), b[n:], nil
}

// Level is the cluster's format level.
func (v *View) Level() Level { return v.meta.Level }

// Needs returns the format level from which on a cluster may write an operation.
func Needs(op Op) Level { return rows[reflect.TypeOf(op)].level }

// readableFrom is the level that the reader of a command has to know. The
// command that raises the level is the first that a node of the old one cannot
// go on from.
func (c *Command) readableFrom() Level {
	if raise, ok := c.Op.(*RaiseLevel); ok {
		return max(Level1, raise.Level)
	}
	return Needs(c.Op)
}

// RaiseLevel raises the cluster's format level. The leader proposes it when all
// members know the new one.
type RaiseLevel struct {
	Level Level `cbor:"1,keyasint"`
}

func (op *RaiseLevel) apply(tx *tx) Result {
	tx.view.meta.Level = max(tx.view.meta.Level, op.Level)
	return Result{}
}
