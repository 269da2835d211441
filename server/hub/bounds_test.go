package hub_test

import (
	"context"
	"fmt"
	"strings"
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

// waits waits until so many frames wait in a queue.
func waits(t *testing.T, q *queue, want int) {
	t.Helper()
	require.Eventually(t, func() bool { frames, _ := q.Waiting(); return frames == want }, 5*time.Second, time.Millisecond)
}

// A queue that is full by count of what may not be dropped, with a message
// among it that may.
func TestQueueFullOfAnswersDropsMessages(t *testing.T) {
	w := newWorld(t, hub.Config{QueueLength: 4})
	stream := w.create(objects.KindStream)
	q := newQueue(w.hub, "slow")
	s, _ := w.subscribe(q, stream)
	s.Start(0)
	w.expect(q, "established 0")
	w.node.Must(publish(stream, "first"))
	waits(t, q, 1)
	for range 4 {
		q.Push([]byte("answer\n"))
	}
	for i := range 10 {
		w.node.Must(publish(stream, fmt.Sprint(i)))
	}
	w.settle()
	require.Equal(t, []string{"message first", "answer", "answer", "answer", "answer"}, read(q))
	require.Equal(t, 10.0, value(t, w.dropped))
}

func TestRoomBoundsFramesAndBytes(t *testing.T) {
	for name, frame := range map[string]string{"frames": "x\n", "bytes": strings.Repeat("x", 250) + "\n"} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(newWorld(t, hub.Config{QueueLength: 8, QueueBytes: 1000}).hub, "slow")
			pushed := 0
			for ; pushed < 100; pushed++ {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				err := q.Room(ctx)
				cancel()
				if err != nil {
					break
				}
				q.Push([]byte(frame))
			}
			require.Equal(t, map[string]int{"frames": 8, "bytes": 4}[name], pushed)
			room := make(chan error)
			go func() { room <- q.Room(t.Context()) }()
			require.Len(t, read(q), pushed)
			require.NoError(t, <-room, "what was read makes room")
		})
	}
}

// A writer that pushes without waiting for room overruns the queue, which then
// ends.
func TestOverrunQueueEnds(t *testing.T) {
	for name, frame := range map[string]string{"frames": "x\n", "bytes": strings.Repeat("x", 250) + "\n"} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(newWorld(t, hub.Config{QueueLength: 8, QueueBytes: 1000}).hub, "slow")
			q.Push([]byte(strings.Repeat("a large answer", 1000)))
			for range map[string]int{"frames": 8, "bytes": 3}[name] {
				q.Push([]byte(frame))
			}
			require.False(t, q.Overrun())
			q.Push([]byte(frame))
			require.True(t, q.Overrun())
			b, last := q.Fill(nil, 1<<20)
			require.Empty(t, b)
			require.True(t, last)
			q.Push([]byte(frame))
			frames, bytes := q.Waiting()
			require.Zero(t, frames+bytes)
		})
	}
}

// That many subscriptions end at once needs no room, and nobody is cut off.
func TestEndingSubscriptionsNeedNoRoom(t *testing.T) {
	w := newWorld(t, hub.Config{QueueLength: 4})
	q := newQueue(w.hub, "slow")
	var maps []objects.SID
	var subs []*hub.Subscription
	for range 50 {
		m := w.create(objects.KindMap)
		s, _ := w.subscribe(q, m)
		s.Start(0)
		w.expect(q, "established 0")
		maps, subs = append(maps, m), append(subs, s)
	}
	for i := range 25 {
		w.node.Must(&fsm.RemoveObject{Kind: objects.KindMap, Object: fsm.Ref{SID: maps[i]}})
		subs[25+i].End(objects.ErrForbidden)
	}
	w.settle()
	frames, _ := q.Waiting()
	require.Equal(t, 4, frames)
	count := map[string]int{}
	for _, text := range read(q) {
		count[text]++
	}
	require.Equal(t, map[string]int{"1 removed": 4, "ended 404": 21, "ended 403": 25}, count)
	require.False(t, q.Overrun())
	require.Zero(t, w.hub.Topics())
}

