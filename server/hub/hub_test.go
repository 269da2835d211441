package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frames are lines: "3 k=v" for an event with its item, "established 3",
// "ended 404", and whatever a test pushes.
func line(e *objects.Event, _ hub.Form) hub.Frame {
	b, kind := lineOf(e), "changed"
	if e.Type == objects.ItemRemoved {
		kind = "removed"
	}
	return hub.Frame{Bytes: b, Part: &hub.Part{Kind: kind, Event: b}}
}

// together makes one frame of lines.
func together(b []byte, _ string, events [][]byte) []byte {
	return append(b, slices.Concat(events...)...)
}

func lineOf(e *objects.Event) []byte {
	switch e.Type {
	case objects.ItemRemoved:
		return fmt.Appendf(nil, "%d -%s\n", e.ID, e.Item.Key)
	case objects.ItemAdded, objects.ItemUpdated:
		return fmt.Appendf(nil, "%d %s=%s\n", e.ID, e.Item.Key, e.Item.Data)
	case objects.MessagePublished:
		return fmt.Appendf(nil, "message %s\n", e.Message.Data)
	case objects.ObjectRemoved:
		return fmt.Appendf(nil, "%d removed\n", e.ID)
	}
	return fmt.Appendf(nil, "%d %s\n", e.ID, e.Object.Data)
}

// source replays an object in lines.
type source struct {
	queue    *queue
	actor    fsm.Actor
	object   objects.SID
	form     hub.Form
	chunk    int
	replayed func() // called before every replay, if set
}

func (s *source) Form() hub.Form { return s.form }

func (s *source) Check(view *fsm.View) *objects.Error {
	o, ok := view.ObjectBySID(s.object)
	if !ok {
		return objects.ErrGone(s.object.Kind())
	}
	service, _ := view.ServiceOf(o)
	if !view.May(s.actor, service, o, objects.Read) {
		return objects.ErrForbidden
	}
	return nil
}

func (s *source) Replay(b []byte, view *fsm.View, known, after, until objects.EventID) ([]byte, objects.EventID, bool, *objects.Error) {
	if s.replayed != nil {
		s.replayed()
	}
	if why := s.Check(view); why != nil {
		return b, after, false, why
	}
	o, _ := view.ObjectBySID(s.object)
	if o.Kind() == objects.KindStream {
		return b, after, false, nil
	}
	events, refused := view.Replay(o, known, after, s.chunk)
	for i := range events {
		if until != 0 && events[i].ID > until {
			return b, until, true, nil
		}
		if !s.queue.Suppressed(&events[i]) {
			b = append(b, lineOf(&events[i])...)
		}
		after = events[i].ID
	}
	if len(events) < s.chunk && refused == nil && until != 0 && o.EventID > until {
		return b, until, true, nil
	}
	if len(events) < s.chunk && refused == nil {
		return b, o.EventID, false, nil
	}
	return b, after, true, refused
}

func (s *source) Established(b []byte, at objects.EventID) []byte {
	return fmt.Appendf(b, "established %d\n", at)
}

func (s *source) Ended(b []byte, why *objects.Error) []byte {
	return fmt.Appendf(b, "ended %d\n", why.Status)
}

// world is a store with a hub that follows it.
type world struct {
	*testing.T
	node    *fsmtest.Node
	hub     *hub.Hub
	behind  prometheus.Counter
	dropped prometheus.Counter
}

func newWorld(t *testing.T, c hub.Config) *world {
	w := &world{T: t, node: fsmtest.New(nil)}
	w.behind = prometheus.NewCounter(prometheus.CounterOpts{Name: "behind"})
	w.dropped = prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"})
	if c.Join == nil {
		c.Join = together
	}
	c.Feed, c.View, c.Encode, c.Behind, c.Dropped = w.node.FSM().Feed(), w.node.View, line, w.behind, w.dropped
	w.hub = hub.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return w
}

func (w *world) create(kind objects.Kind) objects.SID {
	sid := objects.NewSID(kind, commandid.New())
	w.node.Must(&fsm.CreateObject{SID: sid, Data: []byte(`0`)})
	return sid
}

