package hub_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/hub"
)

// late is a hub that has not told anything yet of what was applied.
type late struct {
	*testing.T
	node    *fsmtest.Node
	hub     *hub.Hub
	queue   *queue
	object  objects.SID
	working sync.WaitGroup
}

func inLateWorld(t *testing.T, c hub.Config, test func(l *late)) {
	synctest.Test(t, func(t *testing.T) {
		l := &late{T: t, node: fsmtest.New(nil), object: objects.NewSID(objects.KindMap, commandid.New())}
		l.node.Must(&fsm.CreateObject{SID: l.object})
		c.Feed, c.View, c.Encode, c.Join = l.node.FSM().Feed(), l.node.View, line, together
		l.hub = hub.New(c)
		l.queue = newQueue(l.hub, "alice")
		l.queue.SubscribeObject(l.object, &source{queue: l.queue, object: l.object, chunk: 2}).Start(0)
		require.Equal(t, []string{"established 0"}, l.told())
		test(l)
		l.working.Wait()
	})
}

// told takes what waits.
func (l *late) told() []string {
	return slices.DeleteFunc(read(l.queue), func(line string) bool { return line == "" })
}

// tells has the hub tell what it has not yet told.
func (l *late) tells() {
	ctx, cancel := context.WithCancel(context.Background())
	l.working.Go(func() { l.hub.Run(ctx) })
	synctest.Wait()
	cancel()
}

// write writes an item as the client, whose answer is "answer".
func (l *late) write(op fsm.Op, echo func(*fsm.Result) hub.EchoKey) {
	id := commandid.New()
	l.queue.Begin(id, l.object)
	r, err := l.node.Propose(l.Context(), &fsm.Command{ID: id, Service: fsmtest.Service, Op: op})
	require.NoError(l, err)
	require.Nil(l, r.Err)
	after := hub.Point{Object: l.object, Event: r.Object.EventID}
	if r.Item != nil {
		after.Event--
	}
	var m hub.EchoKey
	if echo != nil {
		m = echo(r)
	}
	l.working.Go(func() {
		require.NoError(l, l.queue.Decided(context.Background(), id, after))
		l.queue.Finish(id, []byte("answer\n"), m)
	})
	synctest.Wait()
}

func TestAnswerWaitsForEarlierLiveEvents(t *testing.T) {
	inLateWorld(t, hub.Config{}, func(l *late) {
		l.node.Must(put(l.object, "k", "theirs"))
		l.write(put(l.object, "k", "mine"), nil)
		require.Empty(t, l.told(), "the answer waits")
		l.node.Must(put(l.object, "k", "later"))
		l.tells()
		require.Equal(t, []string{"1 k=theirs", "answer", "2 k=mine", "3 k=later"}, l.told())
	})
}

func TestReadAnswerWaitsForEarlierEvents(t *testing.T) {
	inLateWorld(t, hub.Config{}, func(l *late) {
		l.node.Must(put(l.object, "k", "theirs"))
		l.working.Go(func() {
			require.NoError(l, l.queue.AwaitTold(context.Background(), hub.Point{Object: l.object, Event: 1}))
			l.queue.Push([]byte("answer\n"))
		})
		synctest.Wait()
		require.Empty(t, l.told())
		l.tells()
		require.Equal(t, []string{"1 k=theirs", "answer"}, l.told())
	})
}

func TestAnswerWaitsForCatchingUp(t *testing.T) {
	inLateWorld(t, hub.Config{QueueLength: 2}, func(l *late) {
		for i := range 9 {
			l.node.Must(put(l.object, fmt.Sprint("k", i), "theirs"))
		}
		l.tells() // more than the queue takes
		l.write(put(l.object, "k0", "mine"), nil)
		var told []string
		for len(told) < 11 {
			told = append(told, l.told()...)
			synctest.Wait()
		}
		require.Equal(t, []string{"1 k0=theirs", "2 k1=theirs"}, told[:2])
		require.Equal(t, []string{"9 k8=theirs", "answer", "10 k0=mine"}, told[8:])
		require.Empty(t, l.told())
	})
}

func TestOwnRemovalDuringCatchUpIsAnsweredFirst(t *testing.T) {
	inLateWorld(t, hub.Config{QueueLength: 1}, func(l *late) {
		for i := range 3 {
			l.node.Must(put(l.object, fmt.Sprint("k", i), "theirs"))
		}
		l.tells()
		l.write(&fsm.RemoveObject{Kind: objects.KindMap, Object: fsm.Ref{SID: l.object}}, nil)
		var told []string
		for range 5 {
			told = append(told, l.told()...)
			synctest.Wait()
		}
		require.Equal(t, []string{"1 k0=theirs", "answer", "ended 404"}, told)
	})
}

func TestAwaitToldReturnsWhenSubscriptionEnds(t *testing.T) {
	inLateWorld(t, hub.Config{}, func(l *late) {
		l.node.Must(put(l.object, "k", "1"))
		point := hub.Point{Object: l.object, Event: 1}
		for _, end := range []func(){
			func() { l.queue.Unsubscribe(l.object.String()) },
			func() { l.queue.Close(nil) },
		} {
			l.queue.SubscribeObject(l.object, &source{queue: l.queue, object: l.object, chunk: 2}).Start(0)
			l.working.Go(func() { require.NoError(l, l.queue.AwaitTold(context.Background(), point)) })
			synctest.Wait()
			end()
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, l.queue.AwaitTold(ctx, point))
	})
}
