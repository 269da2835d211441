package limits

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
)

// limited is a leader's limits over a store whose clock stands still.
type limited struct {
	*Limits
	node *fsmtest.Node
	now  time.Time
}

func newLimited(t *testing.T) *limited {
	t.Helper()
	l := &limited{now: time.Unix(1_700_000_000, 0)}
	clock := func() time.Time { return l.now }
	l.node = fsmtest.New(clock)
	l.Limits = New(Default(), clock)
	return l
}

func (l *limited) create(kind objects.Kind, name string) objects.SID {
	sid := newSID(kind)
	l.node.Must(&fsm.CreateObject{SID: sid, UniqueName: name})
	return sid
}

// admit is Admit as the leader of a cluster asks.
func (l *limited) admit(c *fsm.Command) *objects.Error { return admit(l.Limits, l.node, c) }

func admit(l *Limits, n *fsmtest.Node, c *fsm.Command) *objects.Error {
	_, known := n.FSM().Lookup(c.ID)
	return l.Admit(n.View(), c, known)
}

func newSID(kind objects.Kind) objects.SID { return objects.NewSID(kind, commandid.New()) }

// wait takes for a charge, and returns how long it has to wait.
func (l *limited) wait(c charge) time.Duration {
	wait, _ := l.take(l.now, c)
	return wait
}

// count says how many of the same writes pass before the first refusal.
func (l *limited) count(t *testing.T, op fsm.Op) (passed int, refused *objects.Error) {
	t.Helper()
	for passed < 10_000 {
		if r := l.admit(command(op)); r != nil {
			return passed, r
		}
		passed++
	}
	return passed, nil
}

func command(op fsm.Op) *fsm.Command {
	return &fsm.Command{ID: commandid.New(), Service: fsmtest.Service, Op: op}
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

func TestFreeOperationsAreNotLimited(t *testing.T) {
	l := newLimited(t)
	m := fsm.Ref{SID: l.create(objects.KindMap, "")}
	for _, op := range []fsm.Op{
		&fsm.RemoveObject{Kind: objects.KindMap, Object: m},
		&fsm.CreateKey{SID: newSID(objects.KindKey)},
		&fsm.UpdateService{},
	} {
		passed, _ := l.count(t, op)
		require.Equal(t, 10_000, passed, "%T", op)
	}
	require.Nil(t, l.admit(fsm.Expire(commandid.New())))
}

func TestOffDisablesAllLimits(t *testing.T) {
	l := newLimited(t)
	l.Limits = New(Off(), l.Limits.clock)
	m := fsm.Ref{SID: l.create(objects.KindMap, "")}
	for _, ref := range []fsm.Ref{m, {Name: "unknown"}} {
		passed, _ := l.count(t, &fsm.WriteItem{Kind: objects.KindMap, Object: ref, Data: data(10)})
		require.Equal(t, 10_000, passed)
	}
	for class := range objects.BucketClass(objects.BucketClasses) {
		grants := l.AdmitReads([]cluster.ReadCharge{{Bucket: objects.Bucket{Class: class, SID: m.SID, Identity: "alice"}, Count: 10_000}})
		require.EqualValues(t, 10_000, grants[0].Count)
	}
}

func TestEveryOperationHasAPrice(t *testing.T) {
	l := newLimited(t)
	for _, op := range fsm.Operations() {
		_, priced := ofCommand(l.node.View(), command(op))
		require.True(t, priced, "%T", op)
	}
}

func TestEveryClassHasARate(t *testing.T) {
	table := tableOf(Default())
	for class := objects.BucketNone + 1; class < objects.BucketClasses; class++ {
		own, shared := table.buckets(objects.Bucket{Class: class, Identity: "alice"})
		require.Positive(t, own.Rate+shared.Rate, "%v", own.Key)
		require.False(t, shared.Rate > 0 && own.Rate >= shared.Rate, "%v: one identity can use up what all share", own.Key)
	}
	own, shared := table.buckets(objects.Bucket{Class: 255, Identity: "alice"})
	require.Zero(t, own.Rate+shared.Rate, "of a newer release")
}

// What is not there costs log entries and rounds, too.
func TestRequestsForMissingObjectsAreLimitedByIdentity(t *testing.T) {
	l := newLimited(t)
	for _, op := range []fsm.Op{
		&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{Name: "unknown"}, Data: data(10)},
		&fsm.RemoveObject{Kind: objects.KindDocument, Object: fsm.Ref{Name: "unknown"}},
		&fsm.Publish{Stream: fsm.Ref{Name: "unknown"}},
	} {
		passed, refused := l.count(t, op)
		require.Equal(t, 1000, passed, "%T", op)
		require.Equal(t, "Rate limit exceeded for missing-"+fsmtest.Service.String(), refused.Message)
		l.now = l.now.Add(time.Minute)
	}
	c := command(&fsm.CreateObject{SID: newSID(objects.KindMap)})
	c.Service = newSID(objects.KindService)
	cost, _ := ofCommand(l.node.View(), c)
	require.Equal(t, charge{objects.Bucket{Class: objects.BucketMisses}, 1}, cost, "services made up share one bucket")
}

