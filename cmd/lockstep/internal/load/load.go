// Package load puts a measured load on a cluster: clients that write and read in a
// closed loop, and subscribers that hear what is published. `lockstep bench` has it
// done to a user's cluster, and test/bench to this product and its peers, whose
// adaptors use the same loop, meter and connections.
//
// The connections are lean ones of its own, since whoever measures shares the
// machine with what is measured: they keep a few hundred bytes and allocate next to
// nothing an operation.
//
// Every function that starts goroutines returns when they have ended, except
// Connect and Subscribe: what they return has to be closed.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Client does one operation after another, and is used by one goroutine.
type Client interface {
	Do(ctx context.Context, n int) error
	Close() error
}

// Loop is a closed loop: each client does one operation after another, and
// begins the next one when the one before is answered.
type Loop struct {
	Clients       int
	Warm, Measure time.Duration // not counted, then counted
	Connect       func(ctx context.Context, client int) (Client, error)

	Began, Ended func()        // when counting begins and ends; may be nil
	Progress     *atomic.Int64 // grows with every operation; may be nil
}

// Result is what was measured.
type Result struct {
	Operations int64         // done, with an answer that is a success
	Limited    int64         // refused by a rate limit
	Failed     int64         // for any other reason
	FirstError string        // of those that failed
	Elapsed    time.Duration // in which that happened
	Latency    Latency       // of those done
}

// PerSecond returns how many operations were done in a second.
func (r Result) PerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Operations) / r.Elapsed.Seconds()
}

// Refused is an answer that is not a success.
type Refused struct {
	Status  int
	Message string
}

func (r Refused) Error() string { return fmt.Sprintf("status %d: %.200s", r.Status, r.Message) }

// limited reports whether an error is that of a rate limit.
func limited(err error) bool {
	r, ok := errors.AsType[Refused](err)
	return ok && r.Status == 429
}

// How long a client waits that was refused, or failed, so that what is measured
// afterwards is not the haste of those that are turned away.
const (
	limitedPause = 100 * time.Millisecond
	failedPause  = 5 * time.Millisecond
)

// Run connects the clients, warms up, measures, and closes the clients. When ctx
// ends before, it returns what was measured until then, and the context's error.
func (l Loop) Run(ctx context.Context) (result Result, err error) {
	clients, err := l.connect(ctx)
	defer func() { err = errors.Join(err, closeAll(clients)) }()
	if err != nil {
		return Result{}, err
	}
	var t tally
	var running sync.WaitGroup
	for i, c := range clients {
		running.Go(func() {
			for n := i * stride; ctx.Err() == nil && !t.over.Load(); n++ {
				begin := time.Now()
				err := c.Do(ctx, n)
				pause := t.note(err, time.Since(begin))
				if l.Progress != nil {
					l.Progress.Add(1)
				}
				sleep(ctx, pause)
			}
		})
	}
	sleep(ctx, l.Warm)
	call(l.Began)
	t.counting.Store(true)
	begin := time.Now()
	sleep(ctx, l.Measure)
	t.over.Store(true)
	elapsed := time.Since(begin)
	t.counting.Store(false)
	call(l.Ended)
	running.Wait()
	return t.result(elapsed), ctx.Err()
}

// stride keeps the operations of clients apart: it is prime to the usual numbers
// of objects, so that clients come by the same ones at different times.
const stride = 7919

func (l Loop) connect(ctx context.Context) ([]Client, error) {
	var mu sync.Mutex
	clients := make([]Client, 0, l.Clients)
	err := Parallel(ctx, 32, l.Clients, func(ctx context.Context, i int) error {
		c, err := l.Connect(ctx, i)
		if err != nil {
			return fmt.Errorf("connect client %d: %w", i, err)
		}
		mu.Lock()
		clients = append(clients, c)
		mu.Unlock()
		return nil
	})
	return clients, err
}

func closeAll(clients []Client) error {
	var errs []error
	for _, c := range clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Parallel does f for 0 to n-1 with so many workers, until one fails.
func Parallel(ctx context.Context, workers, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(workers, n) {
		running.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// tally is what all clients of a loop count together.
type tally struct {
	counting, over atomic.Bool
	done, refused  atomic.Int64
	failed         atomic.Int64
	latency        Histogram
	first          sync.Once
	firstError     string
}

// note counts an operation, and returns how long its client waits.
func (t *tally) note(err error, took time.Duration) (pause time.Duration) {
	switch counting := t.counting.Load(); {
	case err == nil:
		if counting {
			t.done.Add(1)
			t.latency.Add(took)
		}
		return 0
	case limited(err):
		if counting {
			t.refused.Add(1)
		}
		return limitedPause
	default:
		t.first.Do(func() { t.firstError = err.Error() })
		if counting {
			t.failed.Add(1)
		}
		return failedPause
	}
}

func (t *tally) result(elapsed time.Duration) Result {
	return Result{
		Operations: t.done.Load(), Limited: t.refused.Load(), Failed: t.failed.Load(), FirstError: t.firstError,
		Elapsed: elapsed, Latency: t.latency.Summary(),
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func call(f func()) {
	if f != nil {
		f()
	}
}
