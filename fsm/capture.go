package fsm

import "io"

// Capture is the state right after one log entry, with the dedup windows: all that
// a snapshot has. It does not change.
type Capture struct{ snapshot }

// Capture returns the present state, to be written to elsewhere than raft's
// snapshots. Unlike Snapshot, which raft calls, it may be called from anywhere; it
// costs as much and holds the apply goroutine up for as long.
func (f *FSM) Capture() *Capture {
	f.applying.Lock()
	defer f.applying.Unlock()
	return &Capture{snapshot{view: f.View(), windows: f.dedup.snapshot()}}
}

// View returns the state without the windows.
func (c *Capture) View() *View { return c.view }

// Write writes the state in the form of a snapshot.
func (c *Capture) Write(w io.Writer) error { return writeSnapshot(w, c.view, c.windows) }
