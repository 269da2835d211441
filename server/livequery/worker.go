package livequery

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/hub"
	"lockstep/server/query"
)

// worker keeps all live queries over one map up to date.
type worker struct {
	queries *Queries
	object  objects.SID
	key     string // object, as a text

	ctx       context.Context // ends when there is no query any more
	cancel    context.CancelFunc
	following chan struct{} // closed once the worker follows the map
	wake      chan struct{} // one slot: there may be something to do

	recheck atomic.Bool // somebody's permissions have changed

	mu      sync.Mutex
	live    map[string]*Query
	backlog backlog
	lost    bool           // changes are missing: catch up from the state
	joined  bool           // a query has been loaded that may lag behind the others
	over    *objects.Error // why nothing comes after the backlog

	at objects.EventID // the last change that was evaluated, or 0; only run uses it
}

// change is one change of an item.
type change struct {
	id      objects.EventID
	item    *objects.Item // nil: the event is not about an item
	removed bool
}

// size returns roughly how many bytes of memory a change keeps.
func (c change) size() int64 {
	const fixed = 256 // the records
	if c.item == nil {
		return fixed
	}
	return fixed + int64(len(c.item.Key)+len(c.item.Data))
}

// backlog holds the changes that wait to be evaluated, oldest first. The lock of
// the worker guards it.
type backlog []change

func (all *Queries) newWorker(object objects.SID) *worker {
	w := &worker{
		queries: all, object: object, key: object.String(),
		following: make(chan struct{}), wake: make(chan struct{}, 1), live: make(map[string]*Query),
	}
	w.ctx, w.cancel = context.WithCancel(all.ctx)
	all.workers[object] = w
	all.work.Go(w.run)
	return w
}

// add makes a query and starts loading it. It returns nil if the worker has ended.
func (w *worker) add(request Request) *Query {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over != nil {
		return nil
	}
	q := newQuery(w, request)
	w.live[request.ID] = q
	w.queries.work.Go(q.load)
	return q
}

// find returns the query of an id, unless it is over.
func (w *worker) find(id string) *Query {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q := w.live[id]; q != nil && !q.ended.Load() {
		return q
	}
	return nil
}

func (w *worker) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.live)
}

// remove reports whether there is no other query.
func (w *worker) remove(q *Query) (last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.live[q.id] == q {
		delete(w.live, q.id)
	}
	return len(w.live) == 0
}

// all returns the queries. Callers use them without holding the worker's lock, so
// that the hub does not wait for a query.
func (w *worker) all() []*Query {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.live))
}

// loaded returns the queries that have a result.
func (w *worker) loaded() []*Query {
	return slices.DeleteFunc(w.all(), func(q *Query) bool { return !q.isLoaded() })
}

// OnEvent implements hub.Follower.
func (w *worker) OnEvent(e *hub.Event) (more bool) {
	defer w.signal()
	switch e.Type {
	case objects.PermissionChanged:
		w.recheck.Store(true)
		return true
	case objects.ObjectRemoved:
		w.finish(objects.ErrMapGone)
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.ID != 0 && !w.lost {
		w.push(change{id: e.ID, item: e.Item, removed: e.Type == objects.ItemRemoved})
	}
	return true
}

// OnGap implements hub.Follower.
func (w *worker) OnGap(*fsm.View) (more bool) {
	defer w.signal()
	w.recheck.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropBacklog()
	return true
}

// OnPanic implements hub.Follower.
func (w *worker) OnPanic() {
	defer w.signal()
	w.finish(objects.ErrInternal)
}

// finish notes that nothing comes after the backlog, and why.
func (w *worker) finish(why *objects.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over == nil {
		w.over = why
	}
}

// push appends a change to the backlog, and drops all of it when it is full.
func (w *worker) push(c change) {
	if len(w.backlog) >= w.queries.config.BacklogLength || !w.queries.backlog.Take(w.key, c.size()) {
		w.queries.config.Behind.Inc()
		w.dropBacklog()
		return
	}
	w.backlog = append(w.backlog, c)
}

func (w *worker) dropBacklog() {
	for _, c := range w.backlog {
		w.queries.backlog.Return(w.key, c.size())
	}
	w.backlog, w.lost = nil, true
}

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// join is called when a query has been loaded.
func (w *worker) join() {
	defer w.signal()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.joined = true
}

// run works until there is no query any more, or the map is gone.
func (w *worker) run() {
	defer w.drop()
	defer w.queries.config.Panics.Catch("live queries", func(error) { w.end(objects.ErrInternal) })
	following := w.queries.config.Hub.Follow(w.object, w)
	defer following.Stop()
	close(w.following)
	for {
		select {
		case <-w.wake:
		case <-w.ctx.Done():
			return
		}
		if more := w.work(); !more {
			return
		}
	}
}

func (w *worker) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropBacklog()
}

