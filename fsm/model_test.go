package fsm

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
)

// model is the store as maps and slices.
type model struct {
	objects map[objects.SID]*modelObject
	names   map[string]objects.SID // kind + name
}

type modelObject struct {
	name    string
	data    string
	expires int64
	event   uint64
	next    uint64
	items   map[ItemKey]*modelItem
}

type modelItem struct {
	data     string
	revision objects.Revision
	expires  int64
}

// machine runs random commands against the store and the model. Replicas apply
// the same entries: one restarts from a snapshot now and then, one applies
// several entries at a time.
type machine struct {
	*store
	model    model
	sids     []objects.SID
	restored *FSM
	lagging  *FSM
	backlog  []*raft.Log
	held     *View // an old view, and what it contained
	heldSum  string
}

func newMachine(t *rapid.T) *machine {
	m := &machine{store: newStore(t), restored: New(Config{}), lagging: New(Config{})}
	m.model = model{objects: map[objects.SID]*modelObject{}, names: map[string]objects.SID{}}
	m.follow()
	m.hold()
	return m
}

// follow brings the replicas up to date.
func (m *machine) follow() {
	for _, log := range m.sent {
		m.restored.Apply(log)
		m.backlog = append(m.backlog, log)
	}
	m.sent = nil
}

func (m *machine) hold() {
	m.held = m.fsm.View()
	m.heldSum = describe(m.held)
}

func describe(v *View) string {
	var b bytes.Buffer
	for _, kind := range []objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap} {
		s, _ := v.Service(Ref{SID: testService})
		for _, o := range v.Objects(s.Num, kind, Span[uint64]{Limit: 1000}) {
			fmt.Fprintf(&b, "%+v\n", *o)
			v.EachItem(o, func(i *objects.Item) bool { fmt.Fprintf(&b, " %+v\n", *i); return true })
		}
	}
	return b.String()
}

// pick draws an object, which may have been removed; ok is false while there is none.
func (m *machine) pick(t *rapid.T, kinds ...objects.Kind) (sid objects.SID, o *modelObject, ok bool) {
	var of []objects.SID
	for _, sid := range m.sids {
		if slices.Contains(kinds, sid.Kind()) {
			of = append(of, sid)
		}
	}
	if len(of) == 0 {
		return sid, nil, false
	}
	sid = rapid.SampledFrom(of).Draw(t, "object")
	return sid, m.model.objects[sid], true
}

func (m *machine) ref(t *rapid.T, sid objects.SID, o *modelObject) Ref {
	if o != nil && o.name != "" && rapid.Bool().Draw(t, "by name") {
		return Ref{Name: o.name}
	}
	return Ref{SID: sid}
}

func (m *machine) data(t *rapid.T) string {
	return fmt.Sprintf(`{"v":%d}`, rapid.IntRange(0, 99).Draw(t, "value"))
}

func (m *machine) ttl(t *rapid.T) int64 { return rapid.Int64Range(0, 3).Draw(t, "ttl") }

func (m *machine) at(ttl int64) int64 {
	if ttl == 0 {
		return 0
	}
	return m.time + ttl*1000
}

func (m *machine) create(t *rapid.T) {
	kind := rapid.SampledFrom([]objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap}).Draw(t, "kind")
	name := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "name")
	ttl := m.ttl(t)
	sid := m.sid(kind)
	r := m.do(asREST, &CreateObject{SID: sid, UniqueName: name, Data: []byte(`{}`), TTL: ttl})
	full := kind.String() + name
	if _, taken := m.model.names[full]; taken && name != "" {
		require.ErrorIs(t, r.Err, objects.ErrNameExists)
		return
	}
	require.Nil(t, r.Err)
	m.sids = append(m.sids, sid)
	m.model.objects[sid] = &modelObject{name: name, data: `{}`, expires: m.at(ttl), items: map[ItemKey]*modelItem{}}
	if name != "" {
		m.model.names[full] = sid
	}
}

func (m *machine) gone(sid objects.SID) {
	o := m.model.objects[sid]
	delete(m.model.objects, sid)
	delete(m.model.names, sid.Kind().String()+o.name)
}

