package server

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"lockstep/cluster/durable"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/bounds"
)

// diskRoom keeps the nodes' disks from becoming full, which would end the
// nodes: the leader refuses all writes while there is less room than a reserve,
// except removals and changes of the account's and the cluster's secrets. The
// reserve is for those, and for what the nodes write of themselves.
type diskRoom struct {
	reserve int64                 // zero or less: none
	free    func() (int64, error) // bytes
	log     *slog.Logger

	refuses atomic.Bool // as the cluster has told
}

func newDiskRoom(b bounds.Bounds, dir string, log *slog.Logger) *diskRoom {
	if dir == "" { // nothing is written
		b.DiskReserve = 0
	}
	return &diskRoom{reserve: int64(b.DiskReserve), log: log, free: func() (int64, error) { return durable.FreeBytes(dir) }}
}

// short reports whether this node's disk has less room than the reserve. What is
// not known is not short.
func (d *diskRoom) short() bool {
	if d.reserve <= 0 {
		return false
	}
	free, err := d.free()
	return err == nil && free < d.reserve
}

// told is called with whether this node, if it leads, is to refuse.
func (d *diskRoom) told(refuse bool) {
	if d.refuses.Swap(refuse) != refuse {
		d.log.Warn("room on the disks", "enough", !refuse, "reserve", d.reserve)
	}
}

// note returns what an operator should know, if anything.
func (d *diskRoom) note() string {
	if !d.short() {
		return ""
	}
	return fmt.Sprintf("the disk is nearly full: less than --disk-reserve, %d bytes, is free; while that is so on the leader or on a majority of the nodes, all writes but removals and changes of secrets are refused (507, 54906)", d.reserve)
}

// refuse returns the refusal of a command for which the disks have no room, or nil.
func (d *diskRoom) refuse(c *fsm.Command) *objects.Error {
	if d.refuses.Load() && fsm.NeedsRoom(c.Op) {
		return objects.ErrDiskFull
	}
	return nil
}
