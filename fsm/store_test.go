package fsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func TestRepeatedCommandHappensOnce(t *testing.T) {
	s := newStore(t)
	l := s.create(objects.KindList, "")
	c := s.command(asREST, &WriteItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Mode: AppendItem, Data: []byte(`1`)})
	first := s.send(c)[0]
	again := s.send(c)[0]
	require.Nil(t, again.Err)
	require.True(t, again.Repeated)
	require.Equal(t, first.Item.Index, again.Item.Index)
	require.EqualValues(t, 1, s.object(l).Items)

	known, ok := s.fsm.Lookup(c.ID)
	require.True(t, ok)
	require.Equal(t, first.Item.Index, known.Item.Index)
}

func TestKeyOfAnotherRequestIsRefused(t *testing.T) {
	s := newStore(t)
	c := s.command(asREST, &CreateObject{SID: s.sid(objects.KindMap)})
	c.ClientChosen, c.Fingerprint = true, [16]byte{1}
	require.Nil(t, s.send(c)[0].Err)
	other := *c
	other.Fingerprint = [16]byte{2}
	refused(t, objects.ErrMoreThanOnce, s.send(&other)[0])
}

func TestTransientRefusalIsNotRemembered(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{ACLEnabled: ptr(true)})
	d := s.create(objects.KindDocument, "")
	c := s.command(asAlice, &UpdateObject{Kind: objects.KindDocument, Object: Ref{SID: d.SID}, Data: []byte(`1`)})
	c.ClientChosen = true
	refused(t, objects.ErrForbidden, s.send(c)[0])
	s.must(asREST, &SetPermission{Kind: objects.KindDocument, Object: Ref{SID: d.SID}, Identity: "alice", Rights: objects.Write})
	require.Nil(t, s.send(c)[0].Err)
}

func TestRefusalIsRememberedWithoutIdempotencyKey(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{ACLEnabled: ptr(true)})
	d := s.create(objects.KindDocument, "")
	c := s.command(asAlice, &UpdateObject{Kind: objects.KindDocument, Object: Ref{SID: d.SID}, Data: []byte(`"sneaky"`)})
	refused(t, objects.ErrForbidden, s.send(c)[0])
	s.must(asREST, &SetPermission{Kind: objects.KindDocument, Object: Ref{SID: d.SID}, Identity: "alice", Rights: objects.Write})
	again := s.send(c)[0] // the copy that a node sent when the leader changed
	refused(t, objects.ErrForbidden, again)
	require.True(t, again.Repeated)
	require.Equal(t, `{}`, string(s.object(d).Data))
}

func TestRepeatedCommandAppliesOnceAcrossClockStep(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		s := newStore(t)
		l := s.create(objects.KindList, "")
		c := s.command(asREST, &WriteItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Mode: AppendItem, Data: []byte(`1`)})
		c.ClientChosen = keyed
		require.Nil(t, s.send(c)[0].Err)
		s.time += 365 * 24 * 3600 * 1000
		s.create(objects.KindDocument, "") // what is forgotten with time is forgotten with this entry
		again := s.send(c)[0]
		require.Nil(t, again.Err)
		require.True(t, again.Repeated)
		require.EqualValues(t, 1, s.object(l).Items)
	}
}

func TestDedupWindowExpiresAndRefusesOlderCommands(t *testing.T) {
	s := newStore(t)
	d := s.create(objects.KindDocument, "")
	update := func() *Command {
		return s.command(asREST, &UpdateObject{Kind: objects.KindDocument, Object: Ref{SID: d.SID}, Data: []byte(`1`)})
	}
	old := update()
	require.Nil(t, s.send(old)[0].Err)
	delayed := update() // issued now, arrives after the window has moved on
	s.pass(nodeWindow)
	require.Nil(t, s.send(update())[0].Err, "a new command is not affected")
	_, known := s.fsm.Lookup(old.ID)
	require.False(t, known)
	refused(t, objects.ErrUnknownWriter, s.send(old)[0])
	require.Nil(t, s.send(delayed)[0].Err, "issued after the last one that was forgotten")
}

