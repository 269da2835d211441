package realtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/hub"
	"lockstep/server/query"
)

// queryID names a query, the same on every node, so that equal queries share
// their work (part 7).
func queryID(service, object objects.SID, q *query.Query) string {
	sum := sha256.Sum256([]byte(service.String() + object.String() + q.String()))
	return "QR" + hex.EncodeToString(sum[:16])
}

func parseQuery(text string) (*query.Query, *objects.Error) {
	q, err := query.Parse(text)
	switch {
	case errors.Is(err, query.ErrTooManyOperators):
		return nil, objects.ErrQueryOperators
	case errors.Is(err, query.ErrTooManyValues):
		return nil, objects.ErrQueryValues
	case err != nil:
		return nil, objects.ErrQuery.With("The query is not valid: %v", err)
	}
	return q, nil
}

// indexOf finds what an index name stands for: a map, by its unique name or SID.
func indexOf(name string) (fsm.Ref, *objects.Error) {
	ref := fsm.ParseRef(name)
	if ref.SID.Kind() != objects.KindMap && objects.ValidateName(name) != nil {
		return ref, objects.ErrQueryIndexName
	}
	return ref, nil
}

// runQuery gives the present result of a query over the map that the index
// names. What makes it a live query is that the client subscribes to it then.
func runQuery(s *session, ctx context.Context, r *request) (answer, error) {
	var body struct {
		Query string `json:"query_string"`
	}
	if err := json.Unmarshal(r.body, &body); err != nil {
		return answer{}, objects.ErrParameter.With("The body is not a query")
	}
	q, refused := parseQuery(body.Query)
	if refused != nil {
		return answer{}, refused
	}
	found, err := s.server.config.API.FetchIndex(ctx, s.reader(), r.ref)
	if err != nil {
		return answer{}, noIndex(err)
	}
	o := found.Object
	id := queryID(s.service.SID, o.SID, q)
	items, refused := s.server.queries.result(ctx, id, q, found.View, o)
	if refused != nil {
		return answer{}, refused
	}
	return answer{status: http.StatusOK, body: func(b []byte) []byte {
		b = append(b, `{"query_id":"`...)
		b = append(b, id...)
		b = append(b, `","last_event_id":`...)
		b = strconv.AppendUint(b, uint64(o.EventID), 10)
		b = append(b, `,"items":`...)
		return append(appendQueryItems(b, items), '}')
	}}, nil
}

// noIndex says of a map that is not there that the index is not.
func noIndex(err error) error {
	if e := refusal(err); e.Status == http.StatusNotFound && e.Code != objects.ErrServiceGone.Code {
		return objects.ErrQueryIndex
	}
	return err
}

// beginQuery is begin for a live query.
func (s *session) beginQuery(o subscriptionOrder, to recipient) start {
	s.queue.Unsubscribe(o.Object)
	q, refused := parseQuery(o.Query)
	if refused != nil {
		return s.refuseSubscription(o, to, refused)
	}
	return func(ctx context.Context, view *fsm.View) {
		if refused := s.startQuery(ctx, view, q, o, to); refused != nil {
			s.refuseSubscription(o, to, refused)(ctx, view)
		}
	}
}

func (s *session) startQuery(ctx context.Context, view *fsm.View, q *query.Query, o subscriptionOrder, to recipient) *objects.Error {
	ref, refused := indexOf(o.Index)
	if refused != nil {
		return refused
	}
	object, ok := view.Object(s.service.Num, objects.KindMap, ref)
	if !ok {
		return objects.ErrQueryIndex
	}
	if queryID(s.service.SID, object.SID, q) != o.Object {
		return objects.ErrQueryIndex // the map is another one than it was
	}
	source := &querySource{objectSource: objectSource{session: s, object: object.SID, recipient: to}}
	if refused := source.Check(view); refused != nil {
		return refused
	}
	if _, count := s.queue.Has(o.Object); count >= objects.MaxSubscriptions {
		return objects.ErrSubscriptions // others of the batch took the last places
	}
	live := s.server.queries.use(o.Object, object.SID, q)
	if err := live.await(ctx, object.EventID); err != nil {
		s.server.queries.release(live)
		return objects.ErrUnavailable
	}
	source.live = live
	sub := s.queue.Subscribe(o.Object, objects.SID{}, source, live.join)
	sub.Start(o.LastEvent.id)
	return nil
}

// querySource tells a client of one live query. Access is that of the map.
type querySource struct {
	objectSource
	live *liveQuery
}

// Replay implements hub.Source: it gives the whole result, unless that is what
// the client has.
func (q *querySource) Replay(b []byte, _ *fsm.View, _, after, _ objects.EventID) ([]byte, objects.EventID, bool, *objects.Error) {
	frame, at, why := q.live.state(q.form)
	if why == nil {
		// The result may be newer than the view, but not than the latest one.
		why = q.Check(q.session.server.config.Node.View())
	}
	if why != nil || at == after {
		return b, after, false, why
	}
	q.replayed++
	q.session.server.metrics.replayed.Inc()
	return append(b, frame...), at, false, nil
}

// Established implements hub.Source.
func (q *querySource) Established(b []byte, at objects.EventID) []byte {
	q.session.server.metrics.established(q.replayed)
	b = appendEstablished(b, q.form, q.live.id, liveQueryType, q.correlation, at)
	q.correlation = nil
	return b
}

// Ended implements hub.Source.
func (q *querySource) Ended(b []byte, why *objects.Error) []byte {
	if q.correlation != nil {
		q.session.server.metrics.refused(why)
	}
	return appendFailed(b, q.form, q.live.id, q.correlation, why)
}

var (
	_ hub.Source   = (*objectSource)(nil)
	_ hub.Source   = (*querySource)(nil)
	_ hub.Follower = (*liveQuery)(nil)
)
