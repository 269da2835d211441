package realtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"sync"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
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

// queryID derives the id of a query, the same on every node, so that equal
// queries share their work (part 7).
func queryID(service, object objects.SID, q *query.Query) string {
	sum := sha256.Sum256([]byte(service.String() + object.String() + q.String()))
	return "QR" + hex.EncodeToString(sum[:16])
}

// insights serves POST /v3/Insights/{index}/Items: the present result.
func (s *session) insights(r *request, index string) {
	var body struct {
		Query string `json:"query_string"`
	}
	if err := json.Unmarshal(r.body, &body); err != nil {
		s.fail(r, objects.ErrParameter)
		return
	}
	q, found, err := s.findIndex(r.ctx, index, body.Query)
	if err != nil {
		s.fail(r, err)
		return
	}
	var result []*objects.Item
	found.View.EachItem(found.Object, func(i *objects.Item) bool {
		if q.Match(i.Key, i.Data) {
			result = append(result, i)
		}
		return len(result) <= objects.MaxQueryResult
	})
	if len(result) > objects.MaxQueryResult {
		s.fail(r, objects.ErrQueryLarge)
		return
	}
	b := []byte(`{"query_id":"`)
	b = append(b, queryID(s.service.SID, found.Object.SID, q)...)
	b = append(b, `","last_event_id":`...)
	b = appendInt(b, int(found.Object.EventID))
	b = append(b, `,"items":`...)
	b = appendQueryItems(b, result)
	s.reply(r, 200, append(b, '}'))
}

// findIndex parses a query and finds the map that it is about.
func (s *session) findIndex(ctx context.Context, index, text string) (*query.Query, api.Found, error) {
	q, err := query.Parse(text)
	if err != nil {
		return nil, api.Found{}, objects.ErrQuery.With("The query is not valid: %v", err)
	}
	found, err := s.server.config.API.FetchObject(ctx, s.caller(), objects.KindMap, fsm.ParseRef(index))
	if e := (*objects.Error)(nil); errors.As(err, &e) && e.Status == 404 {
		return nil, api.Found{}, objects.ErrQueryIndex
	}
	return q, found, err
}

// subscribeQuery joins a live query: the client gets its whole result, if that
// is not what it has, and from then on its changes.
func (s *session) subscribeQuery(ctx context.Context, r subscriptionRequest, correlation json.RawMessage) {
	fail := func(err error) {
		e := objects.ErrUnavailable
		errors.As(err, &e)
		s.outbox.push(failedFrame(r.Object, correlation, e), false)
	}
	q, found, err := s.findIndex(ctx, r.Index, r.Query)
	if err != nil {
		fail(err)
		return
	}
	id := queryID(s.service.SID, found.Object.SID, q)
	if id != r.Object {
		fail(objects.ErrQueryIndex)
		return
	}
	s.mu.Lock()
	full := s.queries[id] == nil && len(s.subs)+len(s.queries) >= objects.MaxSubscriptions
	s.mu.Unlock()
	if full {
		fail(objects.ErrSubscriptions)
		return
	}
	live := s.server.queries.use(id, found.Object.SID, q)
	live.join(s, r.LastEvent, correlation)
}

func (s *session) leaveQuery(id string) {
	s.mu.Lock()
	q := s.queries[id]
	delete(s.queries, id)
	s.mu.Unlock()
	if q != nil {
		s.server.metrics.subscriptions.Dec()
		q.leave(s)
	}
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

func (q *liveQuery) join(s *session, last *objects.EventID, correlation json.RawMessage) {
	q.mu.Lock()
	q.load()
	_, again := q.sessions[s]
	q.sessions[s] = struct{}{}
	if last == nil || *last != q.seen {
		s.outbox.push(queryResultFrame(q.id, correlation, q.items(), q.seen), false)
	}
	s.outbox.push(establishedFrame(q.id, "live_query", correlation, q.seen), false)
	q.mu.Unlock()
	s.mu.Lock()
	s.queries[q.id] = q
	s.mu.Unlock()
	if again {
		q.queries.giveBack(q)
		return
	}
	s.server.metrics.subscriptions.Inc()
}

func (q *liveQuery) leave(s *session) {
	q.mu.Lock()
	_, there := q.sessions[s]
	delete(q.sessions, s)
	q.mu.Unlock()
	if there {
		q.queries.giveBack(q)
	}
}

// load evaluates the query over the whole map, once. Events that came before
// are contained in the view.
func (q *liveQuery) load() {
	if q.loaded {
		return
	}
	q.loaded = true
	view := q.queries.server.config.Node.View()
	o, ok := view.ObjectBySID(q.object)
	if !ok {
		return
	}
	q.seen = o.EventID
	view.EachItem(o, func(i *objects.Item) bool {
		if q.query.Match(i.Key, i.Data) {
			q.result[i.Key] = i
		}
		return true
	})
}

func (q *liveQuery) items() []*objects.Item {
	out := make([]*objects.Item, 0, len(q.result))
	for _, i := range q.result {
		out = append(out, i)
	}
	return out
}

// Tell implements hub.Subscriber.
func (q *liveQuery) Tell(e *objects.Event, _ func() []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !q.loaded:
	case e.Type == objects.PermissionChanged:
		for s := range q.sessions {
			if s.actor.Identity == e.Identity {
				q.recheck(s)
			}
		}
	case e.Type == objects.ObjectRemoved:
		for s := range q.sessions {
			s.outbox.push(failedFrame(q.id, nil, objects.ErrQueryIndex), false)
		}
	case e.Item != nil && e.ID > q.seen:
		q.change(e)
	}
}

// change evaluates one item.
func (q *liveQuery) change(e *objects.Event) {
	q.seen = e.ID
	i := e.Item
	matches := e.Type != objects.ItemRemoved && q.query.Match(i.Key, i.Data)
	_, had := q.result[i.Key]
	switch {
	case matches:
		q.result[i.Key] = i
	case had:
		delete(q.result, i.Key)
	default:
		return
	}
	frame := queryFrame(q.id, i, e.ID, !matches)
	for s := range q.sessions {
		if !s.outbox.offer(frame) {
			s.outbox.finish(nil) // it comes back and gets the whole result
		}
	}
}

// recheck ends the query for a session that may no longer read the map.
func (q *liveQuery) recheck(s *session) {
	view := q.queries.server.config.Node.View()
	o, ok := view.ObjectBySID(q.object)
	if !ok {
		return
	}
	if service, ok := view.ServiceOf(o); ok && !view.May(s.actor, service, o, objects.Read) {
		s.outbox.push(failedFrame(q.id, nil, objects.ErrForbidden), false)
		s.detach(q)
	}
}

// detach takes a session off a query from within the hub, which must not be
// called: the session's writer finishes it.
func (s *session) detach(q *liveQuery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detached = append(s.detached, q)
	s.outbox.signal()
}

// Lost implements hub.Subscriber: everyone gets the whole result.
func (q *liveQuery) Lost() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.loaded {
		return
	}
	q.loaded = false
	clear(q.result)
	q.load()
	for s := range q.sessions {
		s.outbox.push(queryResultFrame(q.id, []byte("null"), q.items(), q.seen), false)
	}
}

// Notice implements hub.Subscriber.
func (q *liveQuery) Notice(e *objects.Event) {
	if e.Type != objects.ServiceChanged {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for s := range q.sessions {
		if s.service.SID == e.Service.SID {
			q.recheck(s)
		}
	}
}