func TestNodeDedupWindowIsBounded(t *testing.T) {
	d := newDedup()
	d.maxRecords = 10 * chunkRecords
	first := newID()
	for i := range d.maxRecords + 10 {
		id := first
		if i > 0 {
			id = newID()
		}
		d.remember(&Command{ID: id}, 0, 1, Result{Index: uint64(i + 1)})
	}
	require.LessOrEqual(t, len(d.byID), d.maxRecords)
	_, known := d.lookup(first)
	require.False(t, known)
	_, err := d.check(&Command{ID: first, Issued: 0}, 0)
	require.ErrorIs(t, err, objects.ErrUnknownWriter)
	_, err = d.check(&Command{ID: first, Issued: chunkRecords + 1}, 0)
	require.Nil(t, err)
}

// pass lets the time of a dedup window pass, in time and in log entries.
func (s *store) pass(kind windowKind) {
	s.time += windowMillis[kind] + 1
	s.index += windowEntries + 1
}

// keyed makes a command as a client's retry does: the key says which it is, and
// the position at which it was issued is of now.
func (s *store) keyed(actor Actor, key string, op Op) *Command {
	c := s.command(actor, op)
	c.ID, c.ClientChosen, c.Fingerprint = CommandID([]byte(fmt.Sprintf("%-16s", key))), true, [16]byte{1}
	return c
}

func TestIdempotencyKeyIsRememberedUnderLoad(t *testing.T) {
	for _, actor := range []Actor{asREST, asAlice} {
		s := newStore(t)
		l := s.create(objects.KindList, "")
		push := &WriteItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Mode: AppendItem, Data: []byte(`1`)}
		require.Nil(t, s.send(s.keyed(actor, "mine", push))[0].Err)
		const others = 120_000 // more than were kept when they were counted
		for batch := range others / 500 {
			var commands []*Command
			for i := range 500 {
				commands = append(commands, s.keyed(actor, fmt.Sprint(batch*500+i), &Publish{Stream: Ref{Name: "none"}, Data: []byte(`1`)}))
			}
			s.send(commands...)
		}
		again := s.send(s.keyed(actor, "mine", push))[0]
		require.Nil(t, again.Err)
		require.True(t, again.Repeated)
		require.EqualValues(t, 1, s.object(l).Items)

		window := windowMillis[windowOf(s.keyed(actor, "mine", push))]
		s.time += window
		s.index += 10 * windowEntries
		require.True(t, s.send(s.keyed(actor, "mine", push))[0].Repeated, "remembered until the end of its time")
	}
}

func TestAnswersBeyondBudgetAreForgottenButKeysAreKept(t *testing.T) {
	s := newStore(t)
	s.fsm.dedup.maxAnswers = 1 << 20
	l := s.create(objects.KindList, "")
	push := &WriteItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Mode: AppendItem, Data: []byte(`1`)}
	gone := &UpdateObject{Kind: objects.KindDocument, Object: Ref{Name: "later"}, Data: []byte(`1`)}
	require.Nil(t, s.send(s.keyed(asREST, "mine", push))[0].Err)
	refused(t, objects.ErrNameGone, s.send(s.keyed(asREST, "gone", gone))[0])
	for i := range 20_000 {
		s.send(s.keyed(asREST, fmt.Sprint(i), push))
	}
	require.LessOrEqual(t, s.fsm.dedup.windows[keyWindow].answers, int64(1<<20))
	refused(t, objects.ErrAnswerGone, s.send(s.keyed(asREST, "mine", push))[0])
	require.EqualValues(t, 20_001, s.object(l).Items)
	require.True(t, s.send(s.keyed(asREST, "19999", push))[0].Repeated, "the newest have their answers")
	s.create(objects.KindDocument, "later")
	require.Nil(t, s.send(s.keyed(asREST, "gone", gone))[0].Err, "a refusal changed nothing, and is decided anew")
	require.True(t, s.send(s.keyed(asREST, "gone", gone))[0].Repeated)

	back := New(Config{})
	require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, s.fsm)))))
	require.Equal(t, s.fsm.Windows(), back.Windows())
	require.Equal(t, sum(t, s.fsm), sum(t, back))
}

