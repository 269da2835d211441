package limits

import (
	"sync"

	"lockstep/fsm"
)

// recentLength is after how many admissions the older half of them is forgotten.
const recentLength = 8192

// recent counts how often the last commands were let in, between one and two
// times recentLength of them: those that may be under way and not yet applied.
type recent struct {
	mu         sync.Mutex
	young, old map[fsm.CommandID]int
}

func (r *recent) times(id fsm.CommandID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(r.young[id], r.old[id])
}

func (r *recent) add(id fsm.CommandID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := max(r.young[id], r.old[id]) + 1
	if r.young == nil || len(r.young) >= recentLength {
		r.old, r.young = r.young, make(map[fsm.CommandID]int, recentLength)
	}
	r.young[id] = times
}
