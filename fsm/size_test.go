package fsm

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// requireCounted compares the sums that are kept with a count of everything.
func requireCounted(t require.TestingT, v *View) {
	counted := int64(0)
	parts := map[uint64]uint64{} // of objects, by number
	add := func(object uint64, size int64) {
		counted += size
		parts[object] += uint64(size)
	}
	v.items.Scan(func(i *objects.Item) bool { add(i.Object, itemSize(i)); return true })
	tombstones, outbox := int64(0), int64(0)
	v.tombstones.Scan(func(x *Tombstone) bool { tombstones += tombstoneSize(x); return true })
	v.outbox.Scan(func(d *Delivery) bool { outbox += deliverySize(d); return true })
	require.Equal(t, tombstones, v.TombstoneBytes())
	require.Equal(t, outbox, v.OutboxBytes())
	v.permissions.Scan(func(p *objects.Permission) bool { add(p.Object, permissionSize(p)); return true })
	v.durables.Scan(func(d *Durable) bool { add(d.Object, durableSize(d)); return true })
	v.producers.Scan(func(p *knownProducer) bool { add(p.Object, producerSize(p)); return true })
	v.holds.Scan(func(x hold) bool { add(x.Object, holdSize(x)); return true })
	v.holders.Scan(func(h *Holder) bool { counted += holderSize(h); return true })
	services := map[uint64]int64{}
	v.objects.Scan(func(o *storedObject) bool {
		counted += objectSize(&o.Object)
		require.Equal(t, parts[o.Num], o.PartBytes, "parts of %v", o.SID)
		services[o.Service] += objectSize(&o.Object) + int64(parts[o.Num])
		return true
	})
	v.services.Scan(func(s *objects.Service) bool { counted += serviceSize(s); return true })
	v.keys.Scan(func(k *objects.APIKey) bool { counted += keySize(k); return true })
	v.endpoints.Scan(func(e Endpoint) bool { counted += endpointSize(e); return true })
	require.Equal(t, counted, v.Bytes())
	require.Equal(t, len(services), v.usage.Len())
	for service, bytes := range services {
		require.Equal(t, bytes, v.ServiceBytes(service))
	}
	requireIndexed(t, v)
}

// requireIndexed compares the indexes with what they are made of.
func requireIndexed(t require.TestingT, v *View) {
	require.Equal(t, v.tombstones.Len(), v.byAge.Len())
	require.Equal(t, v.items.Len(), v.changes.Len())
	require.Equal(t, v.endpoints.Len(), v.connections.Len())
	require.Equal(t, v.holds.Len(), v.held.Len())
	lapses := 0
	v.holders.Scan(func(h *Holder) bool {
		if h.Until != 0 {
			lapses++
			same, ok := v.lapses.Get(h)
			require.True(t, ok && same == h)
		}
		require.Len(t, v.heldBy(h, math.MaxInt), int(h.Items))
		return true
	})
	require.Equal(t, lapses, v.lapses.Len())
	absences := 0
	v.expiries.Scan(func(e expiry) bool {
		if e.Kind == objects.KindNone {
			absences++
		}
		return true
	})
	require.Equal(t, absences, v.absences.Len())
	shares := map[uint64]share{}
	v.outbox.Scan(func(d *Delivery) bool {
		s := shares[d.Service]
		shares[d.Service] = share{service: d.Service, count: s.count + 1, bytes: s.bytes + deliverySize(d)}
		same, ok := v.waiting.Get(d)
		require.True(t, ok && same == d)
		return true
	})
	require.Equal(t, v.outbox.Len(), v.waiting.Len())
	require.Equal(t, len(shares), v.shares.Len())
	require.Equal(t, len(shares), v.byWeight.Len())
	for _, want := range shares {
		got, _ := v.shares.Get(want)
		require.Equal(t, want, got)
		got, _ = v.byWeight.Get(want)
		require.Equal(t, want, got)
	}
}

func TestSizeOfTheStateIsKept(t *testing.T) {
	s := filled(t)
	requireCounted(t, s.fsm.View())
	back := New(Config{})
	require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, s.fsm)))))
	requireCounted(t, back.View())
	require.Equal(t, s.fsm.View().Bytes(), back.View().Bytes())

	m := Ref{Name: "m"}
	for _, op := range []Op{
		&WriteItem{Kind: objects.KindMap, Object: m, Item: ItemKey{Key: "c"}, Mode: PutItem, Data: []byte(`1`), TTL: ptr(int64(9)), CollectionTTL: ptr(int64(9))},
		&WriteItem{Kind: objects.KindMap, Object: m, Item: ItemKey{Key: "c"}, Mode: PutItem, TTL: ptr(int64(0))},
		&SetPermission{Kind: objects.KindMap, Object: m, Identity: "alice", Rights: objects.Write},
		&RemovePermission{Kind: objects.KindMap, Object: m, Identity: "alice"},
		&SetPermission{Kind: objects.KindMap, Object: m, Identity: "bob", Rights: objects.Write},
		&UpdateObject{Kind: objects.KindDocument, Object: Ref{Name: "d"}, Data: []byte(`{"longer": "than before"}`)},
		&RemoveItem{Kind: objects.KindMap, Object: m, Item: ItemKey{Key: "b"}},
		&RemoveObject{Kind: objects.KindMap, Object: m},
	} {
		s.must(asREST, op)
		requireCounted(t, s.fsm.View())
	}
	s.time += 1_000_000
	s.expireAll()
	requireCounted(t, s.fsm.View())
}

