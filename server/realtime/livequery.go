package realtime

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/hub"
	"lockstep/server/panics"
	"lockstep/server/query"
)

// queries are the live queries that somebody on this node uses. Equal ones are
// one, and share the evaluation of every change.
//
// Locks are taken in the order Hub, liveQuery, hub.Queue; queries.mu stands in
// front of liveQuery and is never held while the hub is called.
type queries struct {
	ctx       context.Context // ends with the Server
	scans     chan struct{}   // slots of those who go over a whole map
	hub       *hub.Hub
	view      func() *fsm.View
	spawn     func(func()) // runs a goroutine that the Server waits for
	panics    *panics.Catcher
	evaluated prometheus.Counter

	mu   sync.Mutex
	byID map[string]*liveQuery
}

// maxScans is how many maps are gone over at a time.
const maxScans = 2

func newQueries(ctx context.Context, h *hub.Hub, view func() *fsm.View, spawn func(func()), evaluated prometheus.Counter, caught *panics.Catcher) *queries {
	return &queries{panics: caught, ctx: ctx, scans: make(chan struct{}, maxScans), hub: h, view: view, spawn: spawn, evaluated: evaluated, byID: make(map[string]*liveQuery)}
}

// liveQuery is the result of a query over the items of a map, kept up to date:
// a change costs one evaluation, whatever the number of items and of clients.
type liveQuery struct {
	queries *queries
	id      string
	object  objects.SID
	query   *query.Query
	ctx     context.Context // ends when nobody uses it any more
	cancel  context.CancelFunc

	users     int // guarded by queries.mu
	following *hub.Following

	mu      sync.Mutex
	loaded  bool             // result is that at the event at, and changes are evaluated
	missed  []*objects.Event // what happened while it was being loaded
	tooMany bool             // and that this was more than it remembers
	at      objects.EventID
	result  map[string]*objects.Item
	whole   hub.Frames     // the whole result; made anew when that changes
	over    *objects.Error // why it cannot go on
	moved   chan struct{}  // closed at the next change of the above, if anyone waits
	subs    map[*hub.Subscription]struct{}
}

// maxMissed bounds what is remembered while a result is being loaded. Beyond,
// it is loaded again.
const maxMissed = 1024

// use gives the live query of that id, which is loading if it is new. Every use
// is given back by release, which join promises to do.
func (all *queries) use(id string, object objects.SID, q *query.Query) *liveQuery {
	all.mu.Lock()
	live := all.byID[id]
	isNew := live == nil || live.isOver()
	if isNew {
		live = &liveQuery{queries: all, id: id, object: object, query: q, subs: make(map[*hub.Subscription]struct{})}
		live.ctx, live.cancel = context.WithCancel(all.ctx)
		all.byID[id] = live
	}
	live.users++
	all.mu.Unlock()
	if isNew {
		following := all.hub.Follow(object, live)
		all.mu.Lock()
		live.following = following
		all.mu.Unlock()
		all.spawn(live.load)
	}
	return live
}

// release gives a use back. The last one ends the query.
func (all *queries) release(live *liveQuery) {
	all.mu.Lock()
	live.users--
	last, following := live.users == 0, live.following
	if last && all.byID[live.id] == live {
		delete(all.byID, live.id)
	}
	all.mu.Unlock()
	if last {
		live.cancel()
		if following != nil {
			following.Stop()
		}
	}
}

// result gives the items that match in this view, by key. It takes them from
// the live query, if there is one that is as far.
func (all *queries) result(ctx context.Context, id string, q *query.Query, view *fsm.View, o *objects.Object) ([]*objects.Item, *objects.Error) {
	all.mu.Lock()
	live := all.byID[id]
	all.mu.Unlock()
	if live != nil {
		if items, ok := live.itemsAt(o.EventID); ok {
			return items, nil
		}
	}
	return all.evaluate(ctx, q, view, o)
}

// matches compares one item with a query.
func (all *queries) matches(q *query.Query, i *objects.Item) bool {
	all.evaluated.Inc()
	return q.Match(i.Key, i.Data)
}

// evaluate looks at every item of a map, in its turn and as long as the context
// allows.
func (all *queries) evaluate(ctx context.Context, q *query.Query, view *fsm.View, o *objects.Object) ([]*objects.Item, *objects.Error) {
	select {
	case all.scans <- struct{}{}:
		defer func() { <-all.scans }()
	case <-ctx.Done():
		return nil, objects.ErrUnavailable
	}
	const between = 1024 // looks at the context
	var items []*objects.Item
	seen := 0
	view.EachItem(o, func(i *objects.Item) bool {
		if seen++; seen%between == 0 && ctx.Err() != nil {
			return false
		}
		if all.matches(q, i) {
			items = append(items, i)
		}
		return len(items) <= objects.MaxQueryResult
	})
	switch {
	case ctx.Err() != nil:
		return nil, objects.ErrUnavailable
	case len(items) > objects.MaxQueryResult:
		return nil, objects.ErrQueryLarge
	}
	return items, nil
}

// load evaluates the query over the whole map, and then what happened
// meanwhile. Afterwards all subscriptions hear the result.
func (q *liveQuery) load() {
	defer q.queries.panics.Catch("live query", func(error) { q.Failed() })
	for {
		view := q.queries.view()
		o, ok := view.ObjectBySID(q.object)
		if !ok {
			q.end(objects.ErrMapGone)
			return
		}
		items, refused := q.queries.evaluate(q.ctx, q.query, view, o)
		if refused != nil {
			q.end(refused)
			return
		}
		if q.install(items, o.EventID) {
			return
		}
	}
}

