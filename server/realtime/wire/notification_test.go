package wire

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

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