func (s *store) newService() objects.SID {
	return s.must(asREST, &CreateService{SID: s.sid(objects.KindService)}).Service.SID
}

func (s *store) in(service objects.SID, c *Command) *Command {
	c.Service = service
	return c
}

func TestServiceKeyShareLeavesRoomForOthers(t *testing.T) {
	for _, flooder := range []Actor{asREST, asAlice} {
		s := newStore(t)
		const room = 4000
		s.fsm.dedup.maxRecords = room
		victim, late := s.newService(), s.newService()
		create := func() Op { return &CreateObject{SID: s.sid(objects.KindMap)} }
		s.must(asREST, &CreateKey{SID: s.sid(objects.KindKey)}) // a node's id takes no room
		flood := func() (taken int) {
			for i := range 2 * room {
				c := s.keyed(flooder, fmt.Sprint("flood ", i), &Publish{Stream: Ref{Name: "none"}, Data: []byte(`1`)})
				switch r := s.send(c)[0]; {
				case errors.Is(r.Err, objects.ErrNameGone): // decided, and remembered
					taken++
				default:
					require.ErrorIs(t, r.Err, objects.ErrKeysFull)
					require.ErrorContains(t, r.Err, "The service has as many")
				}
			}
			return taken
		}
		require.Equal(t, room*3/4, flood(), "what one service gets that is alone")
		for i := range room / 16 { // while the flood goes on
			for _, actor := range []Actor{asREST, asAlice} {
				key := fmt.Sprint(actor.Identity, " ", i)
				require.Nil(t, s.send(s.in(victim, s.keyed(actor, key, create())))[0].Err)
			}
			require.ErrorIs(t, s.send(s.keyed(flooder, fmt.Sprint("more ", i), create()))[0].Err, objects.ErrKeysFull)
		}
		require.True(t, s.send(s.keyed(flooder, "flood 0", &Publish{Stream: Ref{Name: "none"}, Data: []byte(`1`)}))[0].Repeated, "what is remembered is answered")
		require.Nil(t, s.do(flooder, create()).Err, "writes without a key are made")

		// A store that was restored decides the same.
		back := New(Config{})
		require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, s.fsm)))))
		back.dedup.maxRecords = room
		require.Equal(t, s.fsm.dedup.keys, back.dedup.keys)
		log := s.entry(s.keyed(flooder, "one more", create()), s.in(late, s.keyed(flooder, "first", create())))
		one, two := s.fsm.Apply(log).([]*Result), back.Apply(log).([]*Result)
		require.ErrorIs(t, one[0].Err, objects.ErrKeysFull)
		require.Nil(t, one[1].Err)
		require.Equal(t, one, two)
		require.Equal(t, sum(t, s.fsm), sum(t, back))

		// When its keys are forgotten, it may use others.
		for len(s.fsm.dedup.keys) > 0 {
			s.pass(keyWindow)
			s.do(asREST, &expire{})
		}
		require.Nil(t, s.send(s.keyed(flooder, "one more", create()))[0].Err)
	}
}

func TestNewKeysAreRefusedWhenWindowIsFull(t *testing.T) {
	s := newStore(t)
	s.fsm.dedup.maxRecords = 100
	l := s.create(objects.KindList, "")
	push := &WriteItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Mode: AppendItem, Data: []byte(`1`)}
	require.Nil(t, s.send(s.keyed(asREST, "0", push))[0].Err)
	for i := range 99 { // each of a service that holds no more
		require.Nil(t, s.send(s.in(s.newService(), s.keyed(asREST, fmt.Sprint(i+1), &CreateObject{SID: s.sid(objects.KindMap)})))[0].Err)
	}
	refused(t, objects.ErrKeysFull, s.send(s.keyed(asREST, "one more", push))[0])
	refused(t, objects.ErrKeysFull, s.send(s.keyed(asAlice, "one more", push))[0])
	require.True(t, s.send(s.keyed(asREST, "0", push))[0].Repeated, "none was forgotten for it")
	require.Nil(t, s.do(asREST, push).Err, "writes without a key are made")
	s.pass(keyWindow)
	s.do(asREST, &expire{})
	require.Nil(t, s.send(s.keyed(asREST, "one more", push))[0].Err)
	require.EqualValues(t, 3, s.object(l).Items)
}

