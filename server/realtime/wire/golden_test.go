package wire

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/test/golden"
)

// The bytes that clients are sent, of every event, answer and message, in both
// versions of the event protocol.

const testOrigin = "http://node.example"

var versions = map[string]Version{"v3": Version3, "v4": Version4}

func sidOf(kind objects.Kind) objects.SID { return objects.NewSID(kind, [16]byte{7}) }

func fullObject(kind objects.Kind) *objects.Object {
	return &objects.Object{
		SID: sidOf(kind), ServiceSID: sidOf(objects.KindService), UniqueName: "people", EventID: 26,
		Created: 1_772_600_767_890, Updated: 1_772_600_768_000, Expires: 1_772_600_828_000, CreatedBy: "ann", Data: []byte(`{"a":1e400}`),
	}
}

func fullItem(kind objects.Kind) *objects.Item {
	i := &objects.Item{
		Revision: 26, EventID: 27, Added: 25, Created: 1_772_600_767_890, Updated: 1_772_600_768_000,
		Expires: 1_772_600_828_000, CreatedBy: "ann", Data: []byte(`{"team":"red"}`),
	}
	if kind == objects.KindMap {
		i.Key = "a/ü+"
	} else {
		i.Index = 3
	}
	return i
}

// eventTypes are those that each kind of object has.
var eventTypes = map[objects.Kind][]objects.EventType{
	objects.KindDocument: {objects.ObjectUpdated, objects.ObjectRemoved},
	objects.KindList:     {objects.ObjectRemoved, objects.ContextUpdated, objects.ItemAdded, objects.ItemUpdated, objects.ItemRemoved},
	objects.KindMap:      {objects.ObjectRemoved, objects.ItemAdded, objects.ItemUpdated, objects.ItemRemoved},
	objects.KindStream:   {objects.ObjectRemoved, objects.MessagePublished},
}

func fullEvent(kind objects.Kind, t objects.EventType, id objects.EventID) objects.Event {
	e := objects.Event{Type: t, ID: id, At: 1_772_600_768_000, Object: fullObject(kind)}
	switch t {
	case objects.ItemAdded, objects.ItemUpdated, objects.ItemRemoved:
		e.Item = fullItem(kind)
	case objects.MessagePublished:
		e.Message = &objects.Message{SID: sidOf(objects.KindMessage), Data: []byte(`"hi"`)}
	}
	return e
}

// TestEveryEventTypeHasAGoldenFrame holds that no type is left out of the table
// above.
func TestEveryEventTypeHasAGoldenFrame(t *testing.T) {
	covered := map[objects.EventType]bool{}
	for _, types := range eventTypes {
		for _, e := range types {
			covered[e] = true
		}
	}
	for i, suffix := range suffixes {
		require.Equal(t, suffix != "", covered[objects.EventType(i)], "type %d, %q", i, suffix)
	}
}

func TestGoldenEvents(t *testing.T) {
	frames := map[string]string{}
	for name, v := range versions {
		for kind, types := range eventTypes {
			for _, e := range types {
				event := fullEvent(kind, e, 26)
				frame, _, _ := LiveEvent(v, testOrigin, &event)
				frames[fmt.Sprintf("live-%v%s-%s", kind, suffixes[e], name)] = string(frame)
			}
		}
		replayed := []objects.Event{
			fullEvent(objects.KindMap, objects.ItemAdded, 24), fullEvent(objects.KindMap, objects.ItemAdded, 25),
			fullEvent(objects.KindMap, objects.ItemRemoved, 26), fullEvent(objects.KindMap, objects.ItemAdded, 27),
		}
		frames["replay-"+name] = string(AppendEvents(nil, v, testOrigin, replayed, []byte("18446744073709551615")))
	}
	golden.CheckText(t, "testdata/golden/events", frames)
}

func TestGoldenSubscriptionAnswers(t *testing.T) {
	frames := map[string]string{}
	object := sidOf(objects.KindMap).String()
	correlation := []byte("-7")
	for name, v := range versions {
		frames["established-"+name] = string(AppendEstablished(nil, v, object, "map", correlation, 26))
		frames["established-anew-"+name] = string(AppendEstablished(nil, v, object, "map", nil, 26))
		frames["canceled-"+name] = string(AppendCanceled(nil, v, object, correlation))
		frames["failed-"+name] = string(AppendFailed(nil, v, object, correlation, objects.ErrNotFound))
		frames["ended-"+name] = string(AppendFailed(nil, v, object, nil, objects.ErrNotFound))
		frames["query-item-updated-"+name] = string(QueryItemUpdated(v, "QR7", fullItem(objects.KindMap), 27))
		frames["query-item-removed-"+name] = string(QueryItemRemoved(v, "QR7", fullItem(objects.KindMap), 27))
		result := []*objects.Item{fullItem(objects.KindMap), fullItem(objects.KindMap)}
		frames["query-result-"+name] = string(QueryResult(v, "QR7", result, 27))
		frames["query-empty-"+name] = string(QueryResult(v, "QR7", nil, 27))
	}
	golden.CheckText(t, "testdata/golden/subscriptions", frames)
}

// madeUp is the id of a message that the server begins, which is another each time.
var madeUp = regexp.MustCompile(`"(PI|CL|CU)[0-9a-f]{32}"`)

func TestGoldenMessages(t *testing.T) {
	welcome := Welcome{
		Continuation: "CT7", Reissued: true, StorageID: "7", Account: "AC7", Service: sidOf(objects.KindService), Identity: `a"n`,
	}
	frames := map[string][]byte{
		"reply":              Reply("TM1", 200, "OK"),
		"too-many":           TooMany("TM1", 1500*time.Millisecond),
		"answer":             Answer("TM1", 201, []byte(`{"a":1}`)),
		"answer-empty":       Answer("TM1", 204, nil),
		"answer-large":       Answer("TM1", 200, make([]byte, 1<<16)),
		"ping":               Ping(),
		"token-ends":         TokenAboutToExpire(),
		"goodbye":            AppendGoodbye(nil, 401, "UNAUTHORIZED", 0),
		"goodbye-later":      AppendGoodbye(nil, 308, "TOO_MANY_REQUESTS", 10*time.Second),
		"welcome":            welcome.Reply("TM1"),
		"rejected":           Rejection("TM1", objects.ErrTokenInvalid),
		"rejected-too-many":  Rejection("TM1", objects.ErrTooMany.After(30)),
		"rejected-unserved":  Rejection("TM1", objects.ErrUnavailable),
		"websocket-close":    AppendClose(nil, CloseServiceRestart),
		"websocket-pong":     Pong("data"),
		"query-items":        AppendQueryItems(nil, []*objects.Item{fullItem(objects.KindMap)}),
		"backoff-at-least-1": AppendBackoff([]byte("{"), 0),
	}
	kept := map[string]string{}
	for name, frame := range frames {
		if name == "answer-large" {
			frame = frame[:len(frame)-1<<16] // what stands in front
		}
		kept[name] = string(madeUp.ReplaceAll(frame, []byte(`"$1"`)))
	}
	golden.CheckText(t, "testdata/golden/messages", kept)
}