// work does everything there is to do, in turns. more is false when the worker
// has ended.
func (w *worker) work() (more bool) {
	t, err := w.queries.slots.enter(w.ctx, changes, w.key)
	if err != nil {
		return false
	}
	defer t.leave()
	for {
		if w.recheck.CompareAndSwap(true, false) {
			w.recheckAll()
		}
		do, over := w.next()
		switch {
		case over != nil:
			w.end(over)
			return false
		case do == nil:
			return true
		case do(t) != nil:
			return false
		}
	}
}

// next returns the next thing to do, if there is any. When nothing is left, over
// is why the worker ends, if it does.
func (w *worker) next() (do func(*turn) error, over *objects.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.lost:
		w.lost = false
		return w.catchUpAll, nil
	case w.joined:
		w.joined = false
		return w.catchUpLagging, nil
	case len(w.backlog) > 0:
		c := w.backlog[0]
		w.backlog[0] = change{}
		if w.backlog = w.backlog[1:]; len(w.backlog) == 0 {
			w.backlog = nil
		}
		w.queries.backlog.Return(w.key, c.size())
		return func(t *turn) error { return w.evaluate(t, c) }, nil
	}
	return nil, w.over
}

// evaluate compares a change with all queries.
func (w *worker) evaluate(t *turn, c change) error {
	switch {
	case w.at != 0 && c.id <= w.at:
		return nil // known from the state
	case w.at != 0 && c.id > w.at+1:
		return w.catchUpAll(t) // the ids of an object have no gaps
	}
	if err := w.tell(t, w.loaded(), c); err != nil {
		return err
	}
	w.at = c.id
	return nil
}

// tell shows a change to queries. The item is parsed once for all of them.
func (w *worker) tell(t *turn, all []*Query, c change) error {
	var item *query.Item
	if c.item != nil {
		item = query.NewItem(c.item.Key, c.item.Data)
	}
	for _, q := range all {
		if err := t.next(w.ctx); err != nil {
			return err
		}
		if w.recheck.CompareAndSwap(true, false) {
			w.recheckAll()
		}
		q.change(c, item)
	}
	return nil
}

// recheckAll ends the subscriptions of clients that have lost the permission.
func (w *worker) recheckAll() {
	for _, q := range w.all() {
		q.recheck()
	}
}

// catchUpAll brings all queries up to date after changes were lost.
func (w *worker) catchUpAll(t *turn) error {
	at, err := w.catchUp(t, w.loaded())
	if err == nil {
		w.at = at
	}
	return err
}

// catchUpLagging brings those queries up to date that were loaded from a state
// older than the last evaluated change. The other queries saw every change.
func (w *worker) catchUpLagging(t *turn) error {
	lagging := slices.DeleteFunc(w.loaded(), func(q *Query) bool { return q.knows(w.at) })
	_, err := w.catchUp(t, lagging)
	return err
}

// replayLength is the number of changes read from the state at a time.
const replayLength = 64

// catchUp replays to queries the events since the last one that each of them
// knows, and returns the event that all have reached. Each part is read from the
// latest view, so that no old view is kept in memory while this takes its time.
func (w *worker) catchUp(t *turn, all []*Query) (objects.EventID, error) {
	for {
		view := w.queries.config.View()
		o, ok := view.ObjectBySID(w.object)
		if !ok {
			endAll(all, objects.ErrMapGone)
			return 0, nil
		}
		all = reloadForgotten(all, view, o)
		if len(all) == 0 {
			return o.EventID, nil
		}
		after := slices.MinFunc(all, func(a, b *Query) int { return cmp.Compare(a.at, b.at) }).at
		events, refused := view.Replay(o, after, after, replayLength)
		if refused != nil {
			endAll(all, refused)
			return 0, nil
		}
		for _, e := range events {
			if err := w.tell(t, all, change{id: e.ID, item: e.Item, removed: e.Type == objects.ItemRemoved}); err != nil {
				return 0, err
			}
		}
		if len(events) < replayLength {
			for _, q := range all {
				q.advance(o.EventID)
			}
			return o.EventID, nil
		}
	}
}

// reloadForgotten reloads the queries whose last event is older than the object's
// history, or newer than the object after a restore. It returns the others that
// have not ended.
func reloadForgotten(all []*Query, view *fsm.View, o *objects.Object) []*Query {
	return slices.DeleteFunc(all, func(q *Query) bool {
		if q.ended.Load() {
			return true
		}
		forgotten := !view.CanReplay(o, q.at)
		if forgotten {
			q.reload()
		}
		return forgotten
	})
}

// end ends all queries, and the worker.
func (w *worker) end(why *objects.Error) {
	w.finish(why)
	endAll(w.all(), why) // there will be no others
}

func endAll(all []*Query, why *objects.Error) {
	for _, q := range all {
		q.end(why)
	}
}