func TestTimeNeverGoesBack(t *testing.T) {
	s := newStore(t)
	d := s.create(objects.KindDocument, "")
	before := s.fsm.View().Time()
	s.time -= 500_000
	s.must(asREST, &UpdateObject{Kind: objects.KindDocument, Object: Ref{SID: d.SID}, Data: []byte(`1`)})
	require.Equal(t, before, s.fsm.View().Time())
	require.Equal(t, before, s.object(d).Updated)
}

func TestFindChecksServiceThenObjectThenPermission(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{ACLEnabled: ptr(true)})
	d := s.create(objects.KindDocument, "named")
	s.must(asREST, &SetPermission{Kind: objects.KindDocument, Object: Ref{SID: d.SID}, Identity: "alice", Rights: objects.Read})
	elsewhere := Ref{SID: s.sid(objects.KindService)}
	here, there := Ref{SID: testService}, Ref{SID: d.SID}
	for name, x := range map[string]struct {
		service, object Ref
		actor           Actor
		want            objects.Rights
		refused         *objects.Error
	}{
		"by SID":               {here, there, asAlice, objects.Read, nil},
		"by name":              {here, Ref{Name: "named"}, asAlice, objects.Read, nil},
		"for who is not bound": {here, there, asREST, objects.Manage, nil},
		"no service":           {elsewhere, there, asAlice, objects.Write, objects.ErrServiceGone},
		"no SID":               {here, Ref{SID: s.sid(objects.KindDocument)}, asAlice, objects.Write, objects.ErrGone(objects.KindDocument)},
		"no name":              {here, Ref{Name: "other"}, asAlice, objects.Write, objects.ErrNameGone},
		"no permission":        {here, there, asAlice, objects.Write, objects.ErrForbidden},
	} {
		service, object, refused := s.fsm.View().Find(x.actor, x.service, objects.KindDocument, x.object, x.want)
		require.Equal(t, x.refused, refused, name)
		require.Equal(t, x.refused == nil, service != nil && object != nil, name)
	}
	_, _, refused := s.fsm.View().Find(asREST, here, objects.KindNone, Ref{}, objects.Read)
	require.Equal(t, objects.ErrNotFound, refused, "no kind of object")
}

func TestPermissionsBindTokensOnly(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{ACLEnabled: ptr(true)})
	for _, kind := range []objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap} {
		o := s.create(kind, "")
		remove := &RemoveObject{Kind: kind, Object: Ref{SID: o.SID}}
		ttl := &UpdateObject{Kind: kind, Object: Ref{SID: o.SID}, TTL: ptr(int64(60))}
		refused(t, objects.ErrForbidden, s.do(asAlice, ttl))
		s.must(asREST, &SetPermission{Kind: kind, Object: Ref{SID: o.SID}, Identity: "alice", Rights: objects.Read | objects.Write})
		s.must(asAlice, ttl)
		refused(t, objects.ErrForbidden, s.do(asAlice, remove))
		s.must(asREST, &RemovePermission{Kind: kind, Object: Ref{SID: o.SID}, Identity: "alice"})
		refused(t, objects.ErrForbidden, s.do(asAlice, ttl))
		refused(t, objects.ErrPermissionGone, s.do(asREST, &RemovePermission{Kind: kind, Object: Ref{SID: o.SID}, Identity: "alice"}))
		s.must(asREST, remove)

		own := s.must(asAlice, &CreateObject{SID: s.sid(kind)}).Object
		require.Equal(t, "alice", own.CreatedBy)
		s.must(asAlice, &RemoveObject{Kind: kind, Object: Ref{SID: own.SID}})
	}
	stream := s.create(objects.KindStream, "")
	s.must(asAlice, &Publish{Stream: Ref{SID: stream.SID}, SID: s.sid(objects.KindMessage), Data: []byte(`{}`)})
}

