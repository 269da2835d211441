package server

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/ratelimit"
)

// limited is a leader's limits over a store whose clock stands still.
type limited struct {
	*limits
	node *fsmtest.Node
	now  time.Time
}

func newLimited(t *testing.T) *limited {
	t.Helper()
	l := &limited{now: time.Unix(1_700_000_000, 0)}
	clock := func() time.Time { return l.now }
	l.node = fsmtest.New(clock)
	l.limits = newLimits(ratelimit.Default(), clock, space{})
	l.store.Store(l.node.FSM())
	return l
}

func (l *limited) create(kind objects.Kind, name string) objects.SID {
	sid := newSID(kind)
	l.node.Must(&fsm.CreateObject{SID: sid, UniqueName: name})
	return sid
}

// count says how many of the same writes pass before the first refusal.
func (l *limited) count(t *testing.T, op fsm.Op) (passed int, refused *objects.Error) {
	t.Helper()
	for passed < 10_000 {
		if r := l.admit(command(op)); r != nil {
			return passed, r.Err
		}
		passed++
	}
	return passed, nil
}

func command(op fsm.Op) *fsm.Command {
	return &fsm.Command{ID: fsm.NewID(), Service: fsmtest.Service, Op: op}
}

func data(size int) []byte { return fmt.Appendf(nil, `%*q`, -size, "x") }

func TestLimitsOfEachKindOfWrite(t *testing.T) {
	l := newLimited(t)
	document := fsm.Ref{SID: l.create(objects.KindDocument, "")}
	list := fsm.Ref{SID: l.create(objects.KindList, "")}
	m := fsm.Ref{SID: l.create(objects.KindMap, "")}
	stream := fsm.Ref{SID: l.create(objects.KindStream, "")}
	large := fsm.Ref{SID: l.create(objects.KindDocument, "")}
	shared := fsm.Ref{SID: l.create(objects.KindDocument, "")}
	for _, c := range []struct {
		op     fsm.Op
		passed int
		bucket string
	}{
		{&fsm.UpdateObject{Kind: objects.KindDocument, Object: document, Data: data(1024)}, 200, "write-document-" + document.SID.String()},
		{&fsm.UpdateObject{Kind: objects.KindDocument, Object: large, Data: data(10 * 1024)}, 20, "write-document-" + large.SID.String()},
		{&fsm.WriteItem{Kind: objects.KindList, Object: list, Mode: fsm.AppendItem, Data: data(10)}, 200, "write-list-" + list.SID.String()},
		{&fsm.RemoveItem{Kind: objects.KindMap, Object: m, Item: fsm.ItemKey{Key: "k"}}, 200, "write-map-" + m.SID.String()},
		{&fsm.Publish{Stream: stream, Data: data(4096)}, 300, "publish-stream-" + stream.SID.String()},
		{&fsm.SetPermission{Kind: objects.KindDocument, Object: shared, Identity: "a"}, 800, "write-permission-" + shared.SID.String()},
		{&fsm.RemovePermission{Kind: objects.KindDocument, Object: shared, Identity: "a"}, 0, "write-permission-" + shared.SID.String()},
		{&fsm.CreateObject{SID: newSID(objects.KindDocument), Data: data(16_000)}, 200, "create-document-" + fsmtest.Service.String()},
	} {
		passed, refused := l.count(t, c.op)
		require.Equal(t, c.passed, passed, c.bucket)
		require.ErrorIs(t, refused, objects.ErrRate)
		require.Equal(t, "Rate limit exceeded for "+c.bucket, refused.Message)
		require.GreaterOrEqual(t, refused.RetryAfter, 1)
	}
}

func TestWhatIsNotLimited(t *testing.T) {
	l := newLimited(t)
	for _, op := range []fsm.Op{
		&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{Name: "unknown"}, Data: data(10)},
		&fsm.CreateKey{SID: newSID(objects.KindKey)},
		&fsm.UpdateService{},
	} {
		passed, _ := l.count(t, op)
		require.Equal(t, 10_000, passed, "%T", op)
	}
	require.Nil(t, l.admit(fsm.Expire(fsm.NewID())))
}

