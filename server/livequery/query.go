package livequery

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"lockstep/objects"
	"lockstep/server/cond"
	"lockstep/server/hub"
	"lockstep/server/query"
)

// Subscriber is told of the changes of a live query. A *hub.Subscription is one.
// Its methods must not block. They return false when it takes no more.
type Subscriber interface {
	Offer(id objects.EventID, frames *hub.Frames) (more bool) // the next change of the result
	FallBehind() (more bool)                                  // the result was replaced
	Recheck() (more bool)                                     // some permission has changed
	End(why *objects.Error)                                   // no more changes come
}

// Query is the result of a query over the items of a map, kept up to date: a
// change costs one evaluation, whatever the number of items and of clients.
type Query struct {
	worker   *worker
	id       string
	text     *query.Query
	identity string          // loading takes this identity's turns
	ctx      context.Context // ends with the last use
	cancel   context.CancelFunc

	users int // guarded by Queries.mu

	ended atomic.Bool // over is set

	// The worker alone changes at, once there is a result.
	mu     sync.Mutex
	loaded bool // result is that at the event at, and changes are evaluated
	at     objects.EventID
	result map[string]*objects.Item
	frames [hub.Forms][]byte // the encoded result, as far as it is kept
	over   *objects.Error    // why it cannot go on
	moved  cond.Cond         // when any of the above changed
	subs   map[Subscriber]struct{}
}

func newQuery(w *worker, request Request) *Query {
	q := &Query{worker: w, id: request.ID, text: request.Query, identity: request.Identity, subs: make(map[Subscriber]struct{})}
	q.ctx, q.cancel = context.WithCancel(w.ctx)
	return q
}

// ID returns the id of the query.
func (q *Query) ID() string { return q.id }

// load evaluates the query over the whole map, and then tells all subscribers the
// result.
func (q *Query) load() {
	all := q.worker.queries
	defer all.config.Panics.Catch("live query", func(error) { q.end(objects.ErrInternal) })
	select {
	case <-q.worker.following:
	case <-q.ctx.Done():
		return
	}
	t, err := all.slots.enter(q.ctx, scans, q.identity)
	if err != nil {
		return // nobody uses it
	}
	defer t.leave()
	view := all.config.View()
	o, ok := view.ObjectBySID(q.worker.object)
	if !ok {
		q.end(objects.ErrMapGone)
		return
	}
	items, refused := all.scan(q.ctx, t, q.text, view, o)
	if refused != nil {
		q.end(refused)
		return
	}
	q.install(items, o.EventID)
	q.worker.join()
}

// install makes the result the query's own.
func (q *Query) install(items []*objects.Item, at objects.EventID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil {
		return
	}
	q.result = make(map[string]*objects.Item, len(items))
	for _, i := range items {
		q.result[i.Key] = i
	}
	q.at, q.loaded = at, true
	q.changed()
	q.each(Subscriber.FallBehind)
}

// reload starts to evaluate the query over the whole map again. Until that is
// done the query keeps its old result.
func (q *Query) reload() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.loaded = false
	q.worker.queries.work.Go(q.load)
}

// change updates the result with a changed item.
func (q *Query) change(c change, item *query.Item) {
	defer q.worker.queries.config.Panics.Catch("live query", func(error) { q.end(objects.ErrInternal) })
	if q.knows(c.id) {
		return
	}
	matches := c.item != nil && !c.removed && q.matches(item)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil {
		return
	}
	q.at = c.id
	defer q.changed()
	if c.item == nil {
		return
	}
	encode := q.worker.queries.config.EncodeUpdate
	_, had := q.result[c.item.Key]
	switch {
	case matches && !had && len(q.result) >= objects.MaxQueryResult:
		q.endLocked(objects.ErrQueryLarge)
		return
	case matches:
		q.result[c.item.Key] = c.item
	case had:
		delete(q.result, c.item.Key)
		encode = q.worker.queries.config.EncodeRemoval
	default:
		return
	}
	frames := &hub.Frames{Encode: func(form hub.Form) hub.Frame { return hub.Frame{Bytes: encode(form, q.id, c.item, c.id)} }}
	q.each(func(s Subscriber) bool { return s.Offer(c.id, frames) })
}

func (q *Query) matches(item *query.Item) bool {
	q.worker.queries.config.Evaluated.Inc()
	return q.text.MatchItem(item)
}

// advance notes that the query has seen every change up to an event.
func (q *Query) advance(at objects.EventID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.at < at {
		q.at = at
		q.changed()
	}
}

// knows reports whether a change is part of the result.
func (q *Query) knows(id objects.EventID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.at >= id
}

func (q *Query) isLoaded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.loaded && q.over == nil
}

// Await waits until the result is that of an event or a later one. It does not
// wait once the query has ended: subscribers are told why.
func (q *Query) Await(ctx context.Context, at objects.EventID) error {
	return q.moved.Wait(ctx, &q.mu, func() bool { return q.over != nil || (q.loaded && q.at >= at) })
}

// Join has a subscriber told of changes until leave is called, which also
// releases the use.
func (u *Use) Join(s Subscriber) (leave func()) {
	q := u.Query
	q.mu.Lock()
	defer q.mu.Unlock()
	q.subs[s] = struct{}{}
	return func() {
		q.mu.Lock()
		delete(q.subs, s)
		q.mu.Unlock()
		u.Release()
	}
}

// State returns the frame of the whole result, and the event that it belongs to.
// The frame is kept until the result changes, if there is room for it, and shared
// by all callers that read this form.
func (q *Query) State(form hub.Form) (frame []byte, at objects.EventID, over *objects.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil {
		return nil, 0, q.over
	}
	all := q.worker.queries
	if frame = q.frames[form]; frame == nil {
		frame = all.config.EncodeResult(form, q.id, q.items(), q.at)
		if all.results.Take(q.id, int64(len(frame))) {
			q.frames[form] = frame
		}
	}
	return frame, q.at, nil
}

func (q *Query) itemsAt(at objects.EventID) ([]*objects.Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil || !q.loaded || q.at != at {
		return nil, false
	}
	return q.items(), true
}

func (q *Query) items() []*objects.Item {
	items := make([]*objects.Item, 0, len(q.result))
	for _, i := range q.result {
		items = append(items, i)
	}
	slices.SortFunc(items, func(a, b *objects.Item) int { return objects.CompareKeys(a.Key, b.Key) })
	return items
}

// changed drops the frames of the whole result, which contain the event's id, and
// wakes the callers of Await.
func (q *Query) changed() {
	q.dropFrames()
	q.moved.Broadcast()
}

func (q *Query) dropFrames() {
	for form, frame := range q.frames {
		if frame != nil {
			q.worker.queries.results.Return(q.id, int64(len(frame)))
			q.frames[form] = nil
		}
	}
}

func (q *Query) each(call func(Subscriber) (more bool)) {
	for s := range q.subs {
		if !call(s) {
			delete(q.subs, s)
		}
	}
}

func (q *Query) recheck() {
	defer q.worker.queries.config.Panics.Catch("live query", func(error) { q.end(objects.ErrInternal) })
	q.mu.Lock()
	defer q.mu.Unlock()
	q.each(Subscriber.Recheck)
}

func (q *Query) end(why *objects.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.endLocked(why)
}

// endLocked ends the query for all subscribers.
func (q *Query) endLocked(why *objects.Error) {
	if q.over != nil {
		return
	}
	q.over = why
	q.ended.Store(true)
	q.each(func(s Subscriber) bool {
		s.End(why)
		return false
	})
	q.result = nil
	q.changed()
}
