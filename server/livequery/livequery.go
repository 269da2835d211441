// Package livequery keeps the results of queries over maps up to date for all
// clients of a node that asked for them. It also evaluates a query once for
// clients that only want its present result.
//
//   - Queries holds all live queries of a node. Equal ones are one Query, and
//     share the evaluation of every change.
//   - A worker follows one map that has live queries. It puts the events from the
//     hub into a backlog, bounded in number and in bytes, so the hub never waits
//     for an evaluation. The worker parses each changed item once and compares it
//     with all queries over the map. When the backlog overflows, the worker drops
//     it and catches up from the state: it skips changes that were overwritten
//     meanwhile, and loses nothing. A query whose last event is older than the
//     state's history is loaded again.
//   - Slots bound the CPUs that evaluate. Changes take turns by map. Scans, which
//     read a whole map, take turns by the identity that asked.
//
// Before each change is told, subscriptions whose client has lost the permission
// to read the map are ended.
//
// Goroutines: one for each map that has live queries, and one for each query
// that is being loaded. Close ends them and waits. A worker's lock is taken inside
// the lock of the hub's topics or of Queries, and the lock of a client's queue
// inside that of a Query; there are no other pairs. No lock is held while items
// are compared.
//
// The package knows neither the wire, which encodes what is told, nor what a
// query costs its client.
package livequery

import (
	"cmp"
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/budget"
	"lockstep/server/hub"
	"lockstep/server/panics"
	"lockstep/server/query"
)

// Config sets up Queries. Numbers that are zero have their defaults; those of
// queries are switched off by a negative one.
type Config struct {
	Hub  *hub.Hub
	View func() *fsm.View // the latest published state

	// These make the frames of the query with this id: of an item that entered its
	// result or changed in it, of one that left it, and of the whole result. Each is
	// called once for all subscribers that read the same form.
	EncodeUpdate  func(form hub.Form, id string, i *objects.Item, at objects.EventID) []byte
	EncodeRemoval func(form hub.Form, id string, i *objects.Item, at objects.EventID) []byte
	EncodeResult  func(form hub.Form, id string, result []*objects.Item, at objects.EventID) []byte

	PerIdentity int // different live queries of one identity; 100
	PerMap      int // over one map; 1000
	Total       int // of the node; 10 000

	BacklogLength   int   // changes of one map that wait to be evaluated; 1024
	MapBacklogBytes int64 // and their bytes; 1 MiB
	BacklogBytes    int64 // those of all maps; 64 MiB
	ResultBytes     int64 // encoded results that are kept for the next client that asks; 64 MiB

	Slots int // CPUs that evaluate at a time; half of them, at least one

	Panics    *panics.Catcher    // nil: caught, and not reported
	Evaluated prometheus.Counter // items that were compared with a query
	Behind    prometheus.Counter // times that a map's queries lost their place
}

// slice is how long an evaluation goes on while others wait.
const slice = 2 * time.Millisecond

func (c Config) withDefaults() Config {
	c.PerIdentity = cmp.Or(c.PerIdentity, 100)
	c.PerMap = cmp.Or(c.PerMap, 1000)
	c.Total = cmp.Or(c.Total, 10_000)
	c.BacklogLength = cmp.Or(c.BacklogLength, 1024)
	c.MapBacklogBytes = cmp.Or(c.MapBacklogBytes, 1<<20)
	c.BacklogBytes = cmp.Or(c.BacklogBytes, 64<<20)
	c.ResultBytes = cmp.Or(c.ResultBytes, 64<<20)
	c.Slots = cmp.Or(c.Slots, max(1, runtime.GOMAXPROCS(0)/2))
	if c.Evaluated == nil {
		c.Evaluated = prometheus.NewCounter(prometheus.CounterOpts{Name: "evaluated"})
	}
	if c.Behind == nil {
		c.Behind = prometheus.NewCounter(prometheus.CounterOpts{Name: "behind"})
	}
	return c
}

// Queries holds the live queries in use on this node.
type Queries struct {
	config  Config
	slots   *slots
	backlog *budget.Share // of the worker of each map
	results *budget.Share // encoded ones that are kept

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // every goroutine

	mu      sync.Mutex
	workers map[objects.SID]*worker
	total   int                       // queries in use
	uses    map[string]map[*Query]int // by identity
}

// New makes an empty set of live queries, until Close.
func New(c Config) *Queries {
	c = c.withDefaults()
	all := &Queries{
		config:  c,
		slots:   newSlots(c.Slots, slice),
		backlog: budget.New(c.BacklogBytes).Share(c.MapBacklogBytes),
		results: budget.New(c.ResultBytes).Share(-1),
		workers: make(map[objects.SID]*worker),
		uses:    make(map[string]map[*Query]int),
	}
	all.ctx, all.cancel = context.WithCancel(context.Background())
	return all
}

// Close ends all live queries and waits for the goroutines. No query may be used
// afterwards.
func (all *Queries) Close() {
	all.cancel()
	all.work.Wait()
}