func TestRemovingEverythingFreesMemory(t *testing.T) {
	s := newStore(t)
	before := s.fsm.View().Bytes()
	sid := objects.NewSID(objects.KindService, [16]byte{9})
	s.must(asREST, &CreateService{SID: sid, Settings: DefaultSettings()})
	in := func(op Op) {
		c := s.command(asAlice, op)
		c.Service = sid
		require.Nil(t, s.send(c)[0].Err)
	}
	m := s.sid(objects.KindMap)
	in(&CreateObject{SID: m})
	for i := range 100 {
		in(&WriteItem{Kind: objects.KindMap, Object: Ref{SID: m}, Item: ItemKey{Key: fmt.Sprint(i)}, Mode: PutItem, Data: make([]byte, 1000)})
	}
	require.Greater(t, s.fsm.View().Bytes(), before+100_000)
	in(&RemoveService{})
	s.expireAll()
	requireCounted(t, s.fsm.View())
	require.Equal(t, before, s.fsm.View().Bytes())
}

func TestWhatGrowsTheState(t *testing.T) {
	s := filled(t)
	m, d := Ref{Name: "m"}, Ref{Name: "d"}
	big := bytes.Repeat([]byte("x"), 1000)
	item := func(key string, mode WriteMode, data []byte) Op {
		return &WriteItem{Kind: objects.KindMap, Object: m, Item: ItemKey{Key: key}, Mode: mode, Data: data}
	}
	decided := map[string]bool{}
	for name, x := range map[string]struct {
		op    Op
		grows bool
	}{
		"a new object":                  {&CreateObject{SID: s.sid(objects.KindMap)}, true},
		"a new service":                 {&CreateService{}, true},
		"a new item":                    {item("new", PutItem, big), true},
		"more data of an item":          {item("b", PutItem, big), true},
		"as much data of an item":       {item("b", PutItem, []byte(`3`)), false},
		"a TTL":                         {&WriteItem{Kind: objects.KindMap, Object: m, Item: ItemKey{Key: "b"}, Mode: UpdateItem, TTL: ptr(int64(9))}, false},
		"an update of what is not":      {item("new", UpdateItem, big), false},
		"more data of a document":       {&UpdateObject{Kind: objects.KindDocument, Object: d, Data: big}, true},
		"less data of a document":       {&UpdateObject{Kind: objects.KindDocument, Object: d, Data: []byte(`1`)}, false},
		"a new permission":              {&SetPermission{Kind: objects.KindMap, Object: m, Identity: "new"}, true},
		"another permission":            {&SetPermission{Kind: objects.KindMap, Object: m, Identity: "alice"}, false},
		"a message":                     {&Publish{Stream: m, Data: big}, false},
		"a removal of an item":          {&RemoveItem{Kind: objects.KindMap, Object: m, Item: ItemKey{Key: "b"}}, false},
		"a removal of an object":        {&RemoveObject{Kind: objects.KindMap, Object: m}, false},
		"an expiry":                     {&expire{}, false},
		"an item of an unknown object":  {&WriteItem{Kind: objects.KindMap, Object: Ref{Name: "?"}, Mode: PutItem, Data: big}, false},
		"a change of service's setting": {&UpdateService{ACLEnabled: ptr(true)}, false},
		"a removal of a service":        {&RemoveService{}, false},
		"a removal of a permission":     {&RemovePermission{Kind: objects.KindMap, Object: m, Identity: "alice"}, false},
		"a key":                         {&CreateKey{}, false}, // a few, of the owner's
		"a removal of a key":            {&RevokeKey{}, false},
		"a second token":                {&AddAuthToken{}, false},
		"the second as the first":       {&PromoteAuthToken{}, false},
		"an import of what is new":      {&Import{Records: []Imported{{Of: testService, Object: &objects.Object{SID: s.sid(objects.KindMap)}}}}, true},
		"an import of what is there":    {&Import{Records: []Imported{{Of: testService, Object: s.object(s.create(objects.KindMap, ""))}}}, false},
		"no second token":               {&DropAuthToken{}, false},
		"another key of the cluster":    {&RotateKey{}, false},
		"a transaction that grows":      {transaction(&RemoveObject{Kind: objects.KindMap, Object: m}, &CreateObject{SID: s.sid(objects.KindDocument), Data: big}), true},
		"a new stream":                  {&OpenDurable{List: Ref{Name: "new"}, SID: s.sid(objects.KindList)}, true},
		"a stream that is there":        {&OpenDurable{List: Ref{Name: "log"}, Items: [][]byte{big}}, false},
		"what is appended to a stream":  {&AppendDurable{List: Ref{Name: "log"}, Items: [][]byte{big}}, true},
		"the end of a stream":           {&AppendDurable{List: Ref{Name: "log"}, Close: true}, false},
		"a new item that is held":       {leasing("L", "new"), true},
		"a lease":                       {&OpenLease{ID: "L"}, true},
		"a renewal of a lease":          {&RenewLease{ID: "L"}, false},
		"the end of a lease":            {&CloseLease{ID: "L"}, false},
		"a transaction that does not":   {transaction(&RemoveObject{Kind: objects.KindMap, Object: m}), false},
	} {
		decided[opName(x.op)] = true
		_, bytes := s.fsm.View().Growth(s.command(asREST, x.op))
		require.Equal(t, x.grows, bytes > 0, name)
	}
	for _, row := range operations {
		if name := opName(row.new()); row.by == byClient && row.level <= Level1 {
			require.True(t, decided[name], "nobody has decided what %s grows", name)
		}
	}
}

