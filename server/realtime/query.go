package realtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/hub"
	"lockstep/server/livequery"
	"lockstep/server/query"
	"lockstep/server/realtime/wire"
	"lockstep/server/refusal"
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

// runQuery returns the present result of a query over the map that the index
// names. What makes it a live query is that the client subscribes to it then.
func runQuery(ctx context.Context, c *call) (answer, error) {
	var body struct {
		Query string `json:"query_string"`
	}
	if err := json.Unmarshal(c.body, &body); err != nil {
		return answer{}, objects.ErrParameter.With("The body is not a query")
	}
	q, refused := parseQuery(body.Query)
	if refused != nil {
		return answer{}, refused
	}
	found, err := c.session.api.FetchIndex(ctx, c.session.reader(), c.ref)
	if err != nil {
		return answer{}, noIndex(err)
	}
	o := found.Object
	wish := c.session.liveQuery(o.SID, q)
	items, refused := c.session.server.queries.Result(ctx, wish, found.View, o)
	if refused != nil {
		return answer{}, refused
	}
	return answer{status: http.StatusOK, body: func(b []byte) []byte {
		b = append(b, `{"query_id":"`...)
		b = append(b, wish.ID...)
		b = append(b, `","last_event_id":`...)
		b = strconv.AppendUint(b, uint64(o.EventID), 10)
		b = append(b, `,"items":`...)
		return append(wire.AppendQueryItems(b, items), '}')
	}}, nil
}

// noIndex says of a map that is not there that the index is not.
func noIndex(err error) error {
	if e := refusal.Of(err); e.Status == http.StatusNotFound && e.Code != objects.ErrServiceGone.Code {
		return objects.ErrQueryIndex
	}
	return err
}

// encodeQueryUpdate, encodeQueryRemoval and encodeQueryResult make the frames of
// live queries.
func encodeQueryUpdate(form hub.Form, id string, i *objects.Item, at objects.EventID) []byte {
	return wire.QueryItemUpdated(wire.Version(form), id, i, at)
}

func encodeQueryRemoval(form hub.Form, id string, i *objects.Item, at objects.EventID) []byte {
	return wire.QueryItemRemoved(wire.Version(form), id, i, at)
}

func encodeQueryResult(form hub.Form, id string, result []*objects.Item, at objects.EventID) []byte {
	return wire.QueryResult(wire.Version(form), id, result, at)
}

// beginQuery is begin for a live query.
func (s *session) beginQuery(o subscriptionOrder, to recipient, batch *queryBatch) start {
	s.queue.Unsubscribe(o.Object)
	q, refused := parseQuery(o.Query)
	if refused != nil {
		return s.refuseSubscription(o, to, refused)
	}
	wish := &queryWish{session: s, order: o, query: q, recipient: to}
	batch.wishes = append(batch.wishes, wish)
	return wish.start
}

// queryBatch is the live queries of one request, which get ready side by side
// before they are established in the order of the request.
type queryBatch struct {
	wishes []*queryWish

	mu      sync.Mutex
	refused map[string]*objects.Error // by the name of the index, when there were no more tokens for it
}

// prepareSideBySide is how many live queries of a request are paid for, and
// waited for, at a time.
const prepareSideBySide = 8

// prepare has all of the batch ready, or refused, in a state that contains the
// view's.
func (b *queryBatch) prepare(ctx context.Context, view *fsm.View) {
	var work errgroup.Group
	work.SetLimit(prepareSideBySide)
	for _, w := range b.wishes {
		work.Go(func() error {
			defer w.session.config.Panics.Catch("live query", func(error) { w.refused = objects.ErrInternal })
			w.refused = w.prepare(ctx, view, b)
			return nil
		})
	}
	_ = work.Wait() // each wish has its own refusal
}

// release gives up what was not established.
func (b *queryBatch) release() {
	for _, w := range b.wishes {
		if w.use != nil {
			w.use.Release()
		}
	}
}

// exhausted returns the refusal of an earlier query that an index had no tokens
// left for, which later ones share; nil: there was none.
func (b *queryBatch) exhausted(index string) *objects.Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused[index]
}

