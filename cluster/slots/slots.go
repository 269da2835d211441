// Package slots bounds the connections that a listener keeps, in all and for each
// owner: a source address, or a name once the other side has proved one. A
// newcomer that finds no place takes that of the oldest connection of the owner
// that has most: a stranger with many connections loses them before anybody else
// does, and keeps nobody out.
//
// The package starts no goroutines and opens or closes nothing itself.
package slots

import (
	"container/heap"
	"sync"
)

// Pool is a bounded set of connections. It can be used by many goroutines.
type Pool[K comparable] struct {
	total, each int

	mu      sync.Mutex
	count   int
	entered uint64
	owners  map[K]*holdings[K]
	ranking ranking[K] // of the owners
}

// holdings are the connections of one owner.
type holdings[K comparable] struct {
	count int
	idle  queue[K] // those that may be evicted
	rank  int      // index in the ranking
}

// Place is that of one connection in a Pool.
type Place[K comparable] struct {
	pool   *Pool[K]
	owner  K
	evict  func()
	serial uint64
	idle   bool // it may be evicted, and is in its owner's queue
	gone   bool

	before, after *Place[K] // in that
}

// New returns a Pool for so many connections, each of them at most of one owner.
// A negative bound is none.
func New[K comparable](total, each int) *Pool[K] {
	return &Pool[K]{total: total, each: each, owners: make(map[K]*holdings[K])}
}

// Enter takes a connection in. One of nobody, the zero K, counts only among all.
// evict is called at most once, from another goroutine and without a lock, when
// the connection has lost its place to another one. Enter reports false when all
// places are held by connections that may not be evicted.
func (p *Pool[K]) Enter(owner K, evict func()) (*Place[K], bool) {
	p.mu.Lock()
	var losers []*Place[K]
	var nobody K
	own, known := p.owners[owner]
	fits := true
	if p.each >= 0 && owner != nobody && known && own.count >= p.each {
		losers, fits = p.take(own, losers)
	}
	if fits && p.total >= 0 && p.count >= p.total {
		losers, fits = p.take(p.largest(), losers)
	}
	var x *Place[K]
	if fits {
		x = p.add(owner, evict)
	}
	p.mu.Unlock()
	for _, loser := range losers {
		loser.evict()
	}
	return x, fits
}

func (p *Pool[K]) add(owner K, evict func()) *Place[K] {
	s, ok := p.owners[owner]
	if !ok {
		s = new(holdings[K])
		p.owners[owner] = s
		heap.Push(&p.ranking, s)
	}
	p.entered++
	x := &Place[K]{pool: p, owner: owner, evict: evict, serial: p.entered}
	p.setIdle(x)
	s.count++
	p.count++
	return x
}

// take removes the oldest connection of an owner, if there is one to remove.
func (p *Pool[K]) take(s *holdings[K], losers []*Place[K]) ([]*Place[K], bool) {
	if s == nil || s.idle.oldest == nil {
		return losers, false
	}
	x := s.idle.oldest
	p.remove(x)
	return append(losers, x), true
}

// largest returns the owner with most connections to evict; of equal ones that
// with the oldest.
func (p *Pool[K]) largest() *holdings[K] {
	if len(p.ranking) == 0 {
		return nil
	}
	return p.ranking[0]
}

// setIdle puts a connection behind those that may be evicted.
func (p *Pool[K]) setIdle(x *Place[K]) {
	s := p.owners[x.owner]
	x.idle = true
	s.idle.add(x)
	heap.Fix(&p.ranking, s.rank)
}

// setBusy takes a connection out of those that may be evicted, if it is there.
func (p *Pool[K]) setBusy(x *Place[K]) {
	if !x.idle {
		return
	}
	s := p.owners[x.owner]
	x.idle = false
	s.idle.remove(x)
	heap.Fix(&p.ranking, s.rank)
}

func (p *Pool[K]) remove(x *Place[K]) {
	if x.gone {
		return
	}
	x.gone = true
	p.setBusy(x)
	p.count--
	s := p.owners[x.owner]
	if s.count--; s.count == 0 {
		delete(p.owners, x.owner)
		heap.Remove(&p.ranking, s.rank)
	}
}

// Busy keeps the connection from being evicted until Idle.
func (x *Place[K]) Busy() {
	x.pool.mu.Lock()
	defer x.pool.mu.Unlock()
	x.pool.setBusy(x)
}

// Idle lets the connection be evicted again, behind those that are idle already.
func (x *Place[K]) Idle() {
	x.pool.mu.Lock()
	defer x.pool.mu.Unlock()
	if x.gone || x.idle {
		return
	}
	x.pool.entered++
	x.serial = x.pool.entered
	x.pool.setIdle(x)
}

// Leave gives the place up. Later calls have no effect.
func (x *Place[K]) Leave() {
	x.pool.mu.Lock()
	defer x.pool.mu.Unlock()
	x.pool.remove(x)
}

// Len returns how many connections there are.
func (p *Pool[K]) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}
