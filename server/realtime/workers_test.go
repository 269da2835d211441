package realtime

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func inWorkers(t *testing.T, test func(t *testing.T, w *workers)) {
	synctest.Test(t, func(t *testing.T) {
		var running sync.WaitGroup
		w := new(workers)
		w.init(&running)
		test(t, w)
		w.close()
		running.Wait()
	})
}

// idleNow returns how many workers wait.
func (w *workers) idleNow() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.idle)
}

func TestWorkerServesOneTaskAfterAnother(t *testing.T) {
	inWorkers(t, func(t *testing.T, w *workers) {
		ran := 0
		for range 100 {
			w.run(func() { ran++ })
			synctest.Wait()
			require.Equal(t, 1, w.idleNow())
		}
		require.Equal(t, 100, ran)
	})
}

func TestNoTaskWaitsForAnother(t *testing.T) {
	inWorkers(t, func(t *testing.T, w *workers) {
		for range 2 { // with new goroutines, and with those that wait
			begun, end := 0, make(chan struct{})
			var mu sync.Mutex
			for range idleWorkers + 10 {
				w.run(func() {
					mu.Lock()
					begun++
					mu.Unlock()
					<-end
				})
			}
			synctest.Wait()
			require.Equal(t, idleWorkers+10, begun)
			close(end)
			synctest.Wait()
			require.Equal(t, idleWorkers, w.idleNow(), "no more are kept")
		}
	})
}

func TestWorkersEndThatAreNotNeeded(t *testing.T) {
	inWorkers(t, func(t *testing.T, w *workers) {
		end := make(chan struct{})
		for range 50 {
			w.run(func() { <-end })
		}
		close(end)
		synctest.Wait()
		require.Equal(t, 50, w.idleNow())
		for range 4 * workerLook / (workerLook / 10) { // one request after another
			w.run(func() {})
			time.Sleep(workerLook / 10)
		}
		require.Equal(t, 1, w.idleNow(), "one is enough for that")
		time.Sleep(3 * workerLook)
		require.Zero(t, w.idleNow())
	})
}

func TestClosedWorkersEndWithTheirTasks(t *testing.T) {
	inWorkers(t, func(t *testing.T, w *workers) {
		end := make(chan struct{})
		ran := false
		w.run(func() { <-end; ran = true })
		w.run(func() {})
		synctest.Wait()
		w.close()
		close(end)
		w.running.Wait()
		require.True(t, ran)
		require.Zero(t, w.idleNow())
	})
}
