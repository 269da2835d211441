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
	busy   time.Time        // when one was last started or answered
	bytes  int64            // of those under way
	closed bool             // stopped is
	last   map[string]*turn // of the last request by key, until it is done; nil: there is none
	lanes  map[string]*lane // of the writes under way, by object; likewise
}

func (q *requests) init(limit int, bytes int64) {
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
// keys. A write in a lane only waits until the earlier ones of its lane are in line
// to be written. start waits for a slot, and reports false if the request is not
// run.
func (q *requests) start(ctx context.Context, keys []string, lane string, run func(*turn)) bool {
	select {
	case q.slots <- struct{}{}:
	case <-q.stopped:
		return false
	case <-ctx.Done():
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		<-q.slots
		return false
	}
	t := q.enter(keys, lane)
	q.busy = time.Now()
	q.running.Go(func() {
		t.await() // all that came earlier have started, and end by themselves
		run(t)
		q.leave(t)
		<-q.slots
	})
	return true
}

// enter is called with the lock held.
func (q *requests) enter(keys []string, name string) *turn {
	t := &turn{keys: keys, done: make(chan struct{})}
	if q.last == nil {
		q.last = make(map[string]*turn)
	}
	if name != "" {
		if q.lanes == nil {
			q.lanes = make(map[string]*lane)
		}
		if q.lanes[name] == nil {
			q.lanes[name] = &lane{name: name}
		}
		t.lane, t.inLine = q.lanes[name], make(chan struct{})
		t.lane.users++
	}
	for _, k := range keys {
		if e := q.last[k]; e != nil && e != t {
			t.earlier = append(t.earlier, e)
		}
		q.last[k] = t
	}
	return t
}

func (q *requests) leave(t *turn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range t.keys {
		if q.last[k] == t {
			delete(q.last, k)
		}
	}
	if t.lane != nil {
		t.enterLine()
		if t.lane.users--; t.lane.users == 0 {
			delete(q.lanes, t.lane.name)
		}
	}
	// An idle client keeps neither.
	if len(q.last) == 0 {
		q.last = nil
	}
	if len(q.lanes) == 0 {
		q.lanes = nil
	}
	q.busy = time.Now()
	t.earlier = nil
	close(t.done)
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
