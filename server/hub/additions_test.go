package hub_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/hub"
)

func TestReplayInPartsAddsEachItemOnce(t *testing.T) {
	told := func(id, added objects.EventID) []objects.Event {
		return []objects.Event{{Type: objects.ItemAdded, ID: id, Item: &objects.Item{EventID: id, Added: added}}}
	}
	var a hub.Additions
	first := told(5, 5)
	a.Correct(first, true)
	require.Equal(t, objects.ItemAdded, first[0].Type)
	changed := told(9, 5) // since, and it was added since the client knew the map
	a.Correct(changed, true)
	require.Equal(t, objects.ItemUpdated, changed[0].Type)
	other := told(10, 8)
	a.Correct(other, false)
	require.Equal(t, objects.ItemAdded, other[0].Type)
	next := told(11, 8) // in another replay, of a client that did not know it then
	a.Correct(next, false)
	require.Equal(t, objects.ItemAdded, next[0].Type)
}