func (m *machine) update(t *rapid.T) {
	sid, o, ok := m.pick(t, objects.KindDocument)
	if !ok {
		return
	}
	op := &UpdateObject{Kind: sid.Kind(), Object: m.ref(t, sid, o), Data: []byte(m.data(t))}
	if rapid.Bool().Draw(t, "conditional") {
		op.Match = objects.Precondition{Kind: objects.MatchRevision, Revision: objects.Revision(rapid.Uint64Range(0, 4).Draw(t, "revision"))}
	}
	r := m.do(asREST, op)
	switch {
	case o == nil:
		require.ErrorIs(t, r.Err, objects.ErrDocumentGone)
	case op.Match.Kind == objects.MatchRevision && uint64(op.Match.Revision) != o.event:
		require.ErrorIs(t, r.Err, objects.ErrDocumentMismatch)
	default:
		require.Nil(t, r.Err)
		o.data = string(op.Data)
		o.event++
	}
}

func (m *machine) setTTL(t *rapid.T) {
	sid, o, ok := m.pick(t, objects.KindDocument, objects.KindList, objects.KindMap)
	if !ok {
		return
	}
	ttl := m.ttl(t)
	r := m.do(asREST, &UpdateObject{Kind: sid.Kind(), Object: m.ref(t, sid, o), TTL: &ttl})
	if o == nil {
		require.ErrorIs(t, r.Err, objects.ErrGone(sid.Kind()))
		return
	}
	require.Nil(t, r.Err)
	o.expires = m.at(ttl)
}

func (m *machine) remove(t *rapid.T) {
	sid, o, ok := m.pick(t, objects.KindDocument, objects.KindList, objects.KindMap)
	if !ok {
		return
	}
	r := m.do(asREST, &RemoveObject{Kind: sid.Kind(), Object: m.ref(t, sid, o)})
	if o == nil {
		require.ErrorIs(t, r.Err, objects.ErrGone(sid.Kind()))
		return
	}
	require.Nil(t, r.Err)
	m.gone(sid)
}

func (m *machine) writeItem(t *rapid.T) {
	sid, o, ok := m.pick(t, objects.KindList, objects.KindMap)
	if !ok {
		return
	}
	op := &WriteItem{Kind: sid.Kind(), Object: m.ref(t, sid, o), Data: []byte(m.data(t))}
	if sid.Kind() == objects.KindList {
		op.Mode = rapid.SampledFrom([]WriteMode{AppendItem, UpdateItem}).Draw(t, "mode")
		op.Item.Index = rapid.Uint64Range(0, 5).Draw(t, "index")
	} else {
		op.Mode = rapid.SampledFrom([]WriteMode{AddItem, UpdateItem, PutItem}).Draw(t, "mode")
		op.Item.Key = rapid.SampledFrom([]string{"k", "l", "😀", "\uffff"}).Draw(t, "key")
	}
	if rapid.Bool().Draw(t, "with ttl") {
		op.TTL = ptr(m.ttl(t))
	}
	r := m.do(asREST, op)
	if o == nil {
		require.ErrorIs(t, r.Err, objects.ErrGone(sid.Kind()))
		return
	}
	key := op.Item
	if op.Mode == AppendItem {
		key = ItemKey{Index: o.next}
	}
	old := o.items[key]
	switch {
	case op.Mode == UpdateItem && old == nil:
		require.ErrorIs(t, r.Err, objects.ErrItemGone(sid.Kind()))
		return
	case op.Mode == AddItem && old != nil:
		require.ErrorIs(t, r.Err, objects.ErrMapItemExists)
		return
	}
	require.Nil(t, r.Err)
	require.Equal(t, old == nil, r.Created)
	o.event++
	if old == nil {
		old = &modelItem{revision: objects.Revision(o.event)}
		o.items[key] = old
		if op.Mode == AppendItem {
			o.next++
		}
	} else {
		old.revision++
	}
	old.data = string(op.Data)
	if op.TTL != nil {
		old.expires = m.at(*op.TTL)
	}
	require.Equal(t, old.revision, r.Item.Revision)
	require.EqualValues(t, o.event, r.Item.EventID)
}

