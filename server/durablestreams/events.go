package durablestreams

import (
	"context"
	"net/http"
	"strings"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/origin"
	"lockstep/server/refusal"
	"lockstep/server/resource"
)

// eventNames are those of subscribers, without the kind that stands in front.
var eventNames = map[objects.EventType]string{
	objects.ObjectUpdated: "_updated", objects.ContextUpdated: "_context_updated",
	objects.ItemAdded: "_item_added", objects.ItemUpdated: "_item_updated", objects.ItemRemoved: "_item_removed",
}

// eventsSuffix ends the paths of events: /v1/Services/{service}/{kind}/{object}/Events.
const eventsSuffix = "/Events"

// partEvents is how many events are sent at a time.
const partEvents = 100

// events tells of what happens to a document, list or map, from an event on, as a
// subscriber hears it: of what was overwritten meanwhile, what it is now.
func (q *request) events(ctx context.Context) error {
	at := position{now: true}
	text := q.r.URL.Query().Get("offset")
	if last := q.r.Header.Get("Last-Event-ID"); last != "" {
		text = last
	}
	if text != "" {
		var err error
		if at, err = parseOffset(text); err != nil {
			return q.config.API.Refuse(ctx, q.caller, q.kind, q.ref, objects.Read, err)
		}
	}
	found, err := q.find(ctx)
	if err != nil {
		return err
	}
	after, err := at.in(found.Object)
	if err != nil {
		return err
	}
	if !found.View.CanReplay(found.Object, after) {
		return objects.ErrHistory
	}
	l, err := q.listen(found.Object.SID, after)
	if err != nil {
		return err
	}
	defer l.stop()
	known, first := after, true
	encoder := q.config.API.Encoder(origin.Of(q.r, q.config.PublicURL, q.config.TrustedProxies), resource.REST)
	return l.follow(func() (told, error) {
		view, o, err := l.look()
		if err != nil {
			return told{}, err
		}
		replayed, refused := view.Replay(o, known, l.after, partEvents)
		if refused != nil {
			return told{}, refused
		}
		t := told{more: len(replayed) == partEvents}
		if first {
			first = false
			t.bytes = append(t.bytes, ":\n\n"...) // that it is followed
		}
		l.after = o.EventID
		for i := range replayed {
			t.bytes = appendEvent(t.bytes, encoder, &replayed[i])
		}
		if t.more {
			l.after = replayed[len(replayed)-1].ID
		} else {
			known = l.after
		}
		return t, nil
	}, appendEnded)
}

func appendEvent(b []byte, encoder resource.Encoder, e *objects.Event) []byte {
	b = append(append(append(b, "id: "...), offset(e.Object, e.ID)...), "\nevent: "...)
	b = append(append(append(b, e.Object.Kind().String()...), eventNames[e.Type]...), "\ndata: "...)
	if e.Item != nil {
		b = encoder.Item(b, e.Object, e.Item, resource.WithData)
	} else {
		b = encoder.Object(b, e.Object, resource.WithData)
	}
	return append(b, "\n\n"...)
}

// appendEnded appends the last event: why no more will come.
func appendEnded(b []byte, why *objects.Error) []byte {
	return append(refusal.Append(append(b, "event: ended\ndata: "...), why), "\n\n"...)
}

// look returns the object as it is now, unless the reader may not see it any more.
func (l *reader) look() (*fsm.View, *objects.Object, error) {
	view := l.config.View()
	if l.who.KeySID != "" {
		if _, err := l.authenticate(); err != nil {
			return nil, nil, err
		}
	}
	_, o, refused := view.Find(l.caller.Actor, l.caller.Service, l.kind, fsm.Ref{SID: l.object}, objects.Read)
	if refused != nil {
		return nil, nil, refused
	}
	return view, o, nil
}

// isEvents reports whether a path is one of events.
func isEvents(path string) bool {
	s := strings.Split(path, "/") // "", v1, Services, service, kind, object, Events
	return len(s) == 7 && "/"+s[6] == eventsSuffix && "/"+s[4]+"/" != Mark
}

// serveEvents serves requests for events.
func (q *request) serveEvents(ctx context.Context) error {
	if q.r.Method != http.MethodGet {
		q.w.Header().Set("Allow", "GET, OPTIONS")
		return objects.ErrMethod
	}
	return q.events(ctx)
}