// TestQueueStaysWithinBounds: whatever is pushed, by whomever, and however
// seldom it is read.
func TestQueueStaysWithinBounds(t *testing.T) {
	rapid.Check(t, checkBounds)
}

func FuzzQueue(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkBounds)) }

func checkBounds(t *rapid.T) {
	node := fsmtest.New(nil)
	length, size := rapid.IntRange(1, 8).Draw(t, "length"), rapid.IntRange(20, 400).Draw(t, "bytes")
	h := hub.New(hub.Config{Feed: node.FSM().Feed(), View: node.View, Encode: line, Join: together, QueueLength: length, QueueBytes: size})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { h.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()

	q := newQueue(h, "u")
	all := make([]objects.SID, 4)
	subs := make([]*hub.Subscription, len(all))
	subscribe := func(i int) {
		subs[i] = q.SubscribeObject(all[i], &source{queue: q, object: all[i], chunk: 3})
		subs[i].Start(0)
	}
	create := func(i int) {
		kind := objects.KindMap
		if i%2 == 0 {
			kind = objects.KindStream
		}
		all[i] = objects.NewSID(kind, commandid.New())
		node.Must(&fsm.CreateObject{SID: all[i]})
		subscribe(i)
	}
	for i := range all {
		create(i)
	}
	var writes []fsm.CommandID
	largest, overrun := 0, false
	frame := func() []byte {
		b := []byte(strings.Repeat("x", rapid.IntRange(0, 300).Draw(t, "size")) + "\n")
		largest = max(largest, len(b))
		return b
	}
	write := func(i int, c *fsm.Command) {
		c.Op = put(all[i], rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), `"`+strings.Repeat("x", rapid.IntRange(0, 200).Draw(t, "data"))+`"`)
		if i%2 == 0 {
			c.Op = publish(all[i], `"`+strings.Repeat("x", rapid.IntRange(0, 200).Draw(t, "data"))+`"`)
		}
		_, err := node.Propose(ctx, c)
		require.NoError(t, err)
	}
	anyOne := rapid.IntRange(0, len(all)-1)
	t.Repeat(map[string]func(*rapid.T){
		"write": func(t *rapid.T) {
			write(anyOne.Draw(t, "object"), &fsm.Command{ID: commandid.New(), Service: fsmtest.Service})
		},
		"own write": func(t *rapid.T) {
			i, c := anyOne.Draw(t, "object"), &fsm.Command{ID: commandid.New(), Service: fsmtest.Service}
			q.Begin(c.ID, all[i])
			writes = append(writes, c.ID)
			write(i, c)
		},
		"answer": func(t *rapid.T) {
			if len(writes) == 0 {
				return
			}
			q.Finish(writes[0], frame(), hub.EchoKey{})
			writes = writes[1:]
		},
		"push":        func(t *rapid.T) { q.Push(frame()) },
		"end":         func(t *rapid.T) { subs[anyOne.Draw(t, "object")].End(objects.ErrForbidden) },
		"subscribe":   func(t *rapid.T) { subscribe(anyOne.Draw(t, "object")) },
		"unsubscribe": func(t *rapid.T) { q.Unsubscribe(all[anyOne.Draw(t, "object")].String()) },
		"remove": func(t *rapid.T) {
			i := anyOne.Draw(t, "object")
			node.Must(&fsm.RemoveObject{Kind: all[i].Kind(), Object: fsm.Ref{SID: all[i]}})
			create(i)
		},
		"read": func(t *rapid.T) { q.Fill(nil, rapid.IntRange(1, 500).Draw(t, "part")) },
		"": func(t *rapid.T) {
			frames, bytes := q.Waiting()
			require.LessOrEqual(t, frames, 2*length+1)
			require.LessOrEqual(t, bytes, 2*size+2*largest)
			overrun = overrun || q.Overrun()
			require.Equal(t, overrun, q.Overrun(), "an end is one for good")
		},
	})
	// Whatever waits can be read, and then nothing waits.
	for _, id := range writes {
		q.Finish(id, nil, hub.EchoKey{})
	}
	require.Eventually(t, func() bool {
		q.Fill(nil, 1<<20)
		frames, bytes := q.Waiting()
		return frames == 0 && bytes == 0
	}, 5*time.Second, time.Millisecond)
}
