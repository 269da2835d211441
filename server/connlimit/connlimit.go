// Package connlimit bounds connections that have yet to prove themselves, in all
// and by source address. A newcomer that finds no place takes that of the oldest
// one of the source that has most: a stranger with many connections loses them
// before anybody else does, and keeps nobody out.
//
// The package starts no goroutines and opens or closes nothing itself.
package connlimit

import (
	"container/list"
	"net/netip"
	"sync"
)

// Pool is a bounded set of connections. It can be used by many goroutines.
type Pool struct {
	total, perSource int

	mu      sync.Mutex
	count   int
	entered uint64
	sources map[netip.Addr]*source
}

// source is the connections of one address.
type source struct {
	count int
	idle  list.List // of *Place, oldest first: those that may be evicted
}

// Place is that of one connection in a Pool.
type Place struct {
	pool   *Pool
	source netip.Addr
	evict  func()
	serial uint64
	idle   *list.Element // nil while it may not be evicted
	gone   bool
}

// New makes a Pool. A negative bound is none.
func New(total, perSource int) *Pool {
	return &Pool{total: total, perSource: perSource, sources: make(map[netip.Addr]*source)}
}

// Enter takes a connection in. evict is called at most once, from another
// goroutine and without a lock, when it has lost its place to another one. It
// reports false when all places are held by connections that may not be evicted.
func (p *Pool) Enter(addr netip.Addr, evict func()) (*Place, bool) {
	p.mu.Lock()
	var losers []*Place
	own, known := p.sources[addr]
	fits := true
	if p.perSource >= 0 && known && own.count >= p.perSource {
		losers, fits = p.take(own, losers)
	}
	if fits && p.total >= 0 && p.count >= p.total {
		losers, fits = p.take(p.largest(), losers)
	}
	var x *Place
	if fits {
		x = p.add(addr, evict)
	}
	p.mu.Unlock()
	for _, loser := range losers {
		loser.evict()
	}
	return x, fits
}

func (p *Pool) add(addr netip.Addr, evict func()) *Place {
	s, ok := p.sources[addr]
	if !ok {
		s = new(source)
		p.sources[addr] = s
	}
	p.entered++
	x := &Place{pool: p, source: addr, evict: evict, serial: p.entered}
	x.idle = s.idle.PushBack(x)
	s.count++
	p.count++
	return x
}

// take removes the oldest connection of a source, if there is one to remove.
func (p *Pool) take(s *source, losers []*Place) ([]*Place, bool) {
	if s == nil || s.idle.Len() == 0 {
		return losers, false
	}
	x := s.idle.Front().Value.(*Place)
	p.remove(x)
	return append(losers, x), true
}

// largest returns the source with most connections to evict; of equal ones that
// with the oldest.
func (p *Pool) largest() (found *source) {
	for _, s := range p.sources {
		if s.idle.Len() == 0 {
			continue
		}
		if found == nil || s.idle.Len() > found.idle.Len() || s.idle.Len() == found.idle.Len() && s.oldest() < found.oldest() {
			found = s
		}
	}
	return found
}

func (s *source) oldest() uint64 { return s.idle.Front().Value.(*Place).serial }

func (p *Pool) remove(x *Place) {
	if x.gone {
		return
	}
	x.gone = true
	s := p.sources[x.source]
	if x.idle != nil {
		s.idle.Remove(x.idle)
		x.idle = nil
	}
	p.count--
	if s.count--; s.count == 0 {
		delete(p.sources, x.source)
	}
}

// Busy keeps the connection from being evicted until Idle.
func (x *Place) Busy() {
	x.pool.mu.Lock()
	defer x.pool.mu.Unlock()
	if x.idle != nil {
		x.pool.sources[x.source].idle.Remove(x.idle)
		x.idle = nil
	}
}

// Idle lets the connection be evicted again, behind those that are idle already.
func (x *Place) Idle() {
	x.pool.mu.Lock()
	defer x.pool.mu.Unlock()
	if x.gone || x.idle != nil {
		return
	}
	x.pool.entered++
	x.serial = x.pool.entered
	x.idle = x.pool.sources[x.source].idle.PushBack(x)
}

// Leave gives the place up. Later calls have no effect.
func (x *Place) Leave() {
	x.pool.mu.Lock()
	defer x.pool.mu.Unlock()
	x.pool.remove(x)
}

// Len returns how many connections there are.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}