func put(object objects.SID, key, data string) *fsm.WriteItem {
	return &fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{SID: object}, Item: fsm.ItemKey{Key: key}, Mode: fsm.PutItem, Data: []byte(data)}
}

func remove(object objects.SID, key string) *fsm.RemoveItem {
	return &fsm.RemoveItem{Kind: objects.KindMap, Object: fsm.Ref{SID: object}, Item: fsm.ItemKey{Key: key}}
}

func publish(stream objects.SID, data string) *fsm.Publish {
	return &fsm.Publish{Stream: fsm.Ref{SID: stream}, SID: objects.NewSID(objects.KindMessage, commandid.New()), Data: []byte(data)}
}

// settle waits until the hub has told all that was applied.
func (w *world) settle() {
	w.Helper()
	q := newQueue(w.hub, "probe")
	stream := w.create(objects.KindStream)
	s := q.SubscribeObject(stream, &source{queue: q, object: stream})
	s.Start(0)
	w.expect(q, "established 0")
	defer q.UnsubscribeAll()
	// Right after the state was replaced, the hub may skip what is applied: again.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		w.node.Must(publish(stream, "probe"))
		select {
		case <-q.Wake():
			if b, _ := q.Fill(nil, 1<<20); len(b) > 0 {
				return
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
	require.FailNow(w, "the hub tells nothing")
}

// queue is a queue with a channel that signals when it may have something to write.
type queue struct {
	*hub.Queue
	woken  chan struct{} // one slot
	urgent atomic.Uint32 // a bit for each hub.Urgency that it was woken with
}

// urgency returns the highest urgency that it was woken with since the last call.
func (q *queue) urgency() hub.Urgency { return hub.Urgency(max(0, bits.Len32(q.urgent.Swap(0))-1)) }

func newQueue(h *hub.Hub, identity string) *queue {
	q := &queue{woken: make(chan struct{}, 1)}
	q.Queue = h.NewQueue(identity, func(u hub.Urgency) {
		q.urgent.Or(1 << u)
		select {
		case q.woken <- struct{}{}:
		default:
		}
	})
	return q
}

func (q *queue) Wake() <-chan struct{} { return q.woken }

// read fills until there is nothing more for a moment that settle defines.
func read(q *queue) []string {
	b, _ := q.Fill(nil, 1<<20)
	return lines(b)
}

func lines(b []byte) []string {
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// expect reads until exactly these lines have come.
func (w *world) expect(q *queue, want ...string) {
	w.Helper()
	var got []byte
	deadline := time.After(5 * time.Second)
	for {
		got, _ = q.Fill(got, 1<<20)
		if have := lines(got); len(have) >= len(want) && len(got) > 0 {
			require.Equal(w, want, have)
			return
		}
		select {
		case <-q.Wake():
		case <-deadline:
			require.Equal(w, want, lines(got), "in time")
			return
		}
	}
}

func (w *world) subscribe(q *queue, object objects.SID) (*hub.Subscription, *source) {
	src := &source{queue: q, object: object, chunk: 3, actor: fsm.Actor{Identity: q.Identity(), Token: true}}
	return q.SubscribeObject(object, src), src
}

func TestSubscriptionReplaysThenIsEstablishedThenLive(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	for i := range 7 {
		w.node.Must(put(m, fmt.Sprint("k", i), "1"))
	}
	q := newQueue(w.hub, "alice")
	s, _ := w.subscribe(q, m)
	q.Push([]byte("answer\n"))
	w.node.Must(put(m, "meanwhile", "1"))
	w.settle()
	require.Equal(t, []string{"answer"}, read(q), "silent until it starts")
	s.Start(2)
	w.expect(q, "3 k2=1", "4 k3=1", "5 k4=1", "6 k5=1", "7 k6=1", "8 meanwhile=1", "established 8")
	w.node.Must(put(m, "k0", "2"))
	w.node.Must(remove(m, "k1"))
	w.expect(q, "9 k0=2", "10 -k1")
	w.node.Must(&fsm.RemoveObject{Kind: objects.KindMap, Object: fsm.Ref{SID: m}})
	w.expect(q, "11 removed")
	require.Zero(t, w.hub.Topics())
}

func TestEventDuringReplayIsToldOnce(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	q := newQueue(w.hub, "alice")
	s, src := w.subscribe(q, m)
	writes := 0
	src.replayed = func() {
		if writes < 5 {
			writes++
			w.node.Must(put(m, "k", fmt.Sprint(writes)))
			w.settle() // told while the subscription is behind
		}
	}
	s.Start(0)
	w.expect(q, "1 k=1", "2 k=2", "3 k=3", "4 k=4", "5 k=5", "established 5")
}

// A live subscription that is told of an event, and was not of the one before it,
// looks for that in the state: the ids of an object have no gaps.
func TestLiveSubscriptionNoticesGap(t *testing.T) {
	node := fsmtest.New(nil)
	h := hub.New(hub.Config{Feed: node.FSM().Feed(), View: node.View, Encode: line, Join: together}) // which nobody runs
	m := objects.NewSID(objects.KindMap, commandid.New())
	node.Must(&fsm.CreateObject{SID: m})
	q := newQueue(h, "alice")
	s := q.SubscribeObject(m, &source{queue: q, object: m, chunk: 10})
	s.Start(0)
	read := func() []string {
		b, _ := q.Fill(nil, 1<<20)
		return lines(b)
	}
	require.Equal(t, []string{"established 0"}, read())
	node.Must(put(m, "a", "1"))
	node.Must(put(m, "b", "2"))
	s.OnEvent(&hub.Event{Event: &objects.Event{Type: objects.ItemAdded, ID: 2}})
	require.Equal(t, []string{"1 a=1", "2 b=2"}, read())
}

// What a replay cannot see, because its view is older, is found by another one.
func TestRemovalOrForbiddenDuringReplayEndsSubscription(t *testing.T) {
	for kind, want := range map[objects.Kind]string{objects.KindMap: "ended 403", objects.KindStream: "ended 404"} {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWorld(t, hub.Config{})
			yes := true
			w.node.Must(&fsm.UpdateService{ACLEnabled: &yes})
			sid := w.create(kind)
			ref := fsm.Ref{SID: sid}
			if kind == objects.KindMap {
				w.node.Must(&fsm.SetPermission{Kind: kind, Object: ref, Identity: "alice", Rights: objects.Read})
			}
			q := newQueue(w.hub, "alice")
			s, src := w.subscribe(q, sid)
			replays := 0
			src.replayed = func() {
				if replays++; replays > 1 {
					return
				}
				if kind == objects.KindMap {
					w.node.Must(&fsm.SetPermission{Kind: kind, Object: ref, Identity: "alice"})
				} else {
					w.node.Must(&fsm.RemoveObject{Kind: kind, Object: ref})
				}
				w.settle() // told while the subscription is behind
			}
			s.Start(0)
			w.expect(q, want)
			require.Equal(t, []string{""}, read(q))
			require.Zero(t, w.hub.Topics())
		})
	}
}

func TestFewLiveEventsMayWaitForMore(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	q := newQueue(w.hub, "bob")
	s, _ := w.subscribe(q, m)
	s.Start(0)
	require.Equal(t, hub.Prompt, q.urgency(), "it has a turn to catch up")
	w.expect(q, "established 0")

	w.node.Must(put(m, "a", "1"))
	w.settle()
	require.Equal(t, hub.CanWait, q.urgency())
	q.Push([]byte("answer\n"))
	require.Equal(t, hub.Prompt, q.urgency())
	w.expect(q, "1 a=1", "answer")

	data := `"` + strings.Repeat("x", 1500) + `"`
	for _, want := range []hub.Urgency{hub.CanWait, hub.CanWait, hub.Enough, hub.Enough} {
		w.node.Must(put(m, "a", data))
		w.settle()
		require.Equal(t, want, q.urgency())
	}
	read(q)
	w.node.Must(put(m, "a", data))
	w.settle()
	require.Equal(t, hub.CanWait, q.urgency(), "what was written does not count")
	read(q)
	q.Close(nil)
	require.Equal(t, hub.Prompt, q.urgency())
}

func TestEventIsEncodedOncePerFormThatIsRead(t *testing.T) {
	node := fsmtest.New(nil)
	var made []hub.Form
	h := hub.New(hub.Config{Feed: node.FSM().Feed(), View: node.View, Encode: func(e *objects.Event, form hub.Form) hub.Frame {
		made = append(made, form)
		return hub.Frame{Bytes: fmt.Appendf(nil, "form %d: %s", form, lineOf(e))}
	}})
	m, other := objects.NewSID(objects.KindMap, commandid.New()), objects.NewSID(objects.KindMap, commandid.New())
	node.Must(&fsm.CreateObject{SID: m})
	node.Must(&fsm.CreateObject{SID: other})
	var queues []*queue
	for i := range 50 {
		q := newQueue(h, "u")
		q.SubscribeObject(m, &source{queue: q, object: m, form: hub.Form(i % 2), chunk: 3}).Start(0)
		require.Equal(t, []string{"established 0"}, read(q))
		queues = append(queues, q)
	}
	node.Must(put(other, "x", "1"))
	node.Must(put(m, "k", "1"))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	for i, q := range queues {
		<-q.Wake()
		(&world{T: t}).expect(q, fmt.Sprintf("form %d: 1 k=1", i%2))
	}
	cancel()
	running.Wait()
	require.ElementsMatch(t, []hub.Form{0, 1}, made)
}

// What waits for one subscription goes into one frame, as far as it is of one kind,
// nothing else is between, and there is room.
func TestEventsThatWaitAreWrittenTogether(t *testing.T) {
	w := newWorld(t, hub.Config{Join: func(b []byte, kind string, events [][]byte) []byte {
		return fmt.Appendf(b, "%s %q\n", kind, bytes.Join(events, nil))
	}})
	m, other, stream := w.create(objects.KindMap), w.create(objects.KindMap), w.create(objects.KindStream)
	q := newQueue(w.hub, "u")
	for _, object := range []objects.SID{m, other, stream} {
		s, _ := w.subscribe(q, object)
		s.Start(0)
		w.expect(q, "established 0")
	}
	for _, op := range []fsm.Op{
		put(m, "k", "1"), put(m, "k", "2"), remove(m, "k"), put(m, "k", "4"), put(m, "k", "5"),
		put(other, "k", "1"), put(m, "k", "6"),
		publish(stream, "a"), publish(stream, "b"), publish(stream, "c"),
	} {
		w.node.Must(op)
	}
	w.settle()
	q.Push([]byte("answer\n"))
	w.node.Must(publish(stream, "d"))
	w.settle()
	w.expect(q, `changed "1 k=1\n2 k=2\n"`, "3 -k", `changed "4 k=4\n5 k=5\n"`, "1 k=1", "6 k=6",
		`changed "message a\nmessage b\nmessage c\n"`, "answer", "message d")

	large := strings.Repeat("x", 15<<10)
	for range 5 {
		w.node.Must(put(m, "k", large))
	}
	w.settle()
	b, _ := q.Fill(nil, 1<<20)
	require.Len(t, lines(b), 3, "two, two, and one")

	for range 100 {
		w.node.Must(put(m, "k", "small"))
	}
	w.settle()
	b, _ = q.Fill(nil, 1<<20)
	require.Len(t, lines(b), 2, "64, and the rest")
	require.Equal(t, 100, bytes.Count(b, []byte("=small")))
}

func TestFullQueueMakesSubscriptionCatchUp(t *testing.T) {
	w := newWorld(t, hub.Config{QueueLength: 4})
	m := w.create(objects.KindMap)
	q := newQueue(w.hub, "slow")
	s, _ := w.subscribe(q, m)
	s.Start(0)
	w.expect(q, "established 0")
	for i := range 20 {
		w.node.Must(put(m, fmt.Sprint("k", i%5), fmt.Sprint(i)))
	}
	w.settle()
	require.Equal(t, 1.0, value(t, w.behind))
	w.expect(q, "1 k0=0", "2 k1=1", "3 k2=2", "4 k3=3", "16 k0=15", "17 k1=16", "18 k2=17", "19 k3=18", "20 k4=19")
	w.node.Must(put(m, "k0", "live"))
	w.expect(q, "21 k0=live")
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	w := newWorld(t, hub.Config{QueueBytes: 1000})
	m := w.create(objects.KindMap)
	q := newQueue(w.hub, "slow")
	s, _ := w.subscribe(q, m)
	s.Start(0)
	w.expect(q, "established 0")
	for range 10 {
		w.node.Must(put(m, "k", `"`+strings.Repeat("x", 300)+`"`))
	}
	w.settle()
	require.Equal(t, 1.0, value(t, w.behind))
	require.Len(t, read(q), 4, "three that fit and the present state")
}

func TestFullQueueDropsOldestMessages(t *testing.T) {
	w := newWorld(t, hub.Config{QueueLength: 3})
	stream := w.create(objects.KindStream)
	q := newQueue(w.hub, "slow")
	s, _ := w.subscribe(q, stream)
	s.Start(0)
	w.expect(q, "established 0")
	q.Push([]byte("answer\n"))
	for i := range 6 {
		w.node.Must(publish(stream, fmt.Sprint(i)))
	}
	w.settle()
	w.expect(q, "answer", "message 4", "message 5")
	require.Equal(t, 4.0, value(t, w.dropped))
}

func TestAnswerComesBeforeEcho(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	mine, theirs := newQueue(w.hub, "alice"), newQueue(w.hub, "bob")
	for _, q := range []*queue{mine, theirs} {
		s, _ := w.subscribe(q, m)
		s.Start(0)
		w.expect(q, "established 0")
	}
	command := &fsm.Command{ID: commandid.New(), Service: fsmtest.Service, Op: put(m, "k", "mine")}
	mine.Begin(command.ID, m)
	_, err := w.node.Propose(t.Context(), command)
	require.NoError(t, err)
	w.node.Must(put(m, "k", "theirs"))
	w.expect(theirs, "1 k=mine", "2 k=theirs")
	require.Equal(t, []string{""}, read(mine), "held back, and what follows it")
	mine.Finish(command.ID, []byte("answer\n"), hub.EchoKey{})
	w.expect(mine, "answer", "1 k=mine", "2 k=theirs")
}

func TestOwnRemovalsAndMessagesAreNotEchoed(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m, stream := w.create(objects.KindMap), w.create(objects.KindStream)
	w.node.Must(put(m, "a", "1"))
	w.node.Must(put(m, "b", "1"))
	q := newQueue(w.hub, "alice")
	for object, at := range map[objects.SID]objects.EventID{m: 2, stream: 0} {
		s, _ := w.subscribe(q, object)
		s.Start(at)
		w.expect(q, fmt.Sprint("established ", at))
	}
	own := func(op fsm.Op, echo hub.EchoKey, answerFirst bool) {
		c := &fsm.Command{ID: commandid.New(), Service: fsmtest.Service, Op: op}
		q.Begin(c.ID, m)
		if answerFirst { // the leader's result is here before the log is
			q.Finish(c.ID, []byte("answer\n"), echo)
		}
		_, err := w.node.Propose(t.Context(), c)
		require.NoError(t, err)
		if !answerFirst {
			w.settle()
			q.Finish(c.ID, []byte("answer\n"), echo)
		}
	}
	own(remove(m, "a"), hub.EchoKey{SID: m, ID: 3}, false)
	own(remove(m, "b"), hub.EchoKey{SID: m, ID: 4}, true)
	for _, first := range []bool{false, true} {
		message := publish(stream, "mine")
		own(message, hub.EchoKey{SID: message.SID}, first)
	}
	w.node.Must(put(m, "c", "1"))
	w.node.Must(publish(stream, "theirs"))
	w.expect(q, "answer", "answer", "answer", "answer", "5 c=1", "message theirs")

	s, _ := w.subscribe(q, m)
	s.Start(2)
	w.expect(q, "5 c=1", "established 5")
}

func TestReplayWaitsForTheAnswer(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	q := newQueue(w.hub, "alice")
	s, _ := w.subscribe(q, m)
	c := &fsm.Command{ID: commandid.New(), Service: fsmtest.Service, Op: put(m, "k", "mine")}
	q.Begin(c.ID, m)
	_, err := w.node.Propose(t.Context(), c)
	require.NoError(t, err)
	s.Start(0)
	w.settle()
	require.Equal(t, []string{""}, read(q))
	q.Finish(c.ID, []byte("answer\n"), hub.EchoKey{})
	w.expect(q, "answer", "1 k=mine", "established 1")
}

func TestOwnObjectRemovalIsToldAfterAnswer(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	q := newQueue(w.hub, "alice")
	s, _ := w.subscribe(q, m)
	s.Start(0)
	w.expect(q, "established 0")
	c := &fsm.Command{ID: commandid.New(), Service: fsmtest.Service, Op: &fsm.RemoveObject{Kind: objects.KindMap, Object: fsm.Ref{SID: m}}}
	q.Begin(c.ID, m)
	_, err := w.node.Propose(t.Context(), c)
	require.NoError(t, err)
	w.settle()
	require.Equal(t, []string{""}, read(q))
	q.Finish(c.ID, []byte("answer\n"), hub.EchoKey{})
	w.expect(q, "answer", "1 removed")
	require.False(t, q.Has(m.String()))
	require.Zero(t, q.Subscriptions())
}

func TestRevokedPermissionEndsSubscriptionAtOnce(t *testing.T) {
	w := newWorld(t, hub.Config{})
	yes := true
	m := w.create(objects.KindMap)
	grant := func(identity string, r objects.Rights) {
		w.node.Must(&fsm.SetPermission{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Identity: identity, Rights: r})
	}
	w.node.Must(&fsm.UpdateService{ACLEnabled: &yes})
	grant("alice", objects.Read)
	grant("bob", objects.Read)
	alice, bob := newQueue(w.hub, "alice"), newQueue(w.hub, "bob")
	for _, q := range []*queue{alice, bob} {
		s, _ := w.subscribe(q, m)
		s.Start(0)
		w.expect(q, "established 0")
	}
	grant("alice", 0)
	w.node.Must(put(m, "k", "secret"))
	w.expect(bob, "1 k=secret")
	w.expect(alice, "ended 403")
	w.settle()
	require.Equal(t, []string{""}, read(alice))
	bob.Recheck()
	require.Equal(t, []string{""}, read(bob))
	w.node.Must(&fsm.RemovePermission{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Identity: "bob"})
	w.expect(bob, "ended 403")
	w.settle()
	require.Zero(t, w.hub.Topics())
}

func TestUnsubscribeDropsQueuedEvents(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	q := newQueue(w.hub, "alice")
	s, _ := w.subscribe(q, m)
	s.Start(0)
	w.expect(q, "established 0")
	w.node.Must(put(m, "k", "1"))
	w.settle()
	s, _ = w.subscribe(q, m) // established anew
	s.Start(0)
	w.expect(q, "1 k=1", "established 1")
	w.node.Must(put(m, "k", "2"))
	w.settle()
	require.True(t, q.Unsubscribe(m.String()))
	require.False(t, q.Unsubscribe(m.String()))
	q.Push([]byte("canceled\n"))
	w.expect(q, "canceled")
	require.Zero(t, w.hub.Topics())
}

func TestSubscribingToMissingObjectEndsWithError(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	w.node.Must(put(m, "k", "1"))
	q := newQueue(w.hub, "alice")
	s, _ := w.subscribe(q, objects.NewSID(objects.KindMap, commandid.New()))
	s.Start(0)
	w.expect(q, "ended 404")
	s, _ = w.subscribe(q, m)
	s.Start(9)
	w.expect(q, "ended 410")
	require.Equal(t, []string{""}, read(q))
	require.Zero(t, w.hub.Topics())
}

// TestRestoreResetsSubscribers: what an installed snapshot skips is replayed
// from the new state.
func TestRestoreResetsSubscribers(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m, gone, stream := w.create(objects.KindMap), w.create(objects.KindMap), w.create(objects.KindStream)
	w.node.Must(put(m, "a", "1"))
	q, other := newQueue(w.hub, "alice"), newQueue(w.hub, "bob")
	for object, at := range map[objects.SID]objects.EventID{m: 1, stream: 0} {
		s, _ := w.subscribe(q, object)
		s.Start(at)
		w.expect(q, fmt.Sprint("established ", at))
	}
	s, _ := w.subscribe(other, gone)
	s.Start(0)
	w.expect(other, "established 0")

	leader := fsmtest.New(nil)
	require.NoError(t, leader.FSM().Restore(snapshotOf(t, w.node)))
	leader.Must(put(m, "b", "2"))
	leader.Must(remove(m, "a"))
	leader.Must(publish(stream, "missed"))
	leader.Must(&fsm.RemoveObject{Kind: objects.KindMap, Object: fsm.Ref{SID: gone}})
	require.NoError(t, w.node.FSM().Restore(snapshotOf(t, leader)))

	w.expect(q, "2 b=2", "3 -a")
	w.expect(other, "ended 404")
	w.node.Must(publish(stream, "heard"))
	w.node.Must(put(m, "c", "3"))
	w.expect(q, "message heard", "4 c=3")
}

// A snapshot that comes while a subscription is catching up brings changes that
// nobody tells of.
func TestSnapshotRestoredDuringReplayIsCaughtUp(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	w.node.Must(put(m, "a", "1"))
	leader := fsmtest.New(nil)
	require.NoError(t, leader.FSM().Restore(snapshotOf(t, w.node)))
	leader.Must(put(m, "b", "2"))
	q := newQueue(w.hub, "alice")
	s, src := w.subscribe(q, m)
	replays := 0
	src.replayed = func() {
		if replays++; replays == 1 {
			require.NoError(t, w.node.FSM().Restore(snapshotOf(t, leader)))
			w.settle()
		}
	}
	s.Start(0)
	w.expect(q, "1 a=1", "2 b=2", "established 2")
}

// derived is the source of something that has its own idea of what is the newest.
type derived struct {
	at       objects.EventID
	replayed func()
}

func (d *derived) Form() hub.Form { return 0 }

func (d *derived) Check(*fsm.View) *objects.Error { return nil }

func (d *derived) Replay(b []byte, _ *fsm.View, _, after, _ objects.EventID) ([]byte, objects.EventID, bool, *objects.Error) {
	at := d.at
	if at != after {
		b = fmt.Appendf(b, "whole %d\n", at)
	}
	if d.replayed != nil {
		d.replayed()
	}
	return b, at, false, nil
}

func (d *derived) Established(b []byte, at objects.EventID) []byte {
	return fmt.Appendf(b, "established %d\n", at)
}

func (d *derived) Ended(b []byte, why *objects.Error) []byte {
	return fmt.Appendf(b, "ended %d\n", why.Status)
}

// What a derived source has loaded anew while it was read is not missed.
func TestFallBehindDuringReplayCatchesUpAgain(t *testing.T) {
	q := newQueue(newWorld(t, hub.Config{}).hub, "alice")
	d := &derived{at: 10}
	s := q.Subscribe("QR", objects.SID{}, d, func(*hub.Subscription) func() { return func() {} })
	d.replayed = func() {
		d.replayed = nil
		d.at = 20
		s.FallBehind()
	}
	s.Start(0)
	require.Equal(t, []string{"whole 10", "whole 20", "established 20"}, read(q))
	s.Offer(21, &hub.Frames{Encode: func(hub.Form) hub.Frame { return hub.Frame{Bytes: []byte("change 21\n")} }})
	require.Equal(t, []string{"change 21"}, read(q))
}

func TestSubscriptionThatEndsDuringJoinLeaves(t *testing.T) {
	q := newQueue(newWorld(t, hub.Config{}).hub, "alice")
	left := 0
	q.Subscribe("QR", objects.SID{}, &derived{at: 10}, func(s *hub.Subscription) func() {
		s.End(objects.ErrQueryLarge)
		return func() { left++ }
	})
	require.Equal(t, []string{"ended 400"}, read(q))
	q.UnsubscribeAll()
	require.Equal(t, 1, left)
}

func value(t *testing.T, c prometheus.Counter) float64 {
	var m dto.Metric
	require.NoError(t, c.Write(&m))
	return m.Counter.GetValue()
}

func snapshotOf(t *testing.T, n *fsmtest.Node) io.ReadCloser {
	var b bytes.Buffer
	require.NoError(t, n.FSM().WriteSnapshot(&b))
	return io.NopCloser(&b)
}
