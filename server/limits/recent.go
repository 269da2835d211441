package limits

import (
	"sync"

	"lockstep/fsm"
)

// recentLength is the number of admissions after which the older half is forgotten.
const recentLength = 8192

// recent counts how often each of the last commands was admitted. It remembers
// between one and two times recentLength of them, which may not be applied yet.
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