func as(identity string, op fsm.Op) *fsm.Command {
	c := command(op)
	c.Actor = fsm.Actor{Identity: identity, Token: true}
	return c
}

// useUp admits writes of an identity until one is refused.
func (l *limited) useUp(t *testing.T, identity string, op fsm.Op) (passed int) {
	t.Helper()
	for passed < 10_000 {
		if refused := l.admit(as(identity, op)); refused != nil {
			require.ErrorIs(t, refused, objects.ErrRate)
			return passed
		}
		passed++
	}
	return passed
}

func TestOneIdentityLeavesRoomForOthers(t *testing.T) {
	l := newLimited(t)
	m := fsm.Ref{SID: l.create(objects.KindMap, "")}
	stream := fsm.Ref{SID: l.create(objects.KindStream, "")}
	for _, c := range []struct {
		op       fsm.Op
		one, all int
	}{
		{&fsm.WriteItem{Kind: objects.KindMap, Object: m, Data: data(10)}, 150, 200},
		{&fsm.Publish{Stream: stream, Data: data(10)}, 225, 300},
		{&fsm.CreateObject{SID: newSID(objects.KindList)}, 150, 200},
	} {
		require.Equal(t, c.one, l.useUp(t, "mallory", c.op), "%T", c.op)
		for range 1000 {
			require.NotNil(t, l.admit(as("mallory", c.op)))
		}
		require.Equal(t, c.all-c.one, l.useUp(t, "alice", c.op), "%T: refusals took nothing from it", c.op)

		l.now = l.now.Add(time.Second)
		rest, _ := l.count(t, c.op) // REST credentials
		require.Equal(t, c.all/10, rest)
		for range 1000 {
			require.NotNil(t, l.admit(as("bob", c.op)), "all is used up")
		}
		l.now = l.now.Add(time.Minute)
		require.Equal(t, c.one, l.useUp(t, "bob", c.op))
	}
}

func TestOneIdentityLeavesReadsAndQueriesToOthers(t *testing.T) {
	l := newLimited(t)
	sid := newSID(objects.KindMap)
	for _, c := range []struct {
		class    objects.BucketClass
		one, all uint32
	}{{objects.BucketReads, 150, 200}, {objects.BucketQueries, 200, 2000}} {
		read := func(identity string, count uint32) uint32 {
			b := objects.Bucket{Class: c.class, SID: sid, Identity: identity}
			return l.AdmitReads([]cluster.ReadCharge{{Bucket: b, Count: count}})[0].Count
		}
		require.Equal(t, c.one, read("mallory", 5000))
		require.Zero(t, read("mallory", 5000))
		require.Equal(t, min(c.one, c.all-c.one), read("alice", 5000))
		require.Equal(t, c.all-c.one-min(c.one, c.all-c.one), read("", 5000))
	}
}

