package fsm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

var (
	foreignService = objects.NewSID(objects.KindService, [16]byte{7, 7})
	foreignMap     = objects.NewSID(objects.KindMap, [16]byte{7, 1})
	foreignList    = objects.NewSID(objects.KindList, [16]byte{7, 2})
	foreignDoc     = objects.NewSID(objects.KindDocument, [16]byte{7, 3})
)

// foreign is what an import makes of another cluster's service with a map, a list
// with gaps, and a document.
func foreign() []Imported {
	dates := func(o objects.Object) *objects.Object {
		o.Created, o.Updated, o.CreatedBy = 1000, 2000, "bob"
		return &o
	}
	item := func(i objects.Item) *objects.Item {
		i.Created, i.Updated, i.CreatedBy = 1000, 3000, "carol"
		return &i
	}
	return []Imported{
		{Service: &objects.Service{SID: foreignService, Created: 1, Updated: 2, ServiceSettings: objects.ServiceSettings{FriendlyName: "shop", WebhookURL: "http://x.example/", WebhooksFromREST: true, ACLEnabled: true, DebounceWindow: 7000}}},
		{Of: foreignService, Object: dates(objects.Object{SID: foreignDoc, UniqueName: "d", EventID: 0x1f, Data: []byte(`{"a":1}`)})},
		{Of: foreignService, Object: dates(objects.Object{SID: foreignMap, UniqueName: "m", Expires: 5_000_000})},
		{Of: foreignMap, Item: item(objects.Item{Key: "a", Revision: 4, Data: []byte(`1`)})},
		{Of: foreignMap, Item: item(objects.Item{Key: "b", Revision: 9, Data: []byte(`2`), Expires: 4_000_000})},
		{Of: foreignMap, Permission: &objects.Permission{Identity: "alice", Rights: objects.Read}},
		{Of: foreignService, Object: dates(objects.Object{SID: foreignMap, UniqueName: "m", EventID: 9, Items: 2, Expires: 5_000_000}), Whole: true},
		{Of: foreignService, Object: dates(objects.Object{SID: foreignList})},
		{Of: foreignList, Item: item(objects.Item{Index: 3, Revision: 1, Data: []byte(`"three"`)})},
		{Of: foreignList, Item: item(objects.Item{Index: 7, Revision: 2, Data: []byte(`"seven"`)})},
		{Of: foreignService, Object: dates(objects.Object{SID: foreignList, EventID: 8, Items: 2}), Whole: true},
	}
}

// bring imports records, none of which is refused.
func (s *store) bring(records ...Imported) []Result {
	r := s.must(asREST, &Import{Records: records})
	for i, part := range r.Parts {
		if part.Err != nil {
			require.NoError(s.t, part.Err, "record %d", i)
		}
	}
	return r.Parts
}

func (s *store) inForeign(op Op) *Result {
	c := s.command(asREST, op)
	c.Service = foreignService
	return s.send(c)[0]
}

