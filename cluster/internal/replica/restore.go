package replica

import (
	"io"
	"runtime/debug"
	"sync"
)

// restorePercent is the garbage collector's share of memory (GOGC) while a state is
// restored: nearly all that is made then stays, so that collecting finds nothing and
// takes half of the processors from those who read. The limit of the runtime's memory
// holds as ever.
const restorePercent = 400

// restoring are the states that are restored in this process at this time.
var restoring struct {
	sync.Mutex
	count  int
	before int // the collector's share when nothing is restored
}

// patiently calls restore while the collector is patient.
func patiently(restore func(io.ReadCloser) error, content io.ReadCloser) error {
	restoring.Lock()
	if restoring.count++; restoring.count == 1 {
		restoring.before = debug.SetGCPercent(restorePercent)
		if restoring.before < 0 || restoring.before > restorePercent { // the user's will
			debug.SetGCPercent(restoring.before)
		}
	}
	restoring.Unlock()
	defer func() {
		restoring.Lock()
		defer restoring.Unlock()
		if restoring.count--; restoring.count == 0 {
			debug.SetGCPercent(restoring.before)
		}
	}()
	return restore(content)
}
