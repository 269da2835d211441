package hub_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/hub"
)

// reader is a client's own copy of a map, made of nothing but the lines of its
// queue.
type reader struct {
	t       *rapid.T
	queue   *queue
	known   objects.EventID
	replied objects.EventID // of the last own write whose answer is read
	items   map[string]string
	own     fsm.CommandID   // the write whose answer is still to be read
	ownID   objects.EventID // its event
	writing bool            // and still to be given
	partial []byte
}

func (r *reader) take(size int) {
	b, _ := r.queue.Fill(r.partial, len(r.partial)+size)
	r.partial = nil
	for _, text := range lines(b) {
		r.apply(text)
	}
}

func (r *reader) apply(text string) {
	id, what, _ := strings.Cut(text, " ")
	switch id {
	case "", "established":
		return
	case "answer":
		r.replied = r.ownID
		r.own = fsm.CommandID{}
		return
	}
	var event objects.EventID
	_, err := fmt.Sscan(id, &event)
	require.NoError(r.t, err, text)
	require.Greater(r.t, event, r.known, "ids rise")
	require.GreaterOrEqual(r.t, event, r.replied, "what happened before an own write comes before its answer")
	if r.own != (fsm.CommandID{}) {
		require.NotEqual(r.t, r.ownID, event, "the answer comes before the echo")
	}
	r.known = event
	if key, removed := strings.CutPrefix(what, "-"); removed {
		delete(r.items, key)
		return
	}
	key, value, _ := strings.Cut(what, "=")
	r.items[key] = value
}

// TestEverySubscriberConvergesToServerState: whatever is written, however small
// the queue, however often and late it is emptied.
func TestEverySubscriberConvergesToServerState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := fsmtest.New(nil)
		h := hub.New(hub.Config{
			Feed: node.FSM().Feed(), View: node.View, Encode: line, Join: together,
			QueueLength: rapid.IntRange(1, 8).Draw(t, "queue length"),
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { h.Run(ctx); close(done) }()
		defer func() { cancel(); <-done }()

		m := objects.NewSID(objects.KindMap, commandid.New())
		node.Must(&fsm.CreateObject{SID: m})
		readers := make([]*reader, 3)
		for i := range readers {
			q := newQueue(h, "u")
			readers[i] = &reader{t: t, queue: q, items: map[string]string{}}
			q.SubscribeObject(m, &source{queue: q, object: m, chunk: rapid.IntRange(1, 5).Draw(t, "chunk")}).Start(0)
		}
		keys := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		object := func() *objects.Object { o, _ := node.View().ObjectBySID(m); return o }
		write := func(op fsm.Op, r *reader) {
			c := &fsm.Command{ID: commandid.New(), Service: fsmtest.Service, Op: op}
			if r != nil {
				r.own, r.ownID, r.writing = c.ID, object().EventID+1, true
				r.queue.Begin(c.ID, m)
			}
			_, err := node.Propose(t.Context(), c)
			require.NoError(t, err)
		}
		var finishing sync.WaitGroup
		defer func() { cancel(); finishing.Wait() }()
		finish := func(r *reader) {
			if !r.writing {
				return
			}
			r.writing = false
			id, after := r.own, hub.Point{Object: m, Event: r.ownID - 1}
			finishing.Go(func() {
				if r.queue.Decided(ctx, id, after) == nil {
					r.queue.Finish(id, []byte("answer\n"), hub.EchoKey{})
				}
			})
		}
		anyReader := rapid.IntRange(0, len(readers)-1)
		value := 0
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				value++
				write(put(m, keys.Draw(t, "key"), fmt.Sprint(value)), nil)
			},
			"put by a reader": func(t *rapid.T) {
				value++
				r := readers[anyReader.Draw(t, "reader")]
				if r.own != (fsm.CommandID{}) {
					return
				}
				write(put(m, keys.Draw(t, "key"), fmt.Sprint(value)), r)
			},
			"answer": func(t *rapid.T) { finish(readers[anyReader.Draw(t, "reader")]) },
			"remove": func(t *rapid.T) { write(remove(m, keys.Draw(t, "key")), nil) },
			"read":   func(t *rapid.T) { readers[anyReader.Draw(t, "reader")].take(rapid.IntRange(1, 40).Draw(t, "size")) },
			"subscribe again": func(t *rapid.T) {
				r := readers[anyReader.Draw(t, "reader")]
				if r.own != (fsm.CommandID{}) && !r.writing {
					return // a request on an object waits for the answer to the one before
				}
				r.queue.SubscribeObject(m, &source{queue: r.queue, object: m, chunk: 2}).Start(r.known)
			},
		})

		want := map[string]string{}
		o := object()
		node.View().EachItem(o, func(i *objects.Item) bool { want[i.Key] = string(i.Data); return true })
		for _, r := range readers {
			finish(r)
			deadline := time.Now().Add(5 * time.Second)
			for (r.known < o.EventID || r.own != fsm.CommandID{}) && time.Now().Before(deadline) {
				r.take(1 << 20)
				select {
				case <-r.queue.Wake():
				case <-time.After(time.Millisecond):
				}
			}
			require.Equal(t, want, r.items)
			require.Equal(t, o.EventID, r.known)
		}
	})
}
