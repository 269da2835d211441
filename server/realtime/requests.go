package realtime

import (
	"context"
	"sync"
	"time"
)

// requests are those of one session that are under way.
type requests struct {
	slots     chan struct{}
	running   sync.WaitGroup
	answering chan struct{} // one slot: who is writing an answer

	stopped chan struct{} // closed by finish: no more are started

	limit int64         // of bytes
	freed chan struct{} // one slot: there are fewer bytes

	mu     sync.Mutex
	busy   time.Time                // when one was last started or answered
	bytes  int64                    // of those under way
	closed bool                     // stopped is
	last   map[string]chan struct{} // by key, closed when the last request is done
}

func (q *requests) init(limit int, bytes int64) {
	q.limit, q.freed = bytes, make(chan struct{}, 1)
	q.slots = make(chan struct{}, limit)
	q.answering = make(chan struct{}, 1)
	q.stopped = make(chan struct{})
	q.last = make(map[string]chan struct{})
}

// reserve waits until the requests under way leave room for one of this size.
// Only the session's reader calls it.
func (q *requests) reserve(ctx context.Context, size int) error {
	for {
		q.mu.Lock()
		fits := q.bytes == 0 || q.bytes+int64(size) <= q.limit
		if fits {
			q.bytes += int64(size)
		}
		q.mu.Unlock()
		if fits {
			return nil
		}
		select {
		case <-q.freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *requests) release(size int) {
	q.mu.Lock()
	q.bytes -= int64(size)
	q.mu.Unlock()
	select {
	case q.freed <- struct{}{}:
	default:
	}
}

// start runs a request behind those that were started earlier with one of its
// keys. It waits for a slot, and reports false if the request is not run.
func (q *requests) start(ctx context.Context, keys []string, run func()) bool {
	select {
	case q.slots <- struct{}{}:
	case <-q.stopped:
		return false
	case <-ctx.Done():
		return false
	}
	done := make(chan struct{})
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		<-q.slots
		return false
	}
	earlier := q.enter(keys, done)
	q.busy = time.Now()
	q.running.Go(func() {
		for _, e := range earlier {
			<-e // all that came earlier have started, and end by themselves
		}
		run()
		q.leave(keys, done)
		<-q.slots
	})
	return true
}

// enter is called with the lock held.
func (q *requests) enter(keys []string, done chan struct{}) (earlier []chan struct{}) {
	for _, k := range keys {
		if e, ok := q.last[k]; ok && e != done {
			earlier = append(earlier, e)
		}
		q.last[k] = done
	}
	return earlier
}

func (q *requests) leave(keys []string, done chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range keys {
		if q.last[k] == done {
			delete(q.last, k)
		}
	}
	q.busy = time.Now()
	close(done)
}

func (q *requests) wait() { q.running.Wait() }

// idle waits until the client has asked for nothing for some time, and nothing is
// under way.
func (q *requests) idle(ctx context.Context, quiet time.Duration) {
	for {
		q.mu.Lock()
		left := quiet - time.Since(q.busy)
		if len(q.slots) > 0 {
			left = quiet
		}
		q.mu.Unlock()
		if left <= 0 {
			return
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
}

// finish lets no more requests start, and waits for those under way, as long as
// the context allows. It is called once.
func (q *requests) finish(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	close(q.stopped)
	q.mu.Unlock()
	for range cap(q.slots) {
		select {
		case q.slots <- struct{}{}: // nobody holds this one any more
		case <-ctx.Done():
			return
		}
	}
}