func TestRevisionsOfAKeyNeverReturn(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "")
	seen := map[objects.Revision]bool{}
	note := func(r *Result) {
		require.False(t, seen[r.Item.Revision], "revision %v returned", r.Item.Revision)
		seen[r.Item.Revision] = true
	}
	for range 5 {
		note(s.put(m, "k", `1`))
		note(s.put(m, "k", `2`))
		note(s.put(m, "k", `3`))
		s.must(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "k"}})
	}
}

func TestPutWithAPrecondition(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "")
	put := func(match objects.Precondition) *Result {
		return s.do(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "k"}, Mode: PutItem, Data: []byte(`1`), Match: match})
	}
	refused(t, objects.ErrMapItemMismatch, put(objects.Precondition{Kind: objects.MatchAny}))
	refused(t, objects.ErrMapItemMismatch, put(objects.Precondition{Kind: objects.MatchRevision, Revision: 1}))
	r := put(objects.Precondition{Kind: objects.MatchAbsent})
	require.True(t, r.Created)
	refused(t, objects.ErrMapItemMismatch, put(objects.Precondition{Kind: objects.MatchAbsent}))
	require.False(t, put(objects.Precondition{Kind: objects.MatchRevision, Revision: r.Item.Revision}).Created)
}

func TestATTLAloneIsNoEvent(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "")
	s.put(m, "k", `1`)
	before := s.object(m)
	feed := s.fsm.Feed().Follow()
	r := s.must(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "k"}, Mode: UpdateItem, TTL: ptr(int64(60))})
	require.Equal(t, `1`, string(r.Item.Data), "the answer has the data, which the request did not")
	require.Equal(t, s.time+60_000, r.Item.Expires)
	require.Equal(t, before.EventID, s.object(m).EventID)
	r = s.must(asREST, &UpdateObject{Kind: objects.KindMap, Object: Ref{SID: m.SID}, TTL: ptr(int64(60))})
	require.Equal(t, before.EventID, r.Object.EventID)
	s.put(m, "k", `2`)
	b, err := feed.Next(t.Context())
	require.NoError(t, err)
	require.Len(t, b.Events, 1)
	require.Equal(t, `2`, string(b.Events[0].Item.Data), "the first event after it is the write of data")
}

func TestExpiryRemovesInOrderAndTellsEveryone(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "")
	feed := s.fsm.Feed().Follow()
	for i, ttl := range []int64{3, 1, 2, 9} {
		s.must(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: fmt.Sprint(i)}, Mode: PutItem, Data: []byte(`1`), TTL: &ttl})
		_, err := feed.Next(t.Context())
		require.NoError(t, err)
	}
	at, ok := s.fsm.View().NextExpiry()
	require.True(t, ok)
	require.Equal(t, s.time+1000, at)
	s.time += 3000
	s.expireAll()
	b, err := feed.Next(t.Context())
	require.NoError(t, err)
	var keys []string
	for _, e := range b.Events {
		require.Equal(t, objects.ItemRemoved, e.Type)
		require.Equal(t, objects.SystemIdentity, e.Identity)
		keys = append(keys, e.Item.Key)
	}
	require.Equal(t, []string{"1", "2", "0"}, keys)
	require.EqualValues(t, 1, s.object(m).Items)
}

func TestUpdateBeforeExpiryExtendsTTL(t *testing.T) {
	s := newStore(t)
	d := s.must(asREST, &CreateObject{SID: s.sid(objects.KindDocument), TTL: 1}).Object
	s.time += 2000
	s.must(asREST, &UpdateObject{Kind: objects.KindDocument, Object: Ref{SID: d.SID}, TTL: ptr(int64(60))})
	s.expireAll()
	require.NotNil(t, s.object(d))
}

