package cond_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"lockstep/server/cond"
)

func TestWaitReturnsWhenTheConditionHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var c cond.Cond
		var value, returned int
		var waiters sync.WaitGroup
		for want := range 4 {
			waiters.Go(func() {
				require.NoError(t, c.Wait(t.Context(), &mu, func() bool { return value >= want }))
				mu.Lock()
				defer mu.Unlock()
				returned++
			})
		}
		for i := range 4 {
			mu.Lock()
			value = i
			c.Broadcast()
			mu.Unlock()
			synctest.Wait()
			require.Equal(t, i+1, returned)
		}
		waiters.Wait()
	})
}

func TestWaitEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var c cond.Cond
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Wait(ctx, &mu, func() bool { return false }) }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}
