package server

import (
	"context"
	"sync"
)

// drainGate counts the REST requests of clients under way and can be shut for new ones,
// so that a node leaves without cutting anybody off.
type drainGate struct {
	mu    sync.Mutex
	shut  bool
	count int
	empty chan struct{} // closed when the last one leaves a shut gate
}

// enter lets a request in, unless the gate is shut. Whoever entered must leave.
func (g *drainGate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.count++
	return true
}

func (g *drainGate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count--
	g.signal()
}

func (g *drainGate) signal() {
	if g.shut && g.count == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// close shuts the gate and waits until those inside have left, or ctx ends.
func (g *drainGate) close(ctx context.Context) error {
	g.mu.Lock()
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty // the same for all who wait
	g.shut = true
	g.signal()
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open lets requests in again.
func (g *drainGate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.empty = false, nil
}
