package realtime

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/query"
)

// liveQueries are the queries that somebody follows on this node: equal ones
// share one evaluation of each change.
type liveQueries struct {
	server *Server
	mu     sync.Mutex
	byID   map[string]*liveQuery
}

// liveQuery keeps the result of one query over the items of a map. It follows
// the map as any subscriber does; a change costs one evaluation, whatever the
// number of items and of sessions.
type liveQuery struct {
	queries *liveQueries
	id      string
	object  objects.SID
	query   *query.Query

	mu       sync.Mutex
	seen     objects.EventID
	loaded   bool
	result   map[string]*objects.Item
	sessions map[*session]struct{}
	users    int // sessions, and requests that are about to join; guarded by queries.mu
}

// use finds or makes a live query; leave, or a join that fails, gives it back.
func (l *liveQueries) use(id string, object objects.SID, q *query.Query) *liveQuery {
	l.mu.Lock()
	live := l.byID[id]
	if live == nil {
		live = &liveQuery{
			queries: l, id: id, object: object, query: q,
			result: map[string]*objects.Item{}, sessions: map[*session]struct{}{},
		}
		l.byID[id] = live
	}
	live.users++
	l.mu.Unlock()
	l.server.hub.Join(live)
	l.server.hub.Follow(live, object)
	return live
}

func (l *liveQueries) giveBack(live *liveQuery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if live.users--; live.users > 0 {
		return
	}
	delete(l.byID, live.id)
	l.server.hub.Unfollow(live, live.object)
	l.server.hub.Leave(live)
}

// join adds a session, unless it is there already or must not be.
func (q *liveQuery) join(s *session, last *objects.EventID, correlation json.RawMessage) (joined bool, refused *objects.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// The view is taken after the query follows the map and under the lock that
	// its events need: what it does not show yet will be told.
	view := q.queries.server.config.Node.View()
	o, ok := view.ObjectBySID(q.object)
	if !ok {
		return false, objects.ErrQueryIndex
	}
	if service, ok := view.ServiceOf(o); !ok || !view.May(s.actor, service, o, objects.Read) {
		return false, objects.ErrForbidden
	}
	if q.catchUp(view, o); len(q.result) > objects.MaxQueryResult {
		return false, objects.ErrQueryLarge
	}
	if last == nil || *last != q.seen {
		s.outbox.push(queryResultFrame(q.id, correlation, q.items(), q.seen))
	}
	s.outbox.push(establishedFrame(q.id, "live_query", correlation, q.seen))
	q.sessions[s] = struct{}{}
	return s.attach(q), nil
}

func (q *liveQuery) leave(s *session) {
	q.mu.Lock()
	delete(q.sessions, s)
	q.mu.Unlock()
	q.queries.giveBack(q)
}

// catchUp brings the result to what a view has, and tells the sessions what
// changed. Nothing is lost on them: removed items leave tombstones, and when
// those are forgotten, the old result is compared with the new one.
func (q *liveQuery) catchUp(view *fsm.View, o *objects.Object) {
	if !q.loaded {
		q.result, q.seen, q.loaded = q.evaluate(view, o), o.EventID, true
		return
	}
	for q.seen < o.EventID {
		events, forgotten := view.Replay(o, q.seen, q.seen, replayChunk)
		if forgotten != nil {
			q.compare(q.evaluate(view, o), o.EventID)
			return
		}
		for i := range events {
			q.change(events[i].Item, events[i].ID, events[i].Type == objects.ItemRemoved)
		}
		if len(events) < replayChunk {
			q.seen = o.EventID
		}
	}
}

// evaluate goes over the whole map.
func (q *liveQuery) evaluate(view *fsm.View, o *objects.Object) map[string]*objects.Item {
	result := map[string]*objects.Item{}
	view.EachItem(o, func(i *objects.Item) bool {
		if q.query.Match(i.Key, i.Data) {
			result[i.Key] = i
		}
		return true
	})
	return result
}

// compare changes the result into another one, of the map's event id.
func (q *liveQuery) compare(next map[string]*objects.Item, id objects.EventID) {
	for key, i := range q.result {
		if next[key] == nil {
			delete(q.result, key)
			q.tell(i, id, true)
		}
	}
	for key, i := range next {
		if old := q.result[key]; old == nil || old.EventID != i.EventID {
			q.result[key] = i
			q.tell(i, i.EventID, false)
		}
	}
	q.seen = id
}

// items gives the result in the order of the keys.
func (q *liveQuery) items() []*objects.Item {
	return slices.SortedFunc(maps.Values(q.result), func(a, b *objects.Item) int { return objects.CompareKeys(a.Key, b.Key) })
}

// Tell implements hub.Subscriber.
func (q *liveQuery) Tell(e *objects.Event, _ func() []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !q.loaded:
	case e.Type == objects.PermissionChanged:
		q.recheck(func(s *session) bool { return s.actor.Identity == e.Identity })
	case e.Type == objects.ObjectRemoved:
		q.endAll(objects.ErrQueryIndex)
	case e.Item != nil && e.ID > q.seen:
		q.change(e.Item, e.ID, e.Type == objects.ItemRemoved)
	}
}

// change evaluates one item.
func (q *liveQuery) change(i *objects.Item, id objects.EventID, removed bool) {
	q.seen = id
	_, had := q.result[i.Key]
	switch {
	case !removed && q.query.Match(i.Key, i.Data):
		q.result[i.Key] = i
		q.tell(i, id, false)
	case had:
		delete(q.result, i.Key)
		q.tell(i, id, true)
	}
}

// tell sends a change to all sessions. One that has no room for it is closed:
// it comes back and gets the whole result.
func (q *liveQuery) tell(i *objects.Item, id objects.EventID, removed bool) {
	if len(q.sessions) == 0 {
		return
	}
	frame := queryFrame(q.id, i, id, removed)
	for s := range q.sessions {
		if !s.outbox.offer(frame) {
			s.drop()
		}
	}
}

// end takes a session off the query.
func (q *liveQuery) end(s *session, why *objects.Error) {
	s.outbox.push(failedFrame(q.id, nil, why))
	delete(q.sessions, s)
	s.detach(q)
}

func (q *liveQuery) endAll(why *objects.Error) {
	for s := range q.sessions {
		q.end(s, why)
	}
}

// recheck ends the query for those sessions that may no longer read the map.
func (q *liveQuery) recheck(concerns func(*session) bool) {
	view := q.queries.server.config.Node.View()
	o, ok := view.ObjectBySID(q.object)
	if !ok {
		return // its removal is on the way
	}
	service, ok := view.ServiceOf(o)
	for s := range q.sessions {
		if ok && concerns(s) && !view.May(s.actor, service, o, objects.Read) {
			q.end(s, objects.ErrForbidden)
		}
	}
}

// Lost implements hub.Subscriber.
func (q *liveQuery) Lost() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.loaded {
		return
	}
	view := q.queries.server.config.Node.View()
	o, ok := view.ObjectBySID(q.object)
	if !ok {
		q.endAll(objects.ErrQueryIndex)
		return
	}
	q.catchUp(view, o)
	q.recheck(func(*session) bool { return true })
}

// Notice implements hub.Subscriber.
func (q *liveQuery) Notice(e *objects.Event) {
	if e.Type != objects.ServiceChanged {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recheck(func(s *session) bool { return s.service.SID == e.Service.SID })
}