func TestImportKeepsWhatNamesAndDates(t *testing.T) {
	s := newStore(t)
	foreseen := s.fsm.View().importGrowth(&Import{Records: foreign()})
	before := s.fsm.View().Bytes()
	s.bring(foreign()...)
	v := s.fsm.View()
	require.Equal(t, foreseen, v.Bytes()-before+objectSize(&objects.Object{CreatedBy: "bob"})+objectSize(&objects.Object{UniqueName: "m", CreatedBy: "bob", Expires: 1}),
		"what closes a collection counts like one in the same import")
	requireCounted(t, v)
	for i, r := range foreign() {
		if r.Object != nil && !r.Whole && r.Object.SID != foreignDoc {
			continue // is told again when it is whole
		}
		require.Equal(t, Same, v.Compare(&r), "record %d", i)
	}
	d, _ := v.ObjectBySID(foreignDoc)
	require.EqualValues(t, 0x1f, d.Revision())
	require.EqualValues(t, 1000, d.Created)
	m, _ := v.ObjectBySID(foreignMap)
	require.EqualValues(t, 9, m.Revision())
	b, _ := v.Item(m, ItemKey{Key: "b"})
	require.EqualValues(t, 9, b.Revision)
	require.Equal(t, "carol", b.CreatedBy)
	l, _ := v.ObjectBySID(foreignList)
	items := v.Items(l, Range{Limit: 10})
	require.Len(t, items, 2)
	require.EqualValues(t, 3, items[0].Index)
	require.EqualValues(t, 7, items[1].Index)
	require.Zero(t, v.WaitingDeliveries(), "webhooks hear nothing of it")

	r := s.inForeign(&WriteItem{Kind: objects.KindList, Object: Ref{SID: foreignList}, Mode: AppendItem, Data: []byte(`1`)})
	require.EqualValues(t, 8, r.Item.Index, "the list goes on behind its last index")
	require.EqualValues(t, 9, r.Object.EventID)
	require.Equal(t, 1, s.fsm.View().WaitingDeliveries(), "and of what comes after it they do")
	s.time = 4_000_001
	s.expireAll()
	_, there := s.fsm.View().Item(m, ItemKey{Key: "b"})
	require.False(t, there)
	s.time = 5_000_001
	s.expireAll()
	_, there = s.fsm.View().ObjectBySID(foreignMap)
	require.False(t, there)
}

func TestImportTwiceIsLikeOnce(t *testing.T) {
	s := newStore(t)
	s.bring(foreign()...)
	cursor := s.fsm.View()
	require.Equal(t, describeForeign(cursor), func() string { s.bring(foreign()...); return describeForeign(s.fsm.View()) }())
	requireCounted(t, s.fsm.View())
}

func describeForeign(v *View) string {
	svc, _ := v.Service(Ref{SID: foreignService})
	text := ""
	for _, kind := range []objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap} {
		for _, o := range v.storedObjects(svc.Num, kind, Span[uint64]{Limit: 10}) {
			b, _ := encode(nil, o)
			text += string(b)
			v.EachItem(&o.Object, func(i *objects.Item) bool { b, _ := encode(nil, i); text += string(b); return true })
		}
	}
	return text
}

func TestImportFollowsChangesAndRemovals(t *testing.T) {
	s := newStore(t)
	s.bring(foreign()...)
	known, _ := s.fsm.View().ObjectBySID(foreignMap)
	changed := foreign()
	changed[3].Item.Data, changed[3].Item.Revision = []byte(`{"changed":true}`), 10
	changed[6].Object.EventID, changed[6].Object.Items = 11, 1
	parts := s.bring(changed[3], changed[6])
	require.True(t, parts[1].More, "b is one too many")
	require.Equal(t, Extra, s.fsm.View().Compare(&changed[6]))
	s.bring(Imported{Of: foreignMap, Item: &objects.Item{Key: "b"}, Remove: true}, changed[6],
		Imported{Of: foreignMap, Permission: &objects.Permission{Identity: "alice"}, Remove: true},
		Imported{Of: foreignService, Object: &objects.Object{SID: foreignList}, Remove: true})
	v := s.fsm.View()
	requireCounted(t, v)
	require.Equal(t, Same, v.Compare(&changed[6]))
	m, _ := v.ObjectBySID(foreignMap)
	require.EqualValues(t, 11, m.Revision())
	_, there := v.ObjectBySID(foreignList)
	require.False(t, there)
	_, there = v.Permission(m, "alice")
	require.False(t, there)
	events, refused := v.Replay(m, known.EventID, known.EventID, 10)
	require.Nil(t, refused, "who knew the map here hears what happened")
	require.Len(t, events, 2)

	changed[6].Object.EventID = 90
	s.bring(changed[6])
	m, _ = s.fsm.View().ObjectBySID(foreignMap)
	require.False(t, s.fsm.View().CanReplay(m, 50), "an event of elsewhere")
	require.Equal(t, Ahead, func() Difference { changed[6].Object.EventID = 80; return s.fsm.View().Compare(&changed[6]) }())
}