func (m *machine) removeItem(t *rapid.T) {
	sid, o, ok := m.pick(t, objects.KindList, objects.KindMap)
	if !ok || o == nil || len(o.items) == 0 {
		return
	}
	keys := slices.SortedFunc(maps.Keys(o.items), compareItemKeys)
	key := rapid.SampledFrom(keys).Draw(t, "item")
	r := m.do(asREST, &RemoveItem{Kind: sid.Kind(), Object: m.ref(t, sid, o), Item: key})
	require.Nil(t, r.Err)
	o.event++
	delete(o.items, key)
	require.EqualValues(t, o.event, r.Item.EventID)
}

func compareItemKeys(a, b ItemKey) int {
	if a.Index != b.Index {
		return int(a.Index) - int(b.Index)
	}
	return objects.CompareKeys(a.Key, b.Key)
}

func (m *machine) repeat(t *rapid.T) {
	sid, o, ok := m.pick(t, objects.KindList)
	if !ok || o == nil {
		return
	}
	c := m.command(asREST, &WriteItem{Kind: objects.KindList, Object: Ref{SID: sid}, Mode: AppendItem, Data: []byte(`1`)})
	rs := m.send(c, c)
	require.Nil(t, rs[0].Err)
	require.True(t, rs[1].Repeated)
	require.Equal(t, rs[0].Item, rs[1].Item)
	again := m.send(c)[0]
	require.Equal(t, rs[0].Item, again.Item)
	o.event++
	o.items[ItemKey{Index: o.next}] = &modelItem{data: `1`, revision: objects.Revision(o.event)}
	o.next++
}

// pass lets time go on, and removes what has expired.
func (m *machine) pass(t *rapid.T) {
	m.time += rapid.Int64Range(0, 2500).Draw(t, "milliseconds")
	m.expireAll()
	for _, sid := range m.sids {
		o := m.model.objects[sid]
		if o == nil {
			continue
		}
		if o.expires != 0 && o.expires <= m.time {
			m.gone(sid)
			continue
		}
		for key, i := range o.items {
			if i.expires != 0 && i.expires <= m.time {
				delete(o.items, key)
				o.event++
			}
		}
	}
}

func (m *machine) snapshotAndRestore(t *rapid.T) {
	m.follow()
	fresh := New(Config{})
	require.NoError(t, fresh.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, m.restored)))))
	sameTables(t, m.restored.View(), fresh.View())
	m.restored = fresh
}

// check compares the store with the model, and the replicas with each other.
func (m *machine) check(t *rapid.T) {
	v, svc := m.fsm.View(), m.service()
	live := 0
	for _, kind := range []objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap} {
		last := uint64(0)
		for _, o := range v.Objects(svc.Num, kind, Span[uint64]{Limit: 10_000}) {
			require.Greater(t, o.Num, last, "oldest first")
			last = o.Num
			live++
			m.checkObject(t, v, o)
		}
	}
	require.Equal(t, len(m.model.objects), live)
	m.agree(t)
}

// agree compares the replicas with each other.
func (m *machine) agree(t *rapid.T) {
	v := m.fsm.View()
	m.follow()
	require.Equal(t, sum(t, m.fsm), sum(t, m.restored), "a replica that came by snapshot")
	require.Equal(t, v.Digest(), m.restored.View().Digest(), "likewise")
	require.NoError(t, v.Verify())
	if rapid.Bool().Draw(t, "compare the lagging replica") && len(m.backlog) > 0 {
		m.lagging.ApplyBatch(m.backlog)
		m.backlog = nil
		require.Equal(t, sum(t, m.fsm), sum(t, m.lagging), "a replica that applies many at a time")
	}
	requireCounted(t, m.fsm.View())
	requireCounted(t, m.restored.View())
	require.Equal(t, m.heldSum, describe(m.held), "a published view never changes")
	if rapid.Bool().Draw(t, "hold this view") {
		m.hold()
	}
}

