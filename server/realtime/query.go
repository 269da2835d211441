package realtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/query"
)

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
	found, err := s.server.config.API.FetchIndex(ctx, s.caller(), fsm.ParseRef(index))
	if e := (*objects.Error)(nil); errors.As(err, &e) && e.Status == 404 {
		return nil, api.Found{}, objects.ErrQueryIndex
	}
	return q, found, err
}

// subscribeQuery joins a live query: the client gets its whole result, if that
// is not what it has, and from then on its changes.
func (s *session) subscribeQuery(ctx context.Context, r subscriptionRequest, correlation json.RawMessage) {
	if err := s.joinQuery(ctx, r, correlation); err != nil {
		e := objects.ErrUnavailable
		if errors.As(err, &e); e.RetryAfter > 0 {
			return // the client asks again
		}
		s.leaveQuery(r.Object)
		s.outbox.push(failedFrame(r.Object, correlation, e))
	}
}

func (s *session) joinQuery(ctx context.Context, r subscriptionRequest, correlation json.RawMessage) error {
	q, found, err := s.findIndex(ctx, r.Index, r.Query)
	if err != nil {
		return err
	}
	id := queryID(s.service.SID, found.Object.SID, q)
	if id != r.Object {
		return objects.ErrQueryIndex
	}
	s.mu.Lock()
	full := s.queries[id] == nil && len(s.subs)+len(s.queries) >= objects.MaxSubscriptions
	s.mu.Unlock()
	if full {
		return objects.ErrSubscriptions
	}
	live := s.server.queries.use(id, found.Object.SID, q)
	joined, refused := live.join(s, r.LastEvent, correlation)
	if !joined {
		s.server.queries.giveBack(live)
	} else {
		s.server.metrics.subscriptions.Inc()
	}
	if refused != nil {
		return refused
	}
	return nil
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

// attach notes that the session follows a query. It gives false if that was so
// already.
func (s *session) attach(q *liveQuery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detached = slices.DeleteFunc(s.detached, func(d *liveQuery) bool { return d == q })
	known := s.queries[q.id] == q
	s.queries[q.id] = q
	return !known
}

// detach has the session's writer leave a query: within the hub, which must not
// be called from there, that cannot be done.
func (s *session) detach(q *liveQuery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detached = append(s.detached, q)
	s.outbox.signal()
}