func (b *queryBatch) note(index string, refused *objects.Error) {
	if refused.Status != http.StatusTooManyRequests {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused == nil {
		b.refused = make(map[string]*objects.Error)
	}
	b.refused[index] = refused
}

// queryWish is the wish for one live query, on its way.
type queryWish struct {
	recipient
	session *session
	order   subscriptionOrder
	query   *query.Query

	source  *querySource
	use     *livequery.Use
	refused *objects.Error
}

// prepare looks at what the view says before the query is paid for, like one
// that is asked once.
func (w *queryWish) prepare(ctx context.Context, view *fsm.View, batch *queryBatch) *objects.Error {
	s, o := w.session, w.order
	ref, refused := indexOf(o.Index)
	if refused != nil {
		return refused
	}
	object, ok := view.Object(s.service.Num, objects.KindMap, ref)
	if !ok {
		return objects.ErrQueryIndex
	}
	if queryID(s.service.SID, object.SID, w.query) != o.Object {
		return objects.ErrQueryIndex // the map is another one than it was
	}
	w.source = &querySource{objectSource: objectSource{session: s, object: object.SID, recipient: w.recipient}}
	if refused := w.source.Check(view); refused != nil {
		return refused
	}
	wish := s.liveQuery(object.SID, w.query)
	if refused := s.server.queries.CheckBounds(wish); refused != nil {
		return refused
	}
	if refused := batch.exhausted(o.Index); refused != nil {
		return refused
	}
	if _, err := s.api.FetchIndex(ctx, s.reader(), ref); err != nil {
		refused := refusal.Of(noIndex(err))
		batch.note(o.Index, refused)
		return refused
	}
	return w.load(ctx, wish, object.EventID)
}

// load waits for the result that is that at an event, or a later one.
func (w *queryWish) load(ctx context.Context, wish livequery.Request, at objects.EventID) *objects.Error {
	use, refused := w.session.server.queries.Use(wish)
	if refused != nil {
		return refused
	}
	if err := use.Await(ctx, at); err != nil {
		use.Release()
		return objects.ErrUnavailable
	}
	w.use, w.source.live = use, use
	return nil
}

// start establishes the live query.
func (w *queryWish) start(ctx context.Context, view *fsm.View) {
	s, o := w.session, w.order
	if w.refused == nil {
		if s.queue.Subscriptions() >= objects.MaxSubscriptions {
			w.refused = objects.ErrSubscriptions // others of the batch took the last places
		}
	}
	if w.refused != nil {
		s.refuseSubscription(o, w.recipient, w.refused)(ctx, view)
		return
	}
	sub := s.queue.Subscribe(o.Object, objects.SID{}, w.source, w.join)
	sub.Start(o.LastEvent.id)
}

// join has the subscription end the use.
func (w *queryWish) join(s *hub.Subscription) (leave func()) {
	use := w.use
	w.use = nil
	return use.Join(s)
}

// liveQuery names a query over a map, asked by the client.
func (s *session) liveQuery(object objects.SID, q *query.Query) livequery.Request {
	return livequery.Request{Identity: s.holder, ID: queryID(s.service.SID, object, q), Map: object, Query: q}
}

// querySource tells a client of one live query. Access is that of the map.
type querySource struct {
	objectSource
	live *livequery.Use
}

// Replay implements hub.Source: it appends the whole result, unless that is what
// the client has.
func (q *querySource) Replay(b []byte, _ *fsm.View, _, after, _ objects.EventID) ([]byte, objects.EventID, bool, *objects.Error) {
	frame, at, why := q.live.State(q.Form())
	if why == nil {
		// The result may be newer than the view, but not than the latest one.
		why = q.Check(q.session.config.Node.View())
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
	b = wire.AppendEstablished(b, q.version, q.live.ID(), liveQueryType, q.correlation, at)
	q.correlation = nil
	return b
}

// Ended implements hub.Source.
func (q *querySource) Ended(b []byte, why *objects.Error) []byte {
	if q.correlation != nil {
		q.session.server.metrics.refused(why)
	}
	return wire.AppendFailed(b, q.version, q.live.ID(), q.correlation, why)
}

var (
	_ hub.Source           = (*objectSource)(nil)
	_ hub.Source           = (*querySource)(nil)
	_ livequery.Subscriber = (*hub.Subscription)(nil)
)
