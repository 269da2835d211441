package realtime

import (
	"slices"
	"sync"
	"time"
)

// workers are the goroutines that requests run in, each one request after another. A
// request waits for its commit and needs a goroutine meanwhile, but the stack of a new
// one would have to grow each time: so one that is done waits a while for the next
// request. No request waits for a worker.
type workers struct {
	running *sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	idle    []*worker // whose stack was used last at the end
	unused  int       // the fewest that were idle since the last look
	look    *time.Timer
	looking bool // look is due
}

const (
	// idleWorkers is how many goroutines wait for requests at most.
	idleWorkers = 512

	// workerLook is how often those end that were not needed since the last time.
	workerLook = time.Second
)

// worker is a goroutine that waits for a task. None: it ends.
type worker struct {
	next chan func() // one slot
}

func (w *workers) init(running *sync.WaitGroup) {
	w.running = running
	w.look = time.AfterFunc(time.Hour, w.trim)
	w.look.Stop()
}

// run runs a task in a goroutine that it does not share with another one.
func (w *workers) run(task func()) {
	w.mu.Lock()
	if n := len(w.idle) - 1; n >= 0 {
		x := w.idle[n]
		w.idle[n] = nil
		w.idle = w.idle[:n]
		w.unused = min(w.unused, n)
		w.mu.Unlock()
		x.next <- task
		return
	}
	w.mu.Unlock()
	w.running.Go(func() {
		x := &worker{next: make(chan func(), 1)}
		for ; task != nil; task = <-x.next {
			task()
			if !w.keep(x) {
				return
			}
		}
	})
}

// keep has a worker wait for a task, unless enough do.
func (w *workers) keep(x *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) == idleWorkers {
		return false
	}
	w.idle = append(w.idle, x)
	if !w.looking {
		w.looking, w.unused = true, 0
		w.look.Reset(workerLook)
	}
	return true
}

// trim ends the workers that were idle all the time since the last look.
func (w *workers) trim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(w.unused)
	w.unused = len(w.idle)
	if w.looking = w.unused > 0; w.looking {
		w.look.Reset(workerLook)
	} else {
		w.idle = nil
	}
}

// end ends those that wait longest.
func (w *workers) end(count int) {
	for _, x := range w.idle[:count] {
		x.next <- nil // it waits for it
	}
	w.idle = slices.Delete(w.idle, 0, count)
}

// close ends all that wait, and those that run when they are done.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.look.Stop()
	w.unused = 0
	w.end(len(w.idle))
}
