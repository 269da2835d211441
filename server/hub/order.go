package hub

import (
	"context"

	"lockstep/objects"
)

// Point is a place in the events of an object. The zero value comes before all
// events.
type Point struct {
	Object objects.SID
	Event  objects.EventID
}

// AwaitTold waits until the queue holds all events of the object up to the point
// that the client must be told of. An answer that shows a later state has to
// come after them, because a client ignores events older than what it knows.
//
// A client that does not follow the object does not wait. Neither does one that
// follows a stream, since messages have no order that an answer could overtake.
func (q *Queue) AwaitTold(ctx context.Context, p Point) error {
	if p.Event == 0 || p.Object.Kind() == objects.KindStream {
		return nil
	}
	name := p.Object.String()
	return q.moved.Wait(ctx, &q.mu, func() bool { return q.told(name, p.Event) })
}

func (q *Queue) told(name string, event objects.EventID) bool {
	s := q.subs[name]
	return q.closing || s == nil || (s.state != behind && s.state != live) || s.sent >= event
}
