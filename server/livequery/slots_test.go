package livequery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// order lets some wait for the only slot, which is taken, and returns who gets it
// one after the other.
func order(t *testing.T, wait func(s *slots, enter func(line lineID, key, name string) (cancel func()))) (got []string) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, time.Millisecond)
		first, err := s.enter(t.Context(), changes, "first")
		require.NoError(t, err)
		names := make(chan string, 100)
		wait(s, func(line lineID, key, name string) func() {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				turn, err := s.enter(ctx, line, key)
				defer turn.leave()
				if err == nil {
					names <- name
				}
			}()
			synctest.Wait()
			return func() { cancel(); synctest.Wait() }
		})
		first.leave()
		synctest.Wait()
		close(names)
		for name := range names {
			got = append(got, name)
		}
		require.Equal(t, 1, s.free)
		for _, l := range s.lines {
			require.Empty(t, l.keys)
			require.Empty(t, l.waiting)
		}
	})
	return got
}

func TestKeysTakeTurns(t *testing.T) {
	require.Equal(t, []string{"a1", "b1", "c1", "a2", "b2", "a3", "a4"}, order(t, func(_ *slots, enter func(lineID, string, string) func()) {
		for _, name := range []string{"a1", "a2", "a3", "a4", "b1", "b2", "c1"} {
			enter(scans, name[:1], name)
		}
	}))
}

func TestLinesTakeTurns(t *testing.T) {
	require.Equal(t, []string{"scan1", "change1", "scan2", "change2", "scan3", "scan4"}, order(t, func(_ *slots, enter func(lineID, string, string) func()) {
		for _, name := range []string{"scan1", "scan2", "scan3", "scan4"} {
			enter(scans, name, name)
		}
		enter(changes, "x", "change1")
		enter(changes, "y", "change2")
	}))
}

func TestCancelledWaiterTakesNoTurn(t *testing.T) {
	require.Equal(t, []string{"a2", "c1"}, order(t, func(_ *slots, enter func(lineID, string, string) func()) {
		giveUp := []func(){enter(scans, "a", "a1"), enter(scans, "b", "b1")}
		enter(scans, "a", "a2")
		enter(scans, "c", "c1")
		for _, f := range giveUp {
			f()
		}
	}))
}

func TestSliceEndsWhenOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, 2*time.Millisecond)
		mine, err := s.enter(t.Context(), scans, "mine")
		require.NoError(t, err)
		defer mine.leave()
		rounds := func() {
			for range 10 * clockCalls {
				require.NoError(t, mine.next(t.Context()))
			}
		}
		time.Sleep(time.Second)
		rounds() // nobody waits

		served := false
		go func() {
			theirs, err := s.enter(t.Context(), scans, "theirs")
			if assert.NoError(t, err) {
				defer theirs.leave()
				served = true
			}
		}()
		synctest.Wait()
		rounds()
		require.False(t, served, "the slice has just begun")
		time.Sleep(3 * time.Millisecond)
		rounds()
		require.True(t, served)
		require.True(t, mine.held)
	})
}

func TestTurnEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, -1)
		mine, err := s.enter(t.Context(), scans, "mine")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for err == nil {
			err = mine.next(ctx)
		}
		require.ErrorIs(t, err, context.Canceled)
		mine.leave()
		mine.leave()
		require.Equal(t, 1, s.free)
	})
}