func (m *machine) checkObject(t *rapid.T, v *View, o *objects.Object) {
	want := m.model.objects[o.SID]
	require.NotNil(t, want)
	require.Equal(t, want.name, o.UniqueName)
	require.EqualValues(t, want.event, o.EventID)
	require.Equal(t, want.expires, o.Expires)
	require.Equal(t, want.data, string(o.Data))
	require.EqualValues(t, len(want.items), o.Items)
	got := v.Items(o, Range{Limit: 1000})
	keys := make([]ItemKey, len(got))
	for i, item := range got {
		keys[i] = ItemKey{item.Index, item.Key}
		w := want.items[keys[i]]
		require.NotNil(t, w)
		require.Equal(t, w.data, string(item.Data))
		require.Equal(t, w.revision, item.Revision)
		require.Equal(t, w.expires, item.Expires)
	}
	require.Equal(t, slices.SortedFunc(maps.Keys(want.items), compareItemKeys), append([]ItemKey(nil), keys...))
	back := v.Items(o, Range{Limit: 1000, Desc: true})
	slices.Reverse(back)
	require.Equal(t, got, back)
}

// TestEveryWriteIsInTheModel: what is not in it has tests of its own.
func TestEveryWriteIsInTheModel(t *testing.T) {
	decided := map[string]bool{}
	for _, op := range []Op{
		&CreateObject{}, &UpdateObject{}, &RemoveObject{}, &WriteItem{}, &RemoveItem{},
		&Publish{}, &SetPermission{}, &RemovePermission{}, // these leave objects and items as they are
		&HoldItem{},                      // writes: TestHoldersAgree
		&Transact{},                      // is what its operations are: TestTransactionIsAllOrNothing
		&OpenDurable{}, &AppendDurable{}, // create and append: TestStreamsAndImportsAreTheSameOnAllReplicas
	} {
		decided[opName(op)] = true
	}
	for _, row := range operations {
		name := opName(row.new())
		require.True(t, row.price == Free || decided[name], "the model does not know %s", name)
	}
}

func TestStoreDoesWhatTheModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"create":      m.create,
			"update":      m.update,
			"ttl":         m.setTTL,
			"remove":      m.remove,
			"write item":  m.writeItem,
			"remove item": m.removeItem,
			"repeat":      m.repeat,
			"pass":        m.pass,
			"restore":     m.snapshotAndRestore,
			"":            m.check,
		})
	})
}

// TestReplayEndsInTheStateOfTheServer follows a collection from random places:
// what a client knew, changed by the replay, is what the server has.
func TestReplayEndsInTheStateOfTheServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t)
		m := s.create(objects.KindMap, "")
		type known struct {
			at    objects.EventID
			items map[string]string
		}
		snapshot := func() known {
			o := s.object(m)
			k := known{at: o.EventID, items: map[string]string{}}
			s.fsm.View().EachItem(o, func(i *objects.Item) bool { k.items[i.Key] = string(i.Data); return true })
			return k
		}
		clients := []known{snapshot()}
		for range rapid.IntRange(1, 40).Draw(t, "changes") {
			key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
			if rapid.Bool().Draw(t, "remove") {
				s.do(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: key}})
			} else {
				s.put(m, key, fmt.Sprint(rapid.Int().Draw(t, "value")))
			}
			clients = append(clients, snapshot())
		}
		want := snapshot()
		for _, c := range clients {
			limit, known := rapid.IntRange(1, 50).Draw(t, "limit"), c.at
			for {
				events, err := s.fsm.View().Replay(s.object(m), known, c.at, limit)
				require.Nil(t, err)
				for _, e := range events {
					require.Greater(t, e.ID, c.at, "rising ids")
					c.at = e.ID
					_, had := c.items[e.Item.Key]
					switch e.Type {
					case objects.ItemAdded:
						require.False(t, had, "added what was not there")
						c.items[e.Item.Key] = string(e.Item.Data)
					case objects.ItemUpdated:
						require.True(t, had, "updated what was there")
						c.items[e.Item.Key] = string(e.Item.Data)
					case objects.ItemRemoved:
						delete(c.items, e.Item.Key)
					}
				}
				if len(events) < limit {
					break
				}
			}
			require.Equal(t, want.items, c.items)
		}
	})
}
