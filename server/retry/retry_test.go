package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/retry"
)

var errTest = errors.New("not yet")

func TestItTriesUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		require.NoError(t, retry.Until(t.Context(), func() error {
			at = append(at, time.Since(start))
			if len(at) < 20 {
				return errTest
			}
			return nil
		}))
		require.Zero(t, at[0], "at once at first")
		require.InDelta(t, 50, (at[1] - at[0]).Milliseconds(), 26)
		for i := 10; i < len(at); i++ {
			require.InDelta(t, 500, (at[i] - at[i-1]).Milliseconds(), 251, "no pause is longer")
		}
		pauses := make(map[time.Duration]bool)
		for i := 10; i < len(at); i++ {
			pauses[at[i]-at[i-1]] = true
		}
		require.Greater(t, len(pauses), 1, "left to chance")
	})
}

func TestFinalErrorIsReturnedAsItIs(t *testing.T) {
	tries := 0
	err := retry.Until(t.Context(), func() error {
		tries++
		return retry.Final(errTest)
	})
	require.Equal(t, errTest, err)
	require.Equal(t, 1, tries)
}

func TestWhenItEndsTheLastErrorIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		err := retry.Until(ctx, func() error { return errTest })
		require.Equal(t, time.Hour, time.Since(start), "and not before")
		require.ErrorIs(t, err, errTest)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "not yet (context deadline exceeded)")
	})
	cause := errors.New("no more")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	err := retry.Until(ctx, func() error { return errTest })
	require.ErrorIs(t, err, errTest)
	require.ErrorIs(t, err, cause)
	require.NoError(t, retry.Until(ctx, func() error { return nil }), "once it is tried in any case")
}
