package hub_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/hub"
)

// crowd subscribes count readers to a map, each with a goroutine that empties
// its queue until the context ends; read counts what they took.
func crowd(ctx context.Context, h *hub.Hub, object objects.SID, count int, read *atomic.Int64) *sync.WaitGroup {
	var readers sync.WaitGroup
	for range count {
		q := newQueue(h, "u")
		q.SubscribeObject(object, &source{queue: q, object: object, chunk: 64}).Start(0)
		q.Fill(nil, 1<<20)
		readers.Go(func() {
			var b []byte
			for {
				select {
				case <-q.Wake():
				case <-ctx.Done():
					return
				}
				b, _ = q.Fill(b[:0], 1<<16)
				read.Add(int64(len(b)))
			}
		})
	}
	return &readers
}

// TestSlowSubscriberDoesNotDelayOthers: one that never reads, among thousands
// that do.
func TestSlowSubscriberDoesNotDelayOthers(t *testing.T) {
	w := newWorld(t, hub.Config{QueueLength: 16})
	m := w.create(objects.KindMap)
	stuck := newQueue(w.hub, "stuck")
	s, _ := w.subscribe(stuck, m)
	s.Start(0)
	w.expect(stuck, "established 0")

	ctx, cancel := context.WithCancel(t.Context())
	var taken atomic.Int64
	const readers, writes = 2000, 100
	done := crowd(ctx, w.hub, m, readers, &taken)
	want := int64(0)
	for i := range writes {
		w.node.Must(put(m, "k", fmt.Sprint(i)))
		want += int64(len(fmt.Sprintf("%d k=%d\n", i+1, i))) * readers
		require.Eventually(t, func() bool { return taken.Load() == want }, 10*time.Second, time.Millisecond, "write %d reaches all who read", i)
	}
	cancel()
	done.Wait()
	require.Len(t, read(stuck), 17, "what fitted, then the present state")
}

func BenchmarkFanOut(b *testing.B) {
	for _, count := range []int{1000, 5000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			node := fsmtest.New(nil)
			h := hub.New(hub.Config{Feed: node.FSM().Feed(), View: node.View, Encode: line, Join: together})
			ctx, cancel := context.WithCancel(context.Background())
			m := objects.NewSID(objects.KindMap, commandid.New())
			node.Must(&fsm.CreateObject{SID: m})
			var taken atomic.Int64
			readers := crowd(ctx, h, m, count, &taken)
			var running sync.WaitGroup
			running.Go(func() { h.Run(ctx) })
			b.ReportAllocs()
			want, n := int64(0), 0
			for b.Loop() {
				n++
				node.Must(put(m, "k", "1"))
				want += int64(len(fmt.Sprintf("%d k=1\n", n))) * int64(count)
				for taken.Load() != want {
					runtime.Gosched()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/delivery")
			cancel()
			readers.Wait()
			running.Wait()
		})
	}
}
