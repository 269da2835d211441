package webhook

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
)

// wanting is a store whose default service sends everything to url.
func wanting(url string) *fsmtest.Node {
	n := fsmtest.New(nil)
	yes := true
	n.Must(&fsm.UpdateService{WebhookURL: &url, WebhooksFromREST: &yes})
	return n
}

// standIn is a queue whose receivers a test names with each delivery.
type standIn struct {
	*queue
	urls map[uint64]string
}

func newStandIn(total, perService, perHost int) standIn {
	urls := map[uint64]string{}
	return standIn{newQueue(total, perService, perHost, func(service uint64) string { return urls[service] }), urls}
}

// put lets a delivery wait, as add does for those of a view.
func (q standIn) put(service uint64, name, url string, now time.Time) {
	q.urls[service] = url
	q.seen++
	d := &fsm.Delivery{Seq: q.seen, Service: service, Fact: fsm.Fact{Type: objects.EndpointConnected, Identity: name}}
	st := &stream{key: streamOf(d), waiting: []*fsm.Delivery{d}}
	q.streams[st.key] = st
	q.waiting++
	q.place(st, now)
}

// one is the receiver of all services.
func one(uint64) string { return "http://127.0.0.1:1/" }

func prompt(a attempt) outcome { return outcome{attempt: a} }

func hang(a attempt, started time.Time) outcome {
	return outcome{
		attempt: a, started: started, hung: true,
		retry: &fsm.Retry{Seq: a.delivery.Seq, Attempts: a.delivery.Attempts + 1, NotBefore: started.Add(time.Second).UnixMilli()},
	}
}

func TestWindowGrowsWithAnswersAndShrinksOnTimeout(t *testing.T) {
	n := wanting("http://127.0.0.1:1/")
	for i := byte(1); i < 30; i++ {
		createDocument(n, i)
	}
	q := newQueue(100, 4, 100, one)
	now := time.Now()
	q.add(n.View(), now)
	var under []attempt
	for _, want := range []int{1, 2, 3, 4, 4} {
		under = append(under, q.due(now)...)
		require.Len(t, under, want)
		require.Empty(t, q.due(now))
		if want < 4 || len(under) == 4 {
			q.finish(prompt(under[0]), now)
			under = under[1:]
		}
	}
	under = append(under, q.due(now)...)
	later := now.Add(15 * time.Second)
	for _, a := range under { // they hang together, which counts once
		q.finish(hang(a, now), later)
	}
	require.Empty(t, q.due(later))
	require.Equal(t, backoff[0], q.untilDue(later))
	later = later.Add(backoff[0])
	again := q.due(later)
	require.Len(t, again, 1)
	require.True(t, again[0].hanging)
	later = later.Add(15 * time.Second)
	q.finish(hang(again[0], later.Add(-15*time.Second)), later)
	require.Equal(t, backoff[1], q.untilDue(later))
	later = later.Add(backoff[1])
	again = q.due(later)
	require.Len(t, again, 1)
	q.finish(prompt(again[0]), later)
	require.Len(t, q.due(later), 2, "it answers again")
}

func TestDeliveriesOfStreamAreSequential(t *testing.T) {
	n := wanting("http://127.0.0.1:1/")
	for i := byte(1); i < 4; i++ {
		update(n, createDocument(n, i), 1)
	}
	q := newQueue(100, 4, 100, one)
	now := time.Now()
	q.add(n.View(), now)
	var order []uint64
	for {
		batch := q.due(now)
		if len(batch) == 0 {
			break
		}
		streams := map[streamKey]bool{}
		for _, a := range batch {
			require.False(t, streams[streamOf(a.delivery)])
			streams[streamOf(a.delivery)] = true
			order = append(order, a.delivery.Seq)
			q.finish(prompt(a), now)
		}
	}
	require.ElementsMatch(t, []uint64{1, 2, 3, 4, 5, 6}, order)
	require.Zero(t, q.waiting)
	require.Empty(t, q.streams)
	require.Empty(t, q.services)
	require.Empty(t, q.hosts)
	require.Equal(t, 1, q.idle.Len(), "that the receiver answers is remembered")
	require.Len(t, q.lanes, 1)
}

func TestHangingServicesLeaveSlots(t *testing.T) {
	for _, hanging := range []uint64{17, 300, 3000} {
		t.Run(fmt.Sprint(hanging), func(t *testing.T) {
			q := newStandIn(256, 16, 64)
			now := time.Now()
			q.put(1, "a", "http://proven/", now)
			q.finish(prompt(q.due(now)[0]), now)
			for s := range hanging {
				for stream := range 20 {
					q.put(10+s, fmt.Sprint(stream), fmt.Sprintf("http://h%d/", s%100), now)
				}
			}
			sent := q.due(now)
			require.LessOrEqual(t, len(sent), 128)
			if hanging == 17 {
				require.Len(t, sent, 17, "each of them one")
			}
			q.put(1, "b", "http://proven/", now)
			mine := q.due(now)
			require.Len(t, mine, 1)
			require.EqualValues(t, 1, mine[0].delivery.Service)
			if hanging == 17 {
				q.put(2, "b", "http://new/", now)
				require.Len(t, q.due(now), 1, "a newcomer has a slot as well")
			}
		})
	}
}