// Count returns the number of different live queries.
func (all *Queries) Count() int {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.total
}

// Request asks for a live query on behalf of an identity. ID is the same for equal
// queries over one map, and only for these.
type Request struct {
	Identity string
	ID       string
	Map      objects.SID
	Query    *query.Query
}

// Use is an identity's use of a live query.
type Use struct {
	*Query
	queries  *Queries
	identity string
	released bool // guarded by queries.mu
}

// Use returns a use of the live query, and starts loading the query if it is new.
// The use ends with Release, or with the function that Join returns.
func (all *Queries) Use(request Request) (*Use, *objects.Error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if refused := all.checkBounds(request); refused != nil {
		return nil, refused
	}
	q := all.find(request)
	if q == nil {
		q = all.add(request)
	}
	q.users++
	if all.uses[request.Identity] == nil {
		all.uses[request.Identity] = make(map[*Query]int)
	}
	all.uses[request.Identity][q]++
	return &Use{Query: q, queries: all, identity: request.Identity}, nil
}

// add makes a query.
func (all *Queries) add(request Request) *Query {
	all.total++
	if w := all.workers[request.Map]; w != nil {
		if q := w.add(request); q != nil {
			return q
		}
	}
	return all.newWorker(request.Map).add(request)
}

func (all *Queries) find(request Request) *Query {
	if w := all.workers[request.Map]; w != nil {
		return w.find(request.ID)
	}
	return nil
}

// CheckBounds returns why the request exceeds a bound at the moment, or nil.
func (all *Queries) CheckBounds(request Request) *objects.Error {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.checkBounds(request)
}

func (all *Queries) checkBounds(request Request) *objects.Error {
	q, mine, ofMap := all.find(request), all.uses[request.Identity], 0
	if w := all.workers[request.Map]; w != nil {
		ofMap = w.count()
	}
	switch {
	case q != nil && mine[q] > 0:
		return nil
	case atBound(len(mine), all.config.PerIdentity):
		return objects.ErrTooMany.With("This identity has as many live queries on this node as it may: %d", all.config.PerIdentity)
	case q != nil:
		return nil
	case atBound(ofMap, all.config.PerMap):
		return objects.ErrTooMany.With("There are as many live queries over this map on this node as there may be: %d", all.config.PerMap)
	case atBound(all.total, all.config.Total):
		return objects.ErrTooMany.With("There are as many live queries on this node as there may be")
	}
	return nil
}

func atBound(n, most int) bool { return most >= 0 && n >= most }

// Release ends the use. The last one ends the query. Only the first call has an
// effect.
func (u *Use) Release() {
	if last := u.queries.release(u); last {
		u.cancel()
		u.end(objects.ErrUnavailable) // no subscriber is left to be told; it frees the result
	}
}

// release removes a use, and reports whether it was the query's last.
func (all *Queries) release(u *Use) (last bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if u.released {
		return false
	}
	u.released = true
	mine := all.uses[u.identity]
	if mine[u.Query]--; mine[u.Query] == 0 {
		delete(mine, u.Query)
	}
	if len(mine) == 0 {
		delete(all.uses, u.identity)
	}
	if u.users--; u.users > 0 {
		return false
	}
	all.total--
	if w := u.worker; w.remove(u.Query) {
		w.cancel()
		if all.workers[w.object] == w {
			delete(all.workers, w.object)
		}
	}
	return true
}

// Result returns the items that match in this view, ordered by key. It takes them
// from the live query with that id if there is one at the same event.
func (all *Queries) Result(ctx context.Context, request Request, view *fsm.View, o *objects.Object) ([]*objects.Item, *objects.Error) {
	all.mu.Lock()
	q := all.find(request)
	all.mu.Unlock()
	if q != nil {
		if items, ok := q.itemsAt(o.EventID); ok {
			return items, nil
		}
	}
	t, err := all.slots.enter(ctx, scans, request.Identity)
	if err != nil {
		return nil, objects.ErrUnavailable
	}
	defer t.leave()
	return all.scan(ctx, t, request.Query, view, o)
}

// scan evaluates a query over every item of a map, in turns, until the context
// ends.
func (all *Queries) scan(ctx context.Context, t *turn, q *query.Query, view *fsm.View, o *objects.Object) ([]*objects.Item, *objects.Error) {
	var items []*objects.Item
	var ended error
	view.EachItem(o, func(i *objects.Item) bool {
		if ended = t.next(ctx); ended != nil {
			return false
		}
		all.config.Evaluated.Inc()
		if q.Match(i.Key, i.Data) {
			items = append(items, i)
		}
		return len(items) <= objects.MaxQueryResult
	})
	switch {
	case ended != nil:
		return nil, objects.ErrUnavailable
	case len(items) > objects.MaxQueryResult:
		return nil, objects.ErrQueryLarge
	}
	return items, nil
}
