package hub_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/hub"
	"lockstep/server/panics"
)

// faulty panics where a test wants it to.
type faulty struct {
	source
	check, ended bool
}

func (f *faulty) Check(view *fsm.View) *objects.Error {
	if f.check {
		panic("check")
	}
	return f.source.Check(view)
}

func (f *faulty) Ended(b []byte, why *objects.Error) []byte {
	if f.ended {
		panic("ended")
	}
	return f.source.Ended(b, why)
}

func panicsOf(t *testing.T) (*panics.Catcher, func(want int)) {
	r := prometheus.NewRegistry()
	return panics.New(slog.New(slog.DiscardHandler), r), func(want int) {
		t.Helper()
		count := 0
		families, err := r.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				count += int(m.Counter.GetValue())
			}
		}
		require.Equal(t, want, count)
	}
}

// A panic while one client's subscription is told of an event ends that client,
// and nobody else hears of it.
func TestFollowerPanicEndsOneClientOnly(t *testing.T) {
	catcher, counted := panicsOf(t)
	w := newWorld(t, hub.Config{Panics: catcher})
	m := w.create(objects.KindMap)
	sick, well := newQueue(w.hub, "sick"), newQueue(w.hub, "well")
	src := &faulty{source: source{queue: sick, object: m, chunk: 3}}
	sick.SubscribeObject(m, src).Start(0)
	w.expect(sick, "established 0")
	s, _ := w.subscribe(well, m)
	s.Start(0)
	w.expect(well, "established 0")

	src.check = true
	w.node.Must(&fsm.SetPermission{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Identity: "sick", Rights: objects.Read})
	w.node.Must(put(m, "k", "1"))
	w.expect(well, "1 k=1")
	counted(1)
	b, last := sick.Fill(nil, 1<<20)
	require.Empty(t, b)
	require.True(t, last, "its queue has ended")
	require.False(t, sick.Overrun())
	sick.UnsubscribeAll()
	well.UnsubscribeAll()
	require.Zero(t, w.hub.Topics())
}

// A panic of a source while its client's queue is filled leaves no lock.
func TestPanicDuringFillReleasesLocks(t *testing.T) {
	w := newWorld(t, hub.Config{})
	m := w.create(objects.KindMap)
	q := newQueue(w.hub, "sick")
	src := &faulty{source: source{queue: q, object: m, chunk: 3}, ended: true}
	s := q.SubscribeObject(m, src)
	s.End(objects.ErrForbidden)
	require.Panics(t, func() { q.Fill(nil, 1<<20) })
	q.Push([]byte("x"))
	q.UnsubscribeAll()
	require.Zero(t, w.hub.Topics())
}

// What cannot be encoded is left to each subscriber to find out.
func TestEventThatFailsToEncodeIsReplayed(t *testing.T) {
	catcher, counted := panicsOf(t)
	node := fsmtest.New(nil)
	behind := prometheus.NewCounter(prometheus.CounterOpts{Name: "behind"})
	h := hub.New(hub.Config{
		Feed: node.FSM().Feed(), View: node.View, Panics: catcher, Behind: behind,
		Encode: func(*objects.Event, hub.Form) hub.Frame { panic("encode") },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	defer running.Wait()
	defer cancel()
	w := &world{T: t, node: node, hub: h}
	m := w.create(objects.KindMap)
	q := newQueue(h, "u")
	s, _ := w.subscribe(q, m)
	s.Start(0)
	w.expect(q, "established 0")
	node.Must(put(m, "k", "1"))
	w.expect(q, "1 k=1")
	require.Equal(t, 1.0, value(t, behind))
	counted(1)
}

// Nobody waits for the encoding of an event to follow, or to stop following.
func TestFollowDoesNotWaitForEncoding(t *testing.T) {
	node := fsmtest.New(nil)
	encoding, finish := make(chan struct{}), make(chan struct{})
	h := hub.New(hub.Config{Feed: node.FSM().Feed(), View: node.View, Join: together, Encode: func(e *objects.Event, form hub.Form) hub.Frame {
		close(encoding)
		<-finish
		return line(e, form)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	defer running.Wait()
	defer cancel()
	w := &world{T: t, node: node, hub: h}
	m := w.create(objects.KindMap)
	q := newQueue(h, "u")
	s, _ := w.subscribe(q, m)
	s.Start(0)
	w.expect(q, "established 0")
	node.Must(put(m, "k", "1"))
	<-encoding
	done := make(chan struct{})
	go func() {
		other := newQueue(h, "v")
		s, _ := w.subscribe(other, m)
		s.Start(0)
		other.UnsubscribeAll()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("it waits")
	}
	close(finish)
	w.expect(q, "1 k=1")
}