// Services that answered promptly and then hang all at once take no more than
// equal shares, and one host no more than its part.
func TestServicesShareEquallyAndHostsAreBounded(t *testing.T) {
	now := time.Now()
	open := func(q standIn, services uint64, host func(uint64) string) {
		for s := range services {
			for i := range 20 {
				q.put(s, fmt.Sprint("w", i), host(s), now)
			}
		}
		for batch := q.due(now); len(batch) > 0; batch = q.due(now) {
			for _, a := range batch {
				q.finish(prompt(a), now)
			}
		}
		for s := range services {
			for i := range 20 {
				q.put(s, fmt.Sprint("x", i), host(s), now)
			}
		}
	}
	q := newStandIn(256, 16, 64)
	open(q, 20, func(s uint64) string { return fmt.Sprintf("http://h%d/", s) })
	of := map[uint64]int{}
	for _, a := range q.due(now) {
		of[a.delivery.Service]++
	}
	require.Len(t, of, 20)
	for s, n := range of {
		require.Equal(t, 256/21, n, "service %d", s)
	}

	q = newStandIn(256, 16, 64)
	open(q, 10, func(s uint64) string { return fmt.Sprintf("http://one/%d", s) })
	q.put(99, "y", "http://other/", now)
	under := q.due(now)
	require.Len(t, under, 65)
	for done := 1; len(under) > 0; done++ { // and every one gets its turn
		q.finish(prompt(under[0]), now)
		under = append(under[1:], q.due(now)...)
		require.Equal(t, min(64, 201-done), len(under)-boolInt(contains(under, 99)))
	}
	require.Zero(t, q.waiting)
	require.Empty(t, q.hosts)
	require.Empty(t, q.services)
}

func contains(all []attempt, service uint64) bool {
	for _, a := range all {
		if a.delivery.Service == service {
			return true
		}
	}
	return false
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestMovedReceiverIsNotDelayedByOldAddress(t *testing.T) {
	q := newStandIn(256, 16, 64)
	now := time.Now()
	q.put(1, "a", "http://old/", now)
	q.finish(hang(q.due(now)[0], now), now)
	q.put(1, "b", "http://old/", now)
	require.Empty(t, q.due(now))
	q.put(1, "c", "http://new/", now)
	require.Len(t, q.due(now), 1)
}

// What the outbox has given up, the queue in front of a dead receiver forgets.
func TestQueueForgetsDroppedDeliveries(t *testing.T) {
	n := wanting("http://127.0.0.1:1/")
	d := objects.NewSID(objects.KindDocument, commandid.New())
	n.Must(&fsm.CreateObject{SID: d, Data: objects.EmptyObject})
	q := newQueue(256, 16, 64, one)
	now := time.Now()
	q.add(n.View(), now)
	head := q.due(now)[0]
	q.finish(outcome{attempt: head, retry: &fsm.Retry{Seq: head.delivery.Seq, Attempts: 6, NotBefore: now.Add(5 * time.Minute).UnixMilli()}}, now)
	update := func(times int) {
		for range times {
			n.Must(&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: d}, Data: []byte("1")})
		}
		q.add(n.View(), now)
	}
	update(3 * spare)
	require.Equal(t, 3*spare+1, q.waiting)
	var all []uint64
	n.View().Deliveries(0, func(x *fsm.Delivery) bool {
		all = append(all, x.Seq)
		return true
	})
	n.Must(&fsm.SettleDeliveries{Done: all}) // as the outbox gives them up, oldest first
	update(10)
	require.Equal(t, 10, q.waiting)
	require.Len(t, q.due(now), 1, "the stream goes on with what is left")
}

func TestIdleReceiversAreBounded(t *testing.T) {
	q := newStandIn(256, 16, 64)
	now := time.Now()
	for i := range maxIdleLanes + 100 {
		q.put(uint64(i), "a", "http://a/", now)
		q.finish(prompt(q.due(now)[0]), now)
	}
	require.Len(t, q.lanes, maxIdleLanes)
}

// BenchmarkQueueBehindManyStreams is one delivery's way while a hundred
// thousand other streams wait for receivers that hang.
func BenchmarkQueueBehindManyStreams(b *testing.B) {
	q := newStandIn(256, 16, 64)
	now := time.Now()
	q.put(1, "first", "http://proven/", now)
	q.finish(prompt(q.due(now)[0]), now)
	for i := range 100_000 {
		q.put(uint64(10+i%1000), fmt.Sprint(i), fmt.Sprintf("http://h%d/", i%500), now)
	}
	q.due(now)
	for b.Loop() {
		q.put(1, "s", "http://proven/", now)
		batch := q.due(now)
		if len(batch) != 1 {
			b.Fatal(len(batch))
		}
		q.finish(prompt(batch[0]), now)
	}
}