// The price of an event is that of its command, so that a follower charges what
// the leader has charged.
func TestEventsCostWhatTheirCommandsDid(t *testing.T) {
	l := newLimited(t)
	cursor := l.node.FSM().Feed().Follow()
	m, list, document, stream := newSID(objects.KindMap), newSID(objects.KindList), newSID(objects.KindDocument), newSID(objects.KindStream)
	ref := func(sid objects.SID) fsm.Ref { return fsm.Ref{SID: sid} }
	costs, done := 0, map[string]bool{}
	for _, op := range []fsm.Op{
		&fsm.CreateObject{SID: m}, &fsm.CreateObject{SID: list}, &fsm.CreateObject{SID: document, Data: data(20)}, &fsm.CreateObject{SID: stream},
		&fsm.UpdateObject{Kind: objects.KindDocument, Object: ref(document), Data: data(5000)},
		&fsm.UpdateObject{Kind: objects.KindList, Object: ref(list), Data: data(2000)},
		&fsm.WriteItem{Kind: objects.KindMap, Object: ref(m), Item: fsm.ItemKey{Key: "k"}, Mode: fsm.PutItem, Data: data(4000)},
		&fsm.WriteItem{Kind: objects.KindMap, Object: ref(m), Item: fsm.ItemKey{Key: "k"}, Mode: fsm.PutItem, Data: data(100)},
		&fsm.OpenLease{ID: "L", Grace: 60_000}, // which has no event
		&fsm.HoldItem{Write: fsm.WriteItem{Kind: objects.KindMap, Object: ref(m), Item: fsm.ItemKey{Key: "k"}, Mode: fsm.PutItem, Data: data(3000)}, Lease: "L"},
		&fsm.RemoveItem{Kind: objects.KindMap, Object: ref(m), Item: fsm.ItemKey{Key: "k"}},
		&fsm.Publish{Stream: ref(stream), SID: newSID(objects.KindMessage), Data: data(3000)},
		&fsm.SetPermission{Kind: objects.KindMap, Object: ref(m), Identity: "x", Rights: objects.Read},
		&fsm.RemovePermission{Kind: objects.KindMap, Object: ref(m), Identity: "x"},
		&fsm.RemoveObject{Kind: objects.KindMap, Object: ref(m)},
		&fsm.OpenDurable{List: fsm.Ref{Name: "stream"}, SID: newSID(objects.KindList)},
		&fsm.AppendDurable{List: ref(list), Items: [][]byte{data(4000)}},
	} {
		done[fmt.Sprintf("%T", op)] = true
		for _, c := range []*fsm.Command{command(op), as("alice", op)} {
			cost, priced := ofCommand(l.node.View(), c)
			require.True(t, priced)
			result, err := l.node.Propose(t.Context(), c)
			require.NoError(t, err)
			if _, opens := op.(*fsm.OpenDurable); result.Err != nil || opens && !result.Created {
				continue // done by the first of the two
			}
			if _, lease := op.(*fsm.OpenLease); lease {
				continue
			}
			batch, err := cursor.Next(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, batch.Events, "%T", op)
			require.Equal(t, cost, ofEvent(batch.Events[0].Event), "%T", op)
			costs++
		}
	}
	require.Greater(t, costs, 15)
	for _, op := range fsm.Operations() {
		if fsm.PriceOf(op) == fsm.PerPart {
			continue // its operations have events, and prices, of their own
		}
		require.True(t, done[fmt.Sprintf("%T", op)] || fsm.PriceOf(op) == fsm.Free, "what its event costs is not compared: %T", op)
	}
}

