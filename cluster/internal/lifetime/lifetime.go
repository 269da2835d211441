// Package lifetime is the time during which a node runs: its context, and the
// goroutines that end with it.
package lifetime

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrClosed: the node was closed.
var ErrClosed = errors.New("cluster: node closed")

const (
	// RequestTimeout bounds a request whose context has no deadline.
	RequestTimeout = 30 * time.Second
	// RetryPause is the mean pause before an attempt is repeated although nothing
	// has changed.
	RetryPause = 20 * time.Millisecond
)

// Lifetime is that of one node.
type Lifetime struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	ended   bool
	futures sync.WaitGroup // goroutines that wait for raft: they end before raft does
	work    sync.WaitGroup // all others
}

// New begins a lifetime.
func New() *Lifetime {
	l := new(Lifetime)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Context returns the context that ends when End is called.
func (l *Lifetime) Context() context.Context { return l.ctx }

// Ended reports whether End was called.
func (l *Lifetime) Ended() bool { return l.ctx.Err() != nil }

// Go runs f as part of the lifetime, or returns ErrClosed after its end. Wait
// waits for it.
func (l *Lifetime) Go(f func()) error { return l.run(&l.work, f) }

// GoOnRaft is Go for what waits for raft's answers. WaitForRaft waits for it.
func (l *Lifetime) GoOnRaft(f func()) error { return l.run(&l.futures, f) }

func (l *Lifetime) run(group *sync.WaitGroup, f func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return ErrClosed
	}
	group.Go(f)
	return nil
}

// End ends the context; nothing more is run.
func (l *Lifetime) End() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.cancel()
}

// WaitForRaft waits, after End, until nobody waits for raft any more.
func (l *Lifetime) WaitForRaft() { l.futures.Wait() }

// Wait waits, after End, for all that Go has run.
func (l *Lifetime) Wait() { l.work.Wait() }

// Await waits for one of raft's futures, which know no context. If ctx ends
// first, the lifetime goes on waiting for it.
func (l *Lifetime) Await(ctx context.Context, future raft.Future) error {
	return l.Ask(ctx, func() raft.Future { return future })
}

// Ask is Await for what may have to wait before there is a future.
func (l *Lifetime) Ask(ctx context.Context, raft func() raft.Future) error {
	done := make(chan error, 1)
	if err := l.GoOnRaft(func() { done <- raft().Error() }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pause waits for d or the end of ctx.
func Pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Jitter returns a duration between half and one and a half of d.
func Jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// Bounded returns a context that has a deadline: its own, or RequestTimeout.
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, RequestTimeout)
}

// Until returns a context that ends, too, when done is closed. The function it
// returns must be called; it waits for the goroutine that watches done.
func Until(ctx context.Context, done <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel()
		watcher.Wait()
	}
}