// install takes a result over. It gives false when too much happened since.
func (q *liveQuery) install(items []*objects.Item, at objects.EventID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	missed, tooMany := q.missed, q.tooMany
	q.missed, q.tooMany = nil, false
	if tooMany {
		return false
	}
	q.result = make(map[string]*objects.Item, len(items))
	for _, i := range items {
		q.result[i.Key] = i
	}
	q.at, q.loaded = at, true
	q.changed()
	for _, e := range missed {
		q.change(e)
	}
	for s := range q.subs {
		if !s.Lapse() {
			delete(q.subs, s)
		}
	}
	q.move()
	return true
}

// await waits until the result is that at an event, or a later one. When the
// query is over, it does not wait: whoever subscribes hears why.
func (q *liveQuery) await(ctx context.Context, at objects.EventID) error {
	for {
		q.mu.Lock()
		if q.over != nil || (q.loaded && q.at >= at) {
			q.mu.Unlock()
			return nil
		}
		if q.moved == nil {
			q.moved = make(chan struct{})
		}
		moved := q.moved
		q.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *liveQuery) move() {
	if q.moved != nil {
		close(q.moved)
		q.moved = nil
	}
}

// join has a subscription hear of changes, until leave is called.
func (q *liveQuery) join(s *hub.Subscription) (leave func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.subs[s] = struct{}{}
	return sync.OnceFunc(func() {
		q.mu.Lock()
		delete(q.subs, s)
		q.mu.Unlock()
		q.queries.release(q)
	})
}

// state returns the frame of the whole result, made once for all who ask in
// this form before it changes, and the event that it is of.
func (q *liveQuery) state(form hub.Form) (frame []byte, at objects.EventID, over *objects.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil {
		return nil, 0, q.over
	}
	return q.whole.In(form), q.at, nil
}

func (q *liveQuery) itemsAt(at objects.EventID) ([]*objects.Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil || !q.loaded || q.at != at {
		return nil, false
	}
	return q.items(), true
}

func (q *liveQuery) items() []*objects.Item {
	items := make([]*objects.Item, 0, len(q.result))
	for _, i := range q.result {
		items = append(items, i)
	}
	slices.SortFunc(items, func(a, b *objects.Item) int { return objects.CompareKeys(a.Key, b.Key) })
	return items
}

// Happened implements hub.Follower.
func (q *liveQuery) Happened(e *hub.Event) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case e.Type == objects.PermissionChanged:
		q.each(func(s *hub.Subscription) bool { return s.Recheck() })
	case e.Type == objects.ObjectRemoved:
		q.endLocked(objects.ErrMapGone)
	case q.loaded:
		q.change(e.Event)
		q.move()
	case len(q.missed) < maxMissed:
		q.missed = append(q.missed, e.Event)
	default:
		q.tooMany = true
	}
	return q.over == nil
}

// Missed implements hub.Follower: the result is loaded anew.
func (q *liveQuery) Missed(*fsm.View) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil {
		return false
	}
	if q.loaded {
		q.loaded, q.missed, q.tooMany = false, nil, false
		q.queries.spawn(q.load)
	} else {
		q.tooMany = true // it is being loaded already
	}
	return q.over == nil
}

// Failed implements hub.Follower.
func (q *liveQuery) Failed() { q.end(objects.ErrInternal) }

// change evaluates what happened to one item.
func (q *liveQuery) change(e *objects.Event) {
	if e.Item == nil || e.ID <= q.at || q.over != nil {
		return
	}
	q.at = e.ID
	i := e.Item
	matches := e.Type != objects.ItemRemoved && q.queries.matches(q.query, i)
	_, had := q.result[i.Key]
	switch {
	case matches && !had && len(q.result) >= objects.MaxQueryResult:
		q.endLocked(objects.ErrQueryLarge)
		return
	case matches:
		q.result[i.Key] = i
	case had:
		delete(q.result, i.Key)
	}
	q.changed()
	if matches || had {
		frames := &hub.Frames{Encode: func(form hub.Form) []byte { return queryItemFrame(form, q.id, i, e.ID, !matches) }}
		q.each(func(s *hub.Subscription) bool { return s.Offer(e.ID, frames) })
	}
}

// changed forgets the frames of the whole result: the event's id is part of
// them, too.
func (q *liveQuery) changed() {
	q.whole = hub.Frames{Encode: func(form hub.Form) []byte { return queryResultFrame(form, q.id, q.items(), q.at) }}
}

func (q *liveQuery) each(call func(*hub.Subscription) (more bool)) {
	for s := range q.subs {
		if !call(s) {
			delete(q.subs, s)
		}
	}
}

func (q *liveQuery) isOver() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.over != nil
}

func (q *liveQuery) end(why *objects.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.endLocked(why)
}

// endLocked ends the query for all.
func (q *liveQuery) endLocked(why *objects.Error) {
	q.over = why
	q.each(func(s *hub.Subscription) bool {
		s.End(why)
		return false
	})
	q.result, q.whole, q.missed = nil, hub.Frames{}, nil
	q.move()
}
