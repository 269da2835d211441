package wire

import (
	"encoding/json"

	"lockstep/objects"
)

// Version is one of the two forms of notifications (protocol versions, part 2).
// Which one a client reads it says with every subscription, and it concerns all
// that the subscription brings: answers, replay, live events, live queries.
type Version uint8

// The versions of the event protocol that are served.
const (
	Version3 Version = iota // one event each, as the member "event"
	Version4                // one or more of one type, as the member "events"
)

// ParseVersion reads the event_protocol_version of a request. Every client sends
// one; a request without it gets the present form.
func ParseVersion(version json.RawMessage) (Version, error) {
	switch string(version) {
	case "3":
		return Version3, nil
	case "4", "", "null":
		return Version4, nil
	}
	return 0, objects.ErrParameter.With("event_protocol_version must be 3 or 4: other forms of events are not served")
}

// beginEvents appends what stands in front of a notification's first event,
// and endEvents what stands behind its last. members, which may be nil, are
// more members of the payload, each with a comma in front.
func beginEvents(b []byte, version Version, eventType string, members []byte) []byte {
	b = append(b, `{"event_type":"`...)
	b = append(b, eventType...)
	if version == Version3 {
		b = append(b, `","event_protocol_version":3`...)
		b = append(b, members...)
		return append(b, `,"event":`...)
	}
	b = append(b, `","event_protocol_version":4`...)
	b = append(b, members...)
	return append(b, `,"events":[`...)
}

func endEvents(b []byte, version Version) []byte {
	if version == Version3 {
		return append(b, '}')
	}
	return append(b, "]}"...)
}
