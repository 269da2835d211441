// Package livequery keeps the results of queries over maps up to date, for all
// clients of a node that asked for them, and evaluates queries once for those
// who only want to know the present result.
//
//   - Queries are all of a node. Equal ones are one Query, and share the
//     evaluation of every change.
//   - A worker follows one map that has live queries. What the hub tells it goes
//     into a backlog, bounded in number and in bytes, and the hub goes on: it
//     never waits for an evaluation. The worker compares each item that was
//     changed, which is read once, with all queries over the map. When the
//     backlog overflows it is thrown away, and the worker catches up from the
//     state: what was overwritten meanwhile is left out, and nothing is lost.
//     A query that the state's history does not reach back to is loaded again.
//   - Slots bound the CPUs that are busy with all this. Changes have their turns
//     by map; scans, which go over a whole map, by the identity that asked.
//
// Before a change is told to anybody, and between two of them, those are ended
// who have lost the permission to read the map.
//
// Goroutines: one for each map that has live queries, and one for each query
// that is being loaded. Close ends them and waits. A worker's lock is taken inside
// that of the hub's topics or of Queries, a client's queue's inside that of a
// Query; there are no other pairs. No lock is held while items are compared.
//
// The package does not know the wire, which encodes what is told, nor what a
// query costs its client.
package livequery

import (
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

	// EncodeItem makes the frame of one item that is, or is no more, in the
	// result of the query of an id, and EncodeResult that of the whole result.
	// Each is called once for all who read the same form.
	EncodeItem   func(form hub.Form, id string, i *objects.Item, at objects.EventID, removed bool) []byte
	EncodeResult func(form hub.Form, id string, result []*objects.Item, at objects.EventID) []byte

	PerIdentity int // different live queries of one identity; 100
	PerMap      int // over one map; 1000
	Total       int // of the node; 10 000

	BacklogLength   int   // changes of one map that wait to be evaluated; 1024
	MapBacklogBytes int64 // and their bytes; 1 MiB
	BacklogBytes    int64 // those of all maps; 64 MiB
	ResultBytes     int64 // encoded results that are kept for who asks next; 64 MiB

	Slots int // CPUs that evaluate at a time; half of them, at least one

	Panics    *panics.Catcher    // nil: caught, and not told of
	Evaluated prometheus.Counter // items that were compared with a query
	Behind    prometheus.Counter // times that a map's queries lost their place
}

// slice is how long an evaluation goes on while others wait.
const slice = 2 * time.Millisecond

func (c Config) withDefaults() Config {
	orDefault(&c.PerIdentity, 100)
	orDefault(&c.PerMap, 1000)
	orDefault(&c.Total, 10_000)
	orDefault(&c.BacklogLength, 1024)
	orDefault(&c.MapBacklogBytes, 1<<20)
	orDefault(&c.BacklogBytes, 64<<20)
	orDefault(&c.ResultBytes, 64<<20)
	orDefault(&c.Slots, max(1, runtime.GOMAXPROCS(0)/2))
	if c.Evaluated == nil {
		c.Evaluated = prometheus.NewCounter(prometheus.CounterOpts{Name: "evaluated"})
	}
	if c.Behind == nil {
		c.Behind = prometheus.NewCounter(prometheus.CounterOpts{Name: "behind"})
	}
	return c
}

func orDefault[T int | int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Queries are the live queries that somebody on this node uses.
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
	total   int                       // queries that somebody uses
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

// Close ends all live queries and waits for the goroutines. Nobody may use one
// any more.
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

// Wish is the wish of an identity for a live query. ID is the same for equal
// queries over one map, and only for these.
type Wish struct {
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

// Use returns a use of the live query, which begins to be loaded if it is new.
// It ends with Release, or with what Join returns.
func (all *Queries) Use(wish Wish) (*Use, *objects.Error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if refused := all.refuse(wish); refused != nil {
		return nil, refused
	}
	q := all.find(wish)
	if q == nil {
		q = all.add(wish)
	}
	q.users++
	if all.uses[wish.Identity] == nil {
		all.uses[wish.Identity] = make(map[*Query]int)
	}
	all.uses[wish.Identity][q]++
	return &Use{Query: q, queries: all, identity: wish.Identity}, nil
}

// add makes a query.
func (all *Queries) add(wish Wish) *Query {
	all.total++
	if w := all.workers[wish.Map]; w != nil {
		if q := w.add(wish); q != nil {
			return q
		}
	}
	return all.newWorker(wish.Map).add(wish)
}

func (all *Queries) find(wish Wish) *Query {
	if w := all.workers[wish.Map]; w != nil {
		return w.find(wish.ID)
	}
	return nil
}

// Refuse says why the wish would be too much at the moment; nil: it would not.
func (all *Queries) Refuse(wish Wish) *objects.Error {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.refuse(wish)
}

func (all *Queries) refuse(wish Wish) *objects.Error {
	q, mine, ofMap := all.find(wish), all.uses[wish.Identity], 0
	if w := all.workers[wish.Map]; w != nil {
		ofMap = w.count()
	}
	switch {
	case q != nil && mine[q] > 0:
		return nil
	case reached(len(mine), all.config.PerIdentity):
		return objects.ErrTooMany.With("This identity has as many live queries on this node as it may: %d", all.config.PerIdentity)
	case q != nil:
		return nil
	case reached(ofMap, all.config.PerMap):
		return objects.ErrTooMany.With("There are as many live queries over this map on this node as there may be: %d", all.config.PerMap)
	case reached(all.total, all.config.Total):
		return objects.ErrTooMany.With("There are as many live queries on this node as there may be")
	}
	return nil
}

func reached(n, most int) bool { return most >= 0 && n >= most }

// Release ends the use. The last one ends the query. Only the first call has an
// effect.
func (u *Use) Release() {
	if last := u.queries.release(u); last {
		u.cancel()
		u.end(objects.ErrUnavailable) // nobody hears that; it keeps nothing
	}
}

// release takes a use off the books.
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

// Result returns the items that match in this view, by key. It takes them from
// the live query of that id, if there is one that is as far.
func (all *Queries) Result(ctx context.Context, wish Wish, view *fsm.View, o *objects.Object) ([]*objects.Item, *objects.Error) {
	all.mu.Lock()
	q := all.find(wish)
	all.mu.Unlock()
	if q != nil {
		if items, ok := q.itemsAt(o.EventID); ok {
			return items, nil
		}
	}
	t, err := all.slots.enter(ctx, scans, wish.Identity)
	if err != nil {
		return nil, objects.ErrUnavailable
	}
	defer t.leave()
	return all.scan(ctx, t, wish.Query, view, o)
}

// scan looks at every item of a map, in turns and as long as the context allows.
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
