package server

import (
	"fmt"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/bounds"
	"lockstep/server/memory"
)

// space bounds the state in bytes. The leader refuses what would grow it beyond
// the bound before anything is written, so that a full installation is not one
// with a full log; what removes or shrinks passes. Zero or less: no bound.
type space struct {
	state   int64 // of everything
	service int64 // of the objects of one service
}

func newSpace(b bounds.Bounds) space {
	total := memory.Total()
	return space{state: b.StateBytes.Of(total), service: b.ServiceBytes.Of(total)}
}

// largestWrite is about what the largest single write adds to the state.
const largestWrite = 32 << 10

// note returns what an operator should know of a state that is full, if it is.
// It does not keep a node from serving: reads, removals and what shrinks pass.
func (s space) note(view *fsm.View) string {
	if s.state <= 0 || view.Bytes()+largestWrite <= s.state {
		return ""
	}
	return fmt.Sprintf("the state is full: it takes %d of %d bytes, and what grows it is refused (507, 54901) until something is removed or --max-state-bytes is raised", view.Bytes(), s.state)
}

// refuse returns the refusal of a command for which there is no space, or nil.
func (s space) refuse(view *fsm.View, c *fsm.Command) *objects.Error {
	if s.state <= 0 && s.service <= 0 || s.isAmple(view, c.Op) {
		return nil
	}
	service, growth := view.Growth(c)
	switch {
	case growth == 0:
		return nil
	case s.state > 0 && view.Bytes()+growth > s.state:
		return objects.ErrStateFull
	case s.service > 0 && service != 0 && view.ServiceBytes(service)+growth > s.service:
		return objects.ErrServiceFull
	}
	return nil
}

// isAmple reports whether an operation surely fits, for the most frequent ones and
// without a look at what they are on: not even one service with all there is would be
// full.
func (s space) isAmple(view *fsm.View, op fsm.Op) bool {
	switch op.(type) {
	case *fsm.UpdateObject, *fsm.WriteItem, *fsm.Publish:
	default:
		return false
	}
	fits := func(most int64) bool { return most <= 0 || view.Bytes()+largestWrite <= most }
	return fits(s.state) && fits(s.service)
}