// What a transaction puts into an object that it makes itself counts, too.
func TestTransactionGrowsByWhatItPutsIntoWhatItMakes(t *testing.T) {
	s := newStore(t)
	data := bytes.Repeat([]byte("x"), 10_000)
	op := transaction(
		&CreateObject{SID: s.sid(objects.KindList), UniqueName: "new"},
		&WriteItem{Kind: objects.KindList, Object: Ref{Name: "new"}, Mode: AppendItem, Data: data},
		&WriteItem{Kind: objects.KindList, Object: Ref{Name: "new"}, Mode: AppendItem, Data: data},
	)
	before := s.fsm.View()
	_, foreseen := before.Growth(s.command(asREST, op))
	s.must(asREST, op)
	require.Equal(t, s.fsm.View().Bytes()-before.Bytes(), foreseen)
}

// What is foreseen of a stream is what it takes, with what is noted of its writers.
func TestStreamGrowsByWhatIsForeseen(t *testing.T) {
	s := newStore(t)
	log := Ref{Name: "log"}
	for _, op := range []Op{
		&OpenDurable{List: log, SID: s.sid(objects.KindList), ContentType: "text/plain", TTL: 60, Items: items(`"a"`, `"b"`)},
		&AppendDurable{List: log, ContentType: "text/plain", Items: items(`"c"`), Producer: &Producer{ID: "p"}},
		&AppendDurable{List: log, ContentType: "text/plain", Items: items(`"d"`), Producer: &Producer{ID: "p", Seq: 1}, Seq: "1"},
		&AppendDurable{List: log, ContentType: "text/plain", Items: items(`"e"`), Seq: "234"},
		&CreateObject{SID: s.sid(objects.KindList), UniqueName: "plain"},
		&AppendDurable{List: Ref{Name: "plain"}, Items: items(`1`), Producer: &Producer{ID: "q"}, Seq: "1"},
	} {
		before := s.fsm.View()
		_, foreseen := before.Growth(s.command(asREST, op))
		s.must(asREST, op)
		require.Equal(t, s.fsm.View().Bytes()-before.Bytes(), foreseen, "%+v", op)
	}
}

func TestRemovalsAreForgottenAfterADay(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "")
	s.put(m, "a", `1`)
	s.put(m, "b", `1`)
	remove := func(key string) {
		s.must(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: key}})
	}
	remove("a")
	known := s.object(m).EventID
	s.time += 1000
	remove("b")
	due, ok := s.fsm.View().NextExpiry()
	require.True(t, ok)
	require.Equal(t, s.time-1000+maxTombstoneMillis, due)
	s.time = due
	s.expireAll()
	o := s.object(m)
	require.EqualValues(t, 1, s.stored(m).Tombstones)
	events, err := s.fsm.View().Replay(o, known, known, 10)
	require.Nil(t, err)
	require.Len(t, events, 1)
	_, err = s.fsm.View().Replay(o, 0, 0, 10)
	require.ErrorIs(t, err, objects.ErrHistory)
	requireCounted(t, s.fsm.View())
	s.time += 1000
	s.expireAll()
	require.Zero(t, s.fsm.View().tombstones.Len())
}

func TestRemovalsOfAllCollectionsAreBounded(t *testing.T) {
	s := newStore(t)
	const size = 16_000
	data := string(bytes.Repeat([]byte("1"), size))
	var maps []*objects.Object
	for total := 0; total < maxTombstonesTotal+maxTombstonesTotal/4; {
		m := s.create(objects.KindMap, "")
		maps = append(maps, m)
		for i := range 200 {
			s.put(m, fmt.Sprint(i), data)
			s.must(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: fmt.Sprint(i)}})
			total += size
		}
		s.sent = nil
	}
	v := s.fsm.View()
	require.LessOrEqual(t, v.tombstones.bytes, int64(maxTombstonesTotal))
	require.Zero(t, s.stored(maps[0]).Tombstones, "the oldest went first")
	require.NotZero(t, s.stored(maps[0]).HistoryFloor)
	require.EqualValues(t, 200, s.stored(maps[len(maps)-1]).Tombstones)
	requireCounted(t, v)
}
