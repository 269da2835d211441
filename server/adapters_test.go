package server

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/objects"
)

// A client that is refused because a queue is full knows that nothing was
// written, and when to come back. Of other failures nobody knows.
func TestFullQueueIsAnsweredAsSuch(t *testing.T) {
	var e *objects.Error
	require.ErrorAs(t, overloaded(fmt.Errorf("n1: %w", cluster.ErrOverloaded)), &e)
	require.Equal(t, 503, e.Status)
	require.Positive(t, e.RetryAfter)
	require.Contains(t, e.Message, "nothing was written")
	require.NoError(t, overloaded(nil))
	require.False(t, errors.As(overloaded(cluster.ErrNoLeader), &e))
}
