package replica

import (
	"runtime/debug"
	"sync"
	"time"

	"lockstep/cluster/internal/lifetime"
)

// off is the garbage collector's share of memory (GOGC) while a state is restored:
// nearly all that is made then stays, so that collecting finds nothing and takes the
// processors from those who read. The limit of the runtime's memory holds as ever.
const off = -1

// restoring are the states that are restored in this process at this time.
var restoring struct {
	sync.Mutex
	count  int
	before int // the collector's share when nothing is restored
}

// calm is for how long nothing is collected once a state is there: to look through all
// of it is the last thing to do while the node catches up with the log.
const calm = time.Second

// patience has the collector wait until end is called.
func patience() (end func()) {
	restoring.Lock()
	defer restoring.Unlock()
	if restoring.count++; restoring.count == 1 {
		restoring.before = debug.SetGCPercent(off)
	}
	return func() {
		restoring.Lock()
		defer restoring.Unlock()
		if restoring.count--; restoring.count == 0 {
			debug.SetGCPercent(restoring.before)
		}
	}
}

// patiently calls restore while the collector waits, as it does for a moment behind it.
func patiently(life *lifetime.Lifetime, restore func() error) error {
	end := patience()
	defer func() {
		err := life.Go(func() {
			lifetime.Pause(life.Context(), calm)
			end()
		})
		if err != nil {
			end()
		}
	}()
	return restore()
}
