package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/hub"
	"lockstep/test/validate"
)

// Frames of simulated subscribers are lines: what happened, its event id, and, of
// an item, key and data.

func encodeLive(e *objects.Event, _ hub.Form) hub.Frame {
	b := encode(nil, e)
	return hub.Frame{Bytes: b, Part: &hub.Part{Event: b}}
}

func joinLive(b []byte, _ string, events [][]byte) []byte {
	return append(b, slices.Concat(events...)...)
}

func encode(b []byte, e *objects.Event) []byte {
	what := ""
	switch e.Type {
	case objects.ItemAdded:
		what = "added"
	case objects.ItemUpdated:
		what = "updated"
	case objects.ItemRemoved:
		what = "removed"
	default:
		return fmt.Appendf(b, "other %d\n", e.ID)
	}
	return fmt.Appendf(b, "%s %d %s %s\n", what, e.ID, e.Item.Key, e.Item.Data)
}

// source is a map as a subscriber follows it.
type source struct {
	object objects.SID
	chunk  int // events of one part of a replay
	added  hub.Additions
}

// Form implements hub.Source.
func (s *source) Form() hub.Form { return 0 }

// Check implements hub.Source.
func (s *source) Check(view *fsm.View) *objects.Error {
	if _, ok := view.ObjectBySID(s.object); !ok {
		return objects.ErrGone(s.object.Kind())
	}
	return nil
}

// Replay implements hub.Source. Its subscribers write nothing themselves.
func (s *source) Replay(b []byte, view *fsm.View, known, after, _ objects.EventID) ([]byte, objects.EventID, bool, *objects.Error) {
	o, ok := view.ObjectBySID(s.object)
	if !ok {
		return b, after, false, objects.ErrGone(s.object.Kind())
	}
	events, why := view.Replay(o, known, after, s.chunk)
	if why != nil {
		return b, after, false, why
	}
	more := len(events) == s.chunk
	s.added.Correct(events, more)
	for i := range events {
		b = encode(b, &events[i])
	}
	if more {
		return b, events[len(events)-1].ID, true, nil
	}
	return b, o.EventID, false, nil
}

// Established implements hub.Source.
func (s *source) Established(b []byte, at objects.EventID) []byte {
	return fmt.Appendf(b, "established %d\n", at)
}

// Ended implements hub.Source.
func (s *source) Ended(b []byte, why *objects.Error) []byte {
	return fmt.Appendf(b, "ended %d\n", why.Code)
}

// subscriber follows a map as an application does: through some node, and when
// that is gone, or for no reason, through another one, from the last event on that
// it knows.
type subscriber struct {
	cluster *Cluster
	rand    *rand.Rand
	object  objects.SID
	heard   validate.Transcript
	opened  int // times that its history was not there any more
}

// run follows until ctx ends.
func (s *subscriber) run(ctx context.Context) {
	for ctx.Err() == nil {
		nodes := s.cluster.Nodes()
		if len(nodes) == 0 {
			Sleep(ctx, 20*time.Millisecond)
			continue
		}
		stay, cancel := context.WithTimeout(ctx, upTo(s.rand, 8*time.Second))
		s.follow(stay, nodes[s.rand.IntN(len(nodes))])
		cancel()
		Sleep(ctx, upTo(s.rand, 200*time.Millisecond))
	}
}

// follow listens to a node until ctx or that one ends.
func (s *subscriber) follow(ctx context.Context, n *member) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.ended, cancel)()
	woken := make(chan struct{}, 1)
	q := n.hub.NewQueue("subscriber", func(hub.Urgency) {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	defer q.UnsubscribeAll()
	sub := q.SubscribeObject(s.object, &source{object: s.object, chunk: 1 + s.rand.IntN(4)})
	view, err := n.Read(ctx, objects.Bucket{})
	if err != nil {
		return
	}
	s.heard.Returned()
	sub.Start(objects.EventID(s.heard.Last()))
	for ctx.Err() == nil {
		b, _ := q.Fill(nil, 1+s.rand.IntN(200))
		if !s.read(string(b), view) {
			return
		}
		if len(b) == 0 {
			select {
			case <-woken:
			case <-ctx.Done():
			}
		} else if s.rand.IntN(4) == 0 { // it is slow now and then
			Sleep(ctx, upTo(s.rand, 100*time.Millisecond))
		}
	}
}

// read takes what a node has sent. It returns false when the subscription is over.
func (s *subscriber) read(sent string, view *fsm.View) bool {
	for line := range strings.Lines(sent) {
		words := strings.Fields(line)
		id, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			s.heard.Fault(line)
			return false
		}
		switch words[0] {
		case "established":
			s.heard.Established(id)
		case "ended":
			if id != uint64(objects.ErrHistory.Code) {
				s.heard.Fault(line)
				return false
			}
			if o, ok := view.ObjectBySID(s.object); ok {
				s.opened++
				s.heard.Open(uint64(o.EventID), entries(view, s.object))
			}
			return false
		case "added", "updated", "removed":
			s.heard.Heard(validate.Event{ID: id, Type: validate.Type(words[0]), Key: words[2], Data: words[3]})
		default:
			s.heard.Fault(line)
		}
	}
	return true
}

// entries returns the items of a map.
func entries(view *fsm.View, sid objects.SID) map[string]string {
	found := make(map[string]string)
	if o, ok := view.ObjectBySID(sid); ok {
		view.EachItem(o, func(i *objects.Item) bool {
			found[i.Key] = string(i.Data)
			return true
		})
	}
	return found
}