func TestImportRefusesWhatIsTaken(t *testing.T) {
	s := newStore(t)
	s.bring(foreign()[0])
	own := objects.NewSID(objects.KindMap, [16]byte{9})
	require.Nil(t, s.inForeign(&CreateObject{SID: own, UniqueName: "m"}).Err)
	r := s.must(asREST, &Import{Records: foreign()[:5]})
	require.Nil(t, r.Parts[1].Err)
	require.ErrorIs(t, r.Parts[2].Err, objects.ErrNameExists)
	require.ErrorIs(t, r.Parts[3].Err, objects.ErrMapGone, "there is nothing to put it into")
	r = s.must(asREST, &Import{Records: []Imported{{Of: testService, Object: &objects.Object{SID: own}}}})
	require.ErrorIs(t, r.Parts[0].Err, objects.ErrNameExists, "the SID is in another service")
	refused(t, objects.ErrParameter, s.do(asREST, &Import{}))
	refused(t, objects.ErrParameter, s.do(asREST, &Import{Records: make([]Imported, MaxImported+1)}))
}

// A list that was closed as a stream stays as it is, but for what is taken away.
func TestImportAddsNothingToAClosedList(t *testing.T) {
	s := newStore(t)
	s.bring(foreign()...)
	require.Nil(t, s.inForeign(&AppendDurable{List: Ref{SID: foreignList}, Close: true}).Err)
	changed := foreign()[8:10]
	changed[0].Item.Data = []byte(`"other"`)
	changed[1].Item.Index = 9
	r := s.must(asREST, &Import{Records: changed})
	require.ErrorIs(t, r.Parts[0].Err, objects.ErrClosed)
	require.ErrorIs(t, r.Parts[1].Err, objects.ErrClosed)
	s.bring(foreign()...)
	s.bring(Imported{Of: foreignList, Item: &objects.Item{Index: 3}, Remove: true})
	l, _ := s.fsm.View().ObjectBySID(foreignList)
	require.EqualValues(t, 1, l.Items)
}

func TestImportRefusesItemsOfAnotherKind(t *testing.T) {
	s := newStore(t)
	s.bring(foreign()...)
	r := s.must(asREST, &Import{Records: []Imported{
		{Of: foreignMap, Item: foreign()[8].Item},
		{Of: foreignList, Item: foreign()[3].Item},
		{Of: foreignMap, Item: &objects.Item{Key: "a", Index: 1, Data: []byte(`1`)}},
		{Of: foreignDoc, Item: foreign()[3].Item},
	}})
	for i, want := range []*objects.Error{objects.ErrParameter, objects.ErrParameter, objects.ErrParameter, objects.ErrDocumentGone} {
		require.ErrorIs(t, r.Parts[i].Err, want, "record %d", i)
	}
}

func TestDefaultServiceTakesTheSIDOver(t *testing.T) {
	theirs := Imported{Service: &objects.Service{SID: foreignService, UniqueName: DefaultService, ServiceSettings: DefaultSettings()}}
	s := newStore(t)
	s.bring(theirs)
	svc, ok := s.fsm.View().Service(Ref{Name: DefaultService})
	require.True(t, ok)
	require.Equal(t, foreignService, svc.SID)
	_, ok = s.fsm.View().Service(Ref{SID: testService})
	require.False(t, ok)
	require.Nil(t, s.inForeign(&CreateObject{SID: foreignDoc, Data: []byte(`{}`)}).Err)
	requireCounted(t, s.fsm.View())

	for name, use := range map[string]Op{
		"an object": &CreateObject{SID: foreignDoc, Data: []byte(`{}`)},
		"a key":     &CreateKey{SID: objects.NewSID(objects.KindKey, [16]byte{1}), Secret: "s", Scope: objects.KeyScope{Service: testService}},
	} {
		s := newStore(t)
		s.must(asREST, use)
		r := s.must(asREST, &Import{Records: []Imported{theirs}})
		require.ErrorIs(t, r.Parts[0].Err, objects.ErrNameExists, name)
		require.Equal(t, testService, s.service().SID)
	}
}