func TestObjectHasOneBucketForNameAndSID(t *testing.T) {
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
func TestAdmittedCommandIsNotRefusedOnRetry(t *testing.T) {
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

func bucketOf(class objects.BucketClass) objects.Bucket {
	return objects.Bucket{Class: class, SID: objects.NewSID(objects.KindMap, [16]byte{7})}
}

func TestReadLimits(t *testing.T) {
	l := newLimited(t)
	ask := func(class objects.BucketClass, n uint32) time.Duration {
		other := objects.Bucket{Class: class, SID: objects.NewSID(objects.KindMap, [16]byte{8})}
		return l.AdmitReads([]cluster.ReadCharge{{Bucket: other, Count: 1}, {Bucket: bucketOf(class), Count: n}})[1].RetryAfter
	}
	for class, n := range map[objects.BucketClass]uint32{
		objects.BucketReads: 200, objects.BucketQueries: 2000, objects.BucketPermissionReads: 800, objects.BucketMisses: 1000,
	} {
		require.Zero(t, ask(class, n))
		require.Equal(t, time.Second, ask(class, 1))
	}
}

func TestReadRoundAdmitsAsManyReadsAsTokens(t *testing.T) {
	l := newLimited(t)
	read := func(n uint32) cluster.ReadGrant {
		return l.AdmitReads([]cluster.ReadCharge{{Bucket: bucketOf(objects.BucketReads), Count: n}})[0]
	}
	require.Equal(t, cluster.ReadGrant{Count: 150}, read(150))
	require.Equal(t, cluster.ReadGrant{Count: 50, RetryAfter: time.Second}, read(400), "the others wait for one token each")
	l.now = l.now.Add(time.Second)
	require.Equal(t, cluster.ReadGrant{Count: 20, RetryAfter: time.Second}, read(30), "refusals cost nothing")
}

func TestCallersWithoutPermissionPayFromTheirOwnBucket(t *testing.T) {
	l := newLimited(t)
	m := fsm.Ref{SID: l.create(objects.KindMap, "")}
	yes := true
	l.node.Must(&fsm.UpdateService{ACLEnabled: &yes})
	l.node.Must(&fsm.SetPermission{Kind: objects.KindMap, Object: m, Identity: "owner", Rights: objects.Read | objects.Write | objects.Manage})
	for _, op := range []fsm.Op{
		&fsm.WriteItem{Kind: objects.KindMap, Object: m, Data: data(10)},
		&fsm.SetPermission{Kind: objects.KindMap, Object: m, Identity: "x"},
		&fsm.RemoveObject{Kind: objects.KindMap, Object: m},
		&fsm.UpdateObject{Kind: objects.KindMap, Object: m, TTL: new(int64(1000))},
	} {
		for l.admit(as("mallory", op)) == nil {
		}
		refused := l.admit(as("mallory", op))
		require.NotContains(t, refused.Message, m.SID.String(), "%T", op)
		require.Nil(t, l.admit(as("owner", op)), "%T", op)
		l.now = l.now.Add(time.Minute)
	}
}

// A follower that becomes leader knows what its own clients have read before.
func TestReadsThroughANodeOutliveTheLeader(t *testing.T) {
	l := newLimited(t)
	b := bucketOf(objects.BucketReads)
	for range 150 {
		l.ChargeRead(b)
	}
	ask := func(n uint32) time.Duration {
		return l.AdmitReads([]cluster.ReadCharge{{Bucket: b, Count: n}})[0].RetryAfter
	}
	require.Zero(t, ask(50))
	require.Equal(t, time.Second, ask(1))
	for range 150 {
		l.ChargeRead(b)
	}
	require.Equal(t, 8*time.Second, ask(1), "what others let through may go below zero")
}

// A follower that becomes leader knows what was written before.
func TestLevelsOutliveTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := time.Now
		node := fsmtest.New(clock)
		follower := New(Default(), clock)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			follower.Follow(ctx, node.FSM().Feed(), func() bool { return false })
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
			for admit(follower, node, command(op)) == nil {
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

func TestLeaderDoesNotChargeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := fsmtest.New(time.Now)
		leader := New(Default(), time.Now)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			leader.Follow(ctx, node.FSM().Feed(), func() bool { return true })
		}()
		synctest.Wait() // it follows
		sid := newSID(objects.KindDocument)
		node.Must(&fsm.CreateObject{SID: sid})
		update := &fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: sid}, Data: data(10)}
		node.Must(update)
		synctest.Wait()
		passed := 0
		for admit(leader, node, command(update)) == nil {
			passed++
		}
		require.Equal(t, 200, passed)
		stop()
		<-done
	})
}

