package proposer

import (
	"sync"

	"lockstep/fsm"
)

// Waiters holds the commands whose results this node's own store may bring.
type Waiters struct {
	mu   sync.Mutex
	byID map[fsm.CommandID][]chan *fsm.Result
}

// NewWaiters returns waiters, for a store and the proposer that proposes to it.
func NewWaiters() *Waiters { return &Waiters{byID: make(map[fsm.CommandID][]chan *fsm.Result)} }

func (w *Waiters) add(id fsm.CommandID) chan *fsm.Result {
	c := make(chan *fsm.Result, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byID[id] = append(w.byID[id], c)
	return c
}

func (w *Waiters) remove(id fsm.CommandID, c chan *fsm.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.byID[id][:0]
	for _, other := range w.byID[id] {
		if other != c {
			rest = append(rest, other)
		}
	}
	if len(rest) == 0 {
		delete(w.byID, id)
		return
	}
	w.byID[id] = rest
}

// Resolve passes on the results that the store has applied. It runs on the apply
// goroutine and never waits.
func (w *Waiters) Resolve(applied []fsm.Applied) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range applied {
		for _, c := range w.byID[a.ID] {
			select {
			case c <- a.Result:
			default: // it has one
			}
		}
	}
}
