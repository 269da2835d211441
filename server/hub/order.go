package hub

import (
	"context"

	"lockstep/objects"
)

// Point is a place in the events of an object. The zero value is in front of
// all.
type Point struct {
	Object objects.SID
	Event  objects.EventID
}

// Told waits until all events of the object up to the point that the client is
// to hear of are in the queue. An answer that tells of a later state has to
// come behind them: a client ignores events that are older than what it knows.
//
// Who does not follow the object waits for nothing. Nor do those who follow a
// stream: its messages have no order that an answer could overtake.
func (q *Queue) Told(ctx context.Context, p Point) error {
	if p.Event == 0 || p.Object.Kind() == objects.KindStream {
		return nil
	}
	name := p.Object.String()
	for {
		q.mu.Lock()
		if q.told(name, p.Event) {
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

func (q *Queue) told(name string, event objects.EventID) bool {
	s := q.subs[name]
	return q.closing || s == nil || (s.state != behind && s.state != live) || s.sent >= event
}

// move is called when a subscription has got on, or has ended.
func (q *Queue) move() {
	if q.moved != nil {
		close(q.moved)
		q.moved = nil
	}
}
