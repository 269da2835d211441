package realtime

import (
	"encoding/json"

	"lockstep/objects"
	"lockstep/server/hub"
)

// The two forms of notifications (protocol versions, part 2). Which one a
// client reads it says with every subscription, and it concerns all that the
// subscription brings: answers, replay, live events, live queries.
const (
	oneEvent   hub.Form = iota // version 3: one event each, as the member "event"
	manyEvents                 // version 4: one or more of one type, as the member "events"
)

// parseForm reads the event_protocol_version of a request. Every client sends
// one; a request without it gets the present form.
func parseForm(version json.RawMessage) (hub.Form, error) {
	switch string(version) {
	case "3":
		return oneEvent, nil
	case "4", "", "null":
		return manyEvents, nil
	}
	return 0, objects.ErrParameter.With("event_protocol_version must be 3 or 4: other forms of events are not served")
}

// beginEvents appends what stands in front of a notification's first event,
// and endEvents what stands behind its last. members, which may be nil, are
// more members of the payload, each with a comma in front.
func beginEvents(b []byte, form hub.Form, eventType string, members []byte) []byte {
	b = append(b, `{"event_type":"`...)
	b = append(b, eventType...)
	if form == oneEvent {
		b = append(b, `","event_protocol_version":3`...)
		b = append(b, members...)
		return append(b, `,"event":`...)
	}
	b = append(b, `","event_protocol_version":4`...)
	b = append(b, members...)
	return append(b, `,"events":[`...)
}

func endEvents(b []byte, form hub.Form) []byte {
	if form == oneEvent {
		return append(b, '}')
	}
	return append(b, "]}"...)
}
