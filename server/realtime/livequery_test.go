package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

// A fault while a result is loaded ends that live query: whoever waits for it
// hears so, and the node goes on.
func TestAFaultInLoadingEndsTheLiveQueryOnly(t *testing.T) {
	all := &queries{view: func() *fsm.View { panic("view") }}
	q := &liveQuery{queries: all}
	q.load()
	require.NoError(t, q.await(t.Context(), 1), "nobody waits for what is over")
	_, _, over := q.state(0)
	require.Equal(t, objects.ErrInternal, over)
}
