package budget_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/budget"
)

func TestNoOwnerTakesMoreThanItsShare(t *testing.T) {
	b := budget.New(100)
	s, other := b.Share(60), b.Share(80)
	require.True(t, s.Take("a", 60))
	require.False(t, s.Take("a", 1))
	require.True(t, s.Take("b", 20))
	require.False(t, other.Take("a", 21), "the node's")
	require.True(t, other.Take("a", 20))
	require.EqualValues(t, 100, b.Used())
	s.Return("a", 60)
	require.False(t, other.Take("a", 61), "its own")
	require.True(t, other.Take("a", 60))
}

func TestNegativeBoundIsUnlimited(t *testing.T) {
	s := budget.New(-1).Share(-1)
	require.True(t, s.Take("a", 1<<40))
	require.NoError(t, s.Room(t.Context(), "a"))
}

func TestRoomWaitsForReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := budget.New(100).Share(10)
		s.Charge("a", 30)
		require.NoError(t, s.Room(t.Context(), "b"))
		time.AfterFunc(time.Second, func() { s.Return("a", 10) })
		time.AfterFunc(2*time.Second, func() { s.Return("a", 10) })
		begin := time.Now()
		require.NoError(t, s.Room(t.Context(), "a"))
		require.Equal(t, 2*time.Second, time.Since(begin))

		s.Charge("a", 30)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, s.Room(ctx, "a"), context.DeadlineExceeded)
	})
}