func TestRemovedCollectionIsClearedInSteps(t *testing.T) {
	s := newStore(t)
	l := s.create(objects.KindList, "big")
	const items = maxCleared + 100
	for range items {
		s.must(asREST, &WriteItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Mode: AppendItem, Data: []byte(`1`), TTL: ptr(int64(1000))})
	}
	s.must(asREST, &RemoveObject{Kind: objects.KindList, Object: Ref{Name: "big"}})
	_, _, left := s.fsm.View().Count()
	require.Equal(t, items, left, "nothing is cleared at once")
	again := s.create(objects.KindList, "big")
	require.Empty(t, s.fsm.View().Items(s.object(again), Range{Limit: 10}), "the name is free, the new object empty")

	require.True(t, s.send(Expire(newID()))[0].More)
	_, _, left = s.fsm.View().Count()
	require.Less(t, left, items)
	s.expireAll()
	_, _, left = s.fsm.View().Count()
	require.Zero(t, left)
	_, due := s.fsm.View().NextExpiry()
	require.False(t, due, "the expiries of the items are gone too")
}

func TestRemovingAServiceRemovesWhatItHolds(t *testing.T) {
	s := newStore(t)
	refused(t, objects.ErrDefault, s.do(asREST, &RemoveService{}))
	sid := objects.NewSID(objects.KindService, [16]byte{9})
	s.must(asREST, &CreateService{SID: sid, Settings: DefaultSettings()})
	in := func(op Op) *Result {
		c := s.command(asREST, op)
		c.Service = sid
		return s.send(c)[0]
	}
	doc := in(&CreateObject{SID: s.sid(objects.KindDocument), UniqueName: "d", TTL: 5}).Object
	m := in(&CreateObject{SID: s.sid(objects.KindMap)}).Object
	in(&WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "k"}, Mode: PutItem, Data: []byte(`1`)})
	require.Nil(t, in(&RemoveService{}).Err)
	refused(t, objects.ErrServiceGone, in(&CreateObject{SID: s.sid(objects.KindMap)}))
	s.expireAll()
	_, objs, items := s.fsm.View().Count()
	require.Zero(t, objs)
	require.Zero(t, items)
	_, ok := s.fsm.View().ObjectBySID(doc.SID)
	require.False(t, ok)
}

func TestHistoryIsBoundedAndSaysSo(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "")
	big := `"` + strings.Repeat("x", 16000) + `"`
	n := maxTombstoneBytes/16000 + 10
	for i := range n {
		s.put(m, fmt.Sprint(i), big)
	}
	for i := range n {
		s.must(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: fmt.Sprint(i)}})
	}
	o, stored := s.object(m), s.stored(m)
	require.LessOrEqual(t, stored.TombstoneBytes, uint64(maxTombstoneBytes))
	require.NotZero(t, stored.HistoryFloor)
	_, err := s.fsm.View().Replay(o, 0, 0, 10)
	require.ErrorIs(t, err, objects.ErrHistory)
	_, err = s.fsm.View().Replay(o, o.EventID+1, o.EventID+1, 10)
	require.ErrorIs(t, err, objects.ErrHistory, "an event that this object never had")
	events, err := s.fsm.View().Replay(o, stored.HistoryFloor, stored.HistoryFloor, 10_000)
	require.Nil(t, err)
	require.Len(t, events, int(stored.Tombstones))
}

func TestStreamMessagesLeaveNothingBehind(t *testing.T) {
	s := newStore(t)
	o := s.create(objects.KindStream, "")
	feed := s.fsm.Feed().Follow()
	before := s.object(o)
	r := s.must(asAlice, &Publish{Stream: Ref{SID: o.SID}, SID: objects.NewSID(objects.KindMessage, [16]byte{7}), Data: []byte(`{"a":1}`)})
	b, err := feed.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, objects.MessagePublished, b.Events[0].Type)
	require.Equal(t, r.Message, b.Events[0].Message.SID)
	require.Equal(t, `{"a":1}`, string(b.Events[0].Message.Data))
	require.Equal(t, "alice", b.Events[0].Identity)
	require.Equal(t, before, s.object(o))
}

