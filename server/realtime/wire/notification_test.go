package wire

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// Live events are told as those of a replay are, alone and together.
func TestLiveEventsAreWrittenAsReplayedOnes(t *testing.T) {
	for kind, types := range eventTypes {
		for _, e := range types {
			var all []objects.Event
			var parts [][]byte
			for id := objects.EventID(9); id < 12; id++ {
				event := fullEvent(kind, e, id)
				all = append(all, event)
				for _, v := range versions {
					frame, together, part := LiveEvent(v, testOrigin, &event)
					require.Equal(t, string(AppendEvents(nil, v, testOrigin, all[len(all)-1:], nil)), string(frame))
					require.Equal(t, v == Version4, together == kind.String()+suffixes[e])
					require.Equal(t, v == Version4, part != nil)
					if part != nil {
						parts = append(parts, part)
					}
				}
				got := AppendLiveEvents([]byte("before"), kind.String()+suffixes[e], parts)
				require.Equal(t, "before"+string(AppendEvents(nil, Version4, testOrigin, all, nil)), string(got))
			}
		}
	}
}

func TestEveryEventHasANameOrIsNotTold(t *testing.T) {
	notTold := map[objects.EventType]bool{
		objects.ObjectCreated: true, objects.PermissionChanged: true, // not by the hub
		objects.ListClosed:     true,                                                         // to readers of durable streams alone
		objects.ServiceChanged: true, objects.ServiceRemoved: true, objects.KeyRevoked: true, // sessions end for them
		objects.EndpointConnected: true, objects.EndpointDisconnected: true, // webhooks alone
	}
	for e := objects.ObjectCreated; e < objects.EventTypes; e++ {
		named := int(e) < len(suffixes) && suffixes[e] != ""
		require.NotEqual(t, named, notTold[e], "event type %d", e)
	}
}