func TestAnObjectHasOneBucketWhateverItIsCalled(t *testing.T) {
	l := newLimited(t)
	sid := l.create(objects.KindMap, "name")
	_, refused := l.count(t, &fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{Name: "name"}, Data: data(10)})
	require.NotNil(t, refused)
	passed, _ := l.count(t, &fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{SID: sid}, Data: data(10)})
	require.Zero(t, passed)
	l.now = l.now.Add(time.Duration(refused.RetryAfter) * time.Second)
	passed, _ = l.count(t, &fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{SID: sid}, Data: data(10)})
	require.Equal(t, 20*refused.RetryAfter, passed)
}

// A second copy of a command that was let in must not be told that it was one
// too many: the first may have been applied.
func TestACommandIsNotRefusedOnceItWasLetIn(t *testing.T) {
	l := newLimited(t)
	sid := l.create(objects.KindDocument, "")
	write := func() *fsm.Command {
		return command(&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: sid}, Data: data(10)})
	}
	underWay := write()
	require.Nil(t, l.admit(underWay))
	applied := write()
	_, err := l.node.Propose(context.Background(), applied) // through another leader
	require.NoError(t, err)
	for l.admit(write()) == nil {
	}
	require.Nil(t, l.admit(underWay))
	require.Nil(t, l.admit(applied))
	require.NotNil(t, l.admit(write()))
	for _, c := range []*fsm.Command{underWay, applied} {
		times := 0
		for l.admit(c) == nil {
			times++
			require.Less(t, times, 2*maxRepeats, "not for ever: clients choose some ids")
		}
	}
}

func TestReadLimits(t *testing.T) {
	l := newLimited(t)
	ask := func(bucket string, n uint32) time.Duration {
		return l.admitReads([]cluster.ReadCharge{{Bucket: "read-document-other", Count: 1}, {Bucket: bucket, Count: n}})[1].RetryAfter
	}
	require.Zero(t, ask("read-document-x", 200))
	require.Equal(t, time.Second, ask("read-document-x", 1))
	l.rates.Queries = 5
	require.Zero(t, ask("query-map-x", 50))
	require.NotZero(t, ask("query-map-x", 1))
	require.Zero(t, ask("read-permission-x", 800))
	require.NotZero(t, ask("read-permission-x", 1))
}

func TestOfTheReadsOfARoundAsManyPassAsThereAreTokens(t *testing.T) {
	l := newLimited(t)
	read := func(n uint32) cluster.ReadGrant {
		return l.admitReads([]cluster.ReadCharge{{Bucket: "read-map-x", Count: n}})[0]
	}
	require.Equal(t, cluster.ReadGrant{Count: 150}, read(150))
	require.Equal(t, cluster.ReadGrant{Count: 50, RetryAfter: time.Second}, read(400), "the others wait for one token each")
	l.now = l.now.Add(time.Second)
	require.Equal(t, cluster.ReadGrant{Count: 20, RetryAfter: time.Second}, read(30), "refusals cost nothing")
}

func TestWhoMayNotWriteUsesUpNobodysWrites(t *testing.T) {
	l := newLimited(t)
	m := fsm.Ref{SID: l.create(objects.KindMap, "")}
	yes := true
	l.node.Must(&fsm.UpdateService{ACLEnabled: &yes})
	l.node.Must(&fsm.SetPermission{Kind: objects.KindMap, Object: m, Identity: "owner", Rights: objects.Write})
	write := func(identity string) *fsm.Result {
		c := command(&fsm.WriteItem{Kind: objects.KindMap, Object: m, Data: data(10)})
		c.Actor = fsm.Actor{Identity: identity, Token: true}
		return l.admit(c)
	}
	var refused *fsm.Result
	for range 1000 {
		if refused = write("mallory"); refused != nil {
			break
		}
	}
	require.NotNil(t, refused)
	require.NotContains(t, refused.Err.Message, m.SID.String())
	require.Nil(t, write("owner"))
}