func TestExpiryIsNotCharged(t *testing.T) {
	object := &objects.Object{SID: newSID(objects.KindMap)}
	removed := objects.Event{Type: objects.ItemRemoved, Object: object, Item: &objects.Item{Expires: 1000}}
	removed.At = 1000
	require.Zero(t, ofEvent(removed))
	removed.At = 999
	require.Equal(t, write(object, "", 0), ofEvent(removed))
}

// An identity's own level goes over to a new leader, too.
func TestLevelsOfIdentitiesOutliveTheLeader(t *testing.T) {
	l := newLimited(t)
	m := &objects.Object{SID: newSID(objects.KindMap)}
	e := objects.Event{Type: objects.ItemUpdated, Object: m, Item: &objects.Item{}, Identity: "mallory", At: l.now.UnixMilli()}
	for range 150 {
		l.chargeEvent(e)
	}
	require.NotZero(t, l.wait(write(m, "mallory", 10)))
	require.Zero(t, l.wait(write(m, "alice", 10)))
	e.At -= 10_000
	for range 150 {
		l.chargeEvent(e)
	}
	require.Zero(t, l.wait(write(m, "alice", 10)), "what was long ago is earned again")
}

func TestRecentForgetsTheOldest(t *testing.T) {
	var r recent
	first := commandid.New()
	r.add(first)
	for range 2 * recentLength {
		require.LessOrEqual(t, len(r.young)+len(r.old), 2*recentLength)
		r.add(commandid.New())
	}
	require.Zero(t, r.times(first))
	last := commandid.New()
	r.add(last)
	r.add(last)
	require.Equal(t, 2, r.times(last))
}

func TestWritePrice(t *testing.T) {
	for bytes, want := range map[int]float64{
		0: 1, 1: 1, 1023: 1, 1024: 1, 1536: 1.5, 2048: 2, 5120: 5, 10239: 10239.0 / 1024, 10240: 10, 10241: 10, 16384: 10,
	} {
		require.Equal(t, want, writePrice(bytes), "%d bytes", bytes)
	}
}

// A transaction pays for each of its operations, or for none.
func TestTransactionPaysForItsOperations(t *testing.T) {
	l := newLimited(t)
	m, document := newSID(objects.KindMap), newSID(objects.KindDocument)
	for _, sid := range []objects.SID{m, document} {
		_, err := l.node.Propose(t.Context(), command(&fsm.CreateObject{SID: sid, Data: data(20)}))
		require.NoError(t, err)
	}
	put := &fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Item: fsm.ItemKey{Key: "k"}, Mode: fsm.PutItem, Data: data(10)}
	update := &fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: document}, Data: data(10)}
	passed, refused := l.count(t, &fsm.Transact{Parts: []fsm.Part{{Op: put}, {Op: put}, {Op: update}}})
	require.Equal(t, 100, passed, "two of the 200 tokens of the map each")
	require.ErrorIs(t, refused, objects.ErrRate)
	refusals, total := l.Refusals()
	require.EqualValues(t, 1, total, "one request was refused, however many operations it has")
	require.Len(t, refusals, 1)
	require.Equal(t, m, refusals[0].Bucket.SID, "by the map, which lacks tokens")
	passed, _ = l.count(t, update)
	require.Equal(t, 100, passed, "the document pays for nothing that was refused")
}
