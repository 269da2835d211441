// Package fsm is the deterministic store: a log of commands goes in; results
// for those who asked, and events for those who subscribed, come out. It keeps
// what replay needs (items by last event id, tombstones), the dedup window that
// makes a retried write happen once, the expiry index, and the webhook outbox,
// and writes and reads snapshots of all of it.
//
// Applying knows no clock, no randomness, no I/O and no map order: time and ids
// travel in the commands, and the same log gives the same bytes on every node.
//
// All methods named by raft.FSM run on raft's own apply goroutine; everything
// else may be called from anywhere. The package starts no goroutine but those that
// read a snapshot together, which end with that. Readers take the published View and
// need no lock.
package fsm

import (
	"container/heap"
	"context"
	"reflect"
	"sync"
	"sync/atomic"

	"lockstep/objects"
)

// Config sets up an FSM.
type Config struct {
	// Applied is told the results of every batch, on the apply goroutine, after
	// the view that contains them is published and before their events are in
	// the feed. It must not block. It may be nil.
	Applied func([]Applied)

	// FeedLength and FeedBytes are how many batches the feed holds for slow
	// followers, and how much memory they may keep. Defaults 4096 and 64 MiB.
	FeedLength int
	FeedBytes  int64
}

// Applied is one command's outcome.
type Applied struct {
	ID     CommandID
	Result *Result
}

// FSM is the store. It implements raft.BatchingFSM.
type FSM struct {
	config  Config
	feed    *Feed
	dedup   *dedup
	digests digests

	applying sync.Mutex // held by the apply goroutine between two published views, and by Capture
	work     *View      // the version that apply writes to

	published atomic.Pointer[View]

	mu      sync.Mutex
	waiting waiters // for the published index
}

// New makes an empty store.
func New(config Config) *FSM {
	if config.Applied == nil {
		config.Applied = func([]Applied) {}
	}
	if config.FeedLength <= 0 {
		config.FeedLength = defaultFeedLength
	}
	if config.FeedBytes <= 0 {
		config.FeedBytes = defaultFeedBytes
	}
	f := &FSM{config: config, feed: newFeed(config.FeedLength, config.FeedBytes), dedup: newDedup(), work: newView()}
	f.published.Store(f.work.publish())
	return f
}

// View returns the latest published version of the state.
func (f *FSM) View() *View { return f.published.Load() }

// Feed returns the applied events, for followers.
func (f *FSM) Feed() *Feed { return f.feed }

// Windows returns the sizes of the dedup windows.
func (f *FSM) Windows() []WindowStats { return f.dedup.stats() }

// Lookup finds the result of a command in the dedup window. A node whose store
// came by snapshot learns there what happened to a command it is waiting for.
func (f *FSM) Lookup(id CommandID) (*Result, bool) { return f.dedup.lookup(id) }

// Wait returns a view that contains the log up to index, as soon as there is one.
func (f *FSM) Wait(ctx context.Context, index uint64) (*View, error) {
	if v := f.View(); v.Index() >= index {
		return v, nil
	}
	w := &waiter{index: index, done: make(chan struct{})}
	f.mu.Lock()
	if v := f.View(); v.Index() >= index {
		f.mu.Unlock()
		return v, nil
	}
	heap.Push(&f.waiting, w)
	f.mu.Unlock()
	select {
	case <-w.done:
		return f.View(), nil
	case <-ctx.Done():
		f.mu.Lock()
		f.waiting.remove(w)
		f.mu.Unlock()
		return nil, ctx.Err()
	}
}

// publish makes the working version the one that readers see.
func (f *FSM) publish() {
	v := f.work.publish()
	f.published.Store(v)
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.waiting) > 0 && f.waiting[0].index <= v.Index() {
		close(heap.Pop(&f.waiting).(*waiter).done)
	}
}

// apply decides one command against the working version.
func (f *FSM) apply(tx *tx) Result {
	once := rows[reflect.TypeOf(tx.command.Op)].once
	service := uint64(0)
	if once {
		service = tx.view.serviceNumber(tx.command)
		if known, refused := f.dedup.check(tx.command, service); refused != nil {
			return refuse(refused)
		} else if known != nil {
			known.Repeated = true
			return *known
		}
	}
	r := tx.command.Op.apply(tx)
	r.Index = tx.view.Index()
	if once && worthRemembering(tx.command, r.Err) {
		tx.results = tx.results.bytes(f.dedup.remember(tx.command, service, tx.view.Time(), r))
	}
	return r
}

// serviceNumber returns the number of the service among whose keys a command's
// one is; 0 for none.
func (v *View) serviceNumber(c *Command) uint64 {
	if !c.ClientChosen {
		return 0
	}
	num, _ := v.resolve(0, objects.KindService, Ref{SID: c.Service})
	return num
}

// worthRemembering leaves out refusals that a client may mend and send again
// under the same key. A client never sends a command without a key again: a
// second copy of it is the node's own retry, and its caller may have been told
// the first answer already.
func worthRemembering(c *Command, err *objects.Error) bool {
	if !c.ClientChosen || err == nil {
		return true
	}
	return err.Status == 404 || err.Status == 409 || err.Status == 412
}

// tx is one command being applied: the working view, and the events and results so far.
type tx struct {
	view    *View
	command *Command
	events  []Event
	results hash64 // of those that are remembered
}

func (tx *tx) now() int64 { return tx.view.Time() }

func (tx *tx) nextNum() uint64 {
	tx.view.meta.NextNum++
	return tx.view.meta.NextNum
}

// emit tells an event to subscribers and webhooks.
func (tx *tx) emit(e objects.Event) {
	e.At = tx.now()
	if e.Identity == "" {
		e.Identity = tx.command.Actor.name()
	}
	switch tx.command.Op.(type) {
	case *Import:
		e.Imported = true
	case *expire, *CloseLease:
		e.Ended = true
	}
	if e.Service != nil && !e.Imported {
		tx.enqueueWebhook(e)
	}
	tx.events = append(tx.events, Event{Event: e, Origin: tx.command.ID})
}

// service finds the service that the command is for.
func (tx *tx) service() (*objects.Service, *objects.Error) {
	s, ok := tx.view.Service(Ref{SID: tx.command.Service})
	if !ok {
		return nil, objects.ErrServiceGone
	}
	return s, nil
}

// object finds the command's object and checks the actor's rights on it.
func (tx *tx) object(kind objects.Kind, ref Ref, want objects.Rights) (*objects.Service, *storedObject, *objects.Error) {
	return tx.view.find(tx.command.Actor, Ref{SID: tx.command.Service}, kind, ref, want)
}

// waiters is a heap by index.
type waiters []*waiter

type waiter struct {
	index uint64
	done  chan struct{}
	place int
}

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].index < w[j].index }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].place, w[j].place = i, j
}

// Push implements heap.Interface.
func (w *waiters) Push(x any) {
	x.(*waiter).place = len(*w)
	*w = append(*w, x.(*waiter))
}

// Pop implements heap.Interface.
func (w *waiters) Pop() any {
	last := len(*w) - 1
	x := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return x
}

func (w *waiters) remove(x *waiter) {
	if x.place < len(*w) && (*w)[x.place] == x {
		heap.Remove(w, x.place)
	}
}