// A follower that becomes leader knows what its own clients have read before.
func TestReadsThroughANodeOutliveTheLeader(t *testing.T) {
	l := newLimited(t)
	const bucket = "read-document-x"
	for range 150 {
		l.chargeRead(bucket)
	}
	ask := func(n uint32) time.Duration {
		return l.admitReads([]cluster.ReadCharge{{Bucket: bucket, Count: n}})[0].RetryAfter
	}
	require.Zero(t, ask(50))
	require.Equal(t, time.Second, ask(1))
	for range 150 {
		l.chargeRead(bucket)
	}
	require.Equal(t, 8*time.Second, ask(1), "what others let through may go below zero")
}

// A follower that becomes leader knows what was written before.
func TestLevelsOutliveTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := time.Now
		node := fsmtest.New(clock)
		follower := newLimits(ratelimit.Default(), clock, space{})
		follower.store.Store(node.FSM())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			follower.follow(ctx, node.FSM().Feed(), func() bool { return false })
		}()
		synctest.Wait() // it follows

		m, stream := newSID(objects.KindMap), newSID(objects.KindStream)
		node.Must(&fsm.CreateObject{SID: m})
		node.Must(&fsm.CreateObject{SID: stream})
		for i := range 60 {
			key := fsm.ItemKey{Key: fmt.Sprint(i)}
			node.Must(&fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Item: key, Mode: fsm.AddItem, Data: data(2048)})
			node.Must(&fsm.RemoveItem{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Item: key})
			node.Must(&fsm.Publish{Stream: fsm.Ref{SID: stream}, Data: data(10)})
		}
		synctest.Wait()

		count := func(op fsm.Op) (passed int) {
			for follower.admit(command(op)) == nil {
				passed++
			}
			return passed
		}
		require.Equal(t, 200-60*3, count(&fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Data: data(10)}))
		require.Equal(t, 300-60, count(&fsm.Publish{Stream: fsm.Ref{SID: stream}, Data: data(10)}))
		require.Equal(t, 199, count(&fsm.CreateObject{SID: newSID(objects.KindMap)}))
		stop()
		<-done
	})
}

func TestALeaderDoesNotChargeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := fsmtest.New(time.Now)
		leader := newLimits(ratelimit.Default(), time.Now, space{})
		leader.store.Store(node.FSM())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			leader.follow(ctx, node.FSM().Feed(), func() bool { return true })
		}()
		synctest.Wait() // it follows
		sid := newSID(objects.KindDocument)
		node.Must(&fsm.CreateObject{SID: sid})
		update := &fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: sid}, Data: data(10)}
		node.Must(update)
		synctest.Wait()
		passed := 0
		for leader.admit(command(update)) == nil {
			passed++
		}
		require.Equal(t, 200, passed)
		stop()
		<-done
	})
}

func TestWhatExpiresIsNobodysWrite(t *testing.T) {
	l := newLimits(ratelimit.Default(), time.Now, space{})
	object := &objects.Object{SID: newSID(objects.KindMap)}
	bucket := ratelimit.Bucket{Name: "write-map-" + object.SID.String(), Rate: 20}
	removed := objects.Event{Type: objects.ItemRemoved, Object: object, Item: &objects.Item{Expires: 1000}}

	removed.At = 1000
	l.charge(removed)
	require.Zero(t, l.buckets.Take(bucket, 200, time.UnixMilli(1000)), "the bucket was full")
	removed.At = 999
	l.charge(removed)
	require.Equal(t, time.Second, l.buckets.Take(bucket, 1, time.UnixMilli(1000)))
}

func TestRecentForgetsTheOldest(t *testing.T) {
	var r recent
	first := fsm.NewID()
	r.add(first)
	for range 2 * recentLength {
		require.LessOrEqual(t, len(r.young)+len(r.old), 2*recentLength)
		r.add(fsm.NewID())
	}
	require.Zero(t, r.times(first))
	last := fsm.NewID()
	r.add(last)
	r.add(last)
	require.Equal(t, 2, r.times(last))
}
