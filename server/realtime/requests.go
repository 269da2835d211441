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
	workers   *workers      // the server's
	answering chan struct{} // one slot: who is writing an answer

	stopped chan struct{} // closed by finish: no more are started

	limit int64         // of bytes
	freed chan struct{} // one slot: there are fewer bytes

	mu     sync.Mutex
	busy   time.Time          // when one was last started or answered
	bytes  int64              // of those under way
	closed bool               // stopped is
	last   map[orderKey]*turn // of the last request by key, until it is done; nil: there is none
	lanes  map[orderKey]*lane // of the writes under way, by object; likewise
}

func (q *requests) init(workers *workers, limit int, bytes int64) {
	q.workers = workers
	q.limit, q.freed = bytes, make(chan struct{}, 1)
	q.slots = make(chan struct{}, limit)
	q.answering = make(chan struct{}, 1)
	q.stopped = make(chan struct{})
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
// keys. If it has a lane, that of its first key, it only waits until the earlier ones
// of its lane are in line to be written. start waits for a slot, and reports false if
// the request is not run.
func (q *requests) start(ctx context.Context, t *turn, hasLane bool, run func()) bool {
	select {
	case q.slots <- struct{}{}:
	default:
		select {
		case q.slots <- struct{}{}:
		case <-q.stopped:
			return false
		case <-ctx.Done():
			return false
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		<-q.slots
		return false
	}
	q.enter(t, hasLane)
	q.busy = time.Now()
	q.running.Add(1)
	q.workers.run(func() {
		defer q.running.Done()
		t.await() // all that came earlier have started, and end by themselves
		run()
		q.leave(t)
		<-q.slots
	})
	return true
}

// enter is called with the lock held.
func (q *requests) enter(t *turn, hasLane bool) {
	t.of = q
	if hasLane {
		key := t.keys[0]
		l := q.lanes[key]
		if l == nil {
			l = &lane{key: key}
			if q.lanes == nil {
				q.lanes = make(map[orderKey]*lane)
			}
			q.lanes[key] = l
		}
		l.users++
		t.lane = l
	}
	if q.last == nil && len(t.keys) > 0 {
		q.last = make(map[orderKey]*turn)
	}
	for _, k := range t.keys {
		if e := q.last[k]; e != nil && e != t {
			t.earlier = append(t.earlier, e.before(t))
		}
		q.last[k] = t
	}
}

func (q *requests) leave(t *turn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range t.keys {
		if q.last[k] == t {
			delete(q.last, k)
		}
	}
	if l := t.lane; l != nil {
		t.entered()
		if l.users--; l.users == 0 {
			delete(q.lanes, l.key)
		}
	}
	q.busy = time.Now()
	t.earlier = nil
	if t.done != nil {
		close(t.done)
	}
}

// rest gives back what a client that asks for nothing does not need.
func (q *requests) rest() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.last) == 0 {
		q.last = nil
	}
	if len(q.lanes) == 0 {
		q.lanes = nil
	}
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