func TestWaitReturnsWithTheIndex(t *testing.T) {
	s := newStore(t)
	got := make(chan *View, 1)
	target := s.fsm.View().Index() + 2
	go func() {
		v, err := s.fsm.Wait(t.Context(), target)
		if err == nil {
			got <- v
		}
	}()
	s.create(objects.KindMap, "")
	s.create(objects.KindMap, "")
	select {
	case v := <-got:
		require.GreaterOrEqual(t, v.Index(), uint64(3))
	case <-time.After(5 * time.Second):
		t.Fatal("the waiter was not woken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.fsm.Wait(ctx, 1000)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, s.fsm.waiting, "a waiter that gave up is forgotten")
}

func TestFeedIsBoundedAndReportsLostPlaces(t *testing.T) {
	f := newFeed(4, defaultFeedBytes)
	event := Batch{Events: []Event{{}}}
	c := f.Follow()
	f.append(Batch{})
	for range 4 {
		f.append(event)
	}
	for range 4 {
		_, err := c.Next(t.Context())
		require.NoError(t, err)
	}
	for range 5 {
		f.append(event)
	}
	_, err := c.Next(t.Context())
	require.ErrorIs(t, err, ErrBehind)
	f.append(event)
	_, err = c.Next(t.Context())
	require.NoError(t, err, "it goes on from the newest batch")
	f.reset()
	_, err = c.Next(t.Context())
	require.ErrorIs(t, err, ErrBehind)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestFeedIsBoundedInBytes(t *testing.T) {
	const size = 16 << 10
	batch := Batch{Events: []Event{{Event: objects.Event{Message: &objects.Message{Data: make([]byte, size)}}}}}
	f := newFeed(1000, 10*batch.size())
	slow, quick := f.Follow(), f.Follow()
	for range 100 {
		f.append(batch)
		_, err := quick.Next(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, f.Bytes(), 10*batch.size())
	}
	_, err := slow.Next(t.Context())
	require.ErrorIs(t, err, ErrBehind)
	huge := Batch{Events: []Event{{Event: objects.Event{Message: &objects.Message{Data: make([]byte, 20*size)}}}}}
	f.append(huge)
	b, err := quick.Next(t.Context())
	require.NoError(t, err, "a batch above the bound reaches those who are in time")
	require.Equal(t, huge, b)
	f.append(batch)
	require.Equal(t, batch.size(), f.Bytes())
}

func TestFeedKeepsNoOldViews(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "")
	collected := make(chan struct{})
	runtime.AddCleanup(s.fsm.View(), func(done chan struct{}) { close(done) }, collected)
	s.put(m, "k", `1`)
	require.Eventually(t, func() bool {
		runtime.GC()
		select {
		case <-collected:
			return true
		default:
			return false
		}
	}, 5*time.Second, time.Millisecond)
}

func TestRaftsOwnEntriesMoveTheIndex(t *testing.T) {
	s := newStore(t)
	s.index++
	responses := s.fsm.ApplyBatch([]*raft.Log{{Index: s.index, Term: 3, Type: raft.LogConfiguration}})
	require.Equal(t, []any{nil}, responses)
	require.Equal(t, s.index, s.fsm.View().Index())
	require.EqualValues(t, 3, s.fsm.View().Term())
	require.Zero(t, s.fsm.View().TermStarted())
	log := s.entry(TermStarted(newID()))
	log.Term = 3
	s.fsm.Apply(log)
	require.EqualValues(t, 3, s.fsm.View().TermStarted())
}

func TestKeysAreCreatedAndRevoked(t *testing.T) {
	s := newStore(t)
	sid := objects.NewSID(objects.KindKey, [16]byte{3})
	s.must(asREST, &CreateKey{SID: sid, Secret: "secret"})
	k, ok := s.fsm.View().Key(sid)
	require.True(t, ok)
	require.Equal(t, "secret", k.Secret)
	s.must(asREST, &RevokeKey{SID: sid})
	require.Empty(t, s.fsm.View().Keys())
	refused(t, objects.ErrNotFound, s.do(asREST, &RevokeKey{SID: sid}))
}
