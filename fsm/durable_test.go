package fsm

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
)

// open makes a durable stream of JSON, or of what the operation says.
func (s *store) open(name string, op OpenDurable) *Result {
	op.List, op.SID = Ref{Name: name}, s.sid(objects.KindList)
	return s.do(asREST, &op)
}

func (s *store) append(name string, op AppendDurable) *Result {
	op.List = Ref{Name: name}
	return s.do(asREST, &op)
}

func items(of ...string) (all [][]byte) {
	for _, x := range of {
		all = append(all, []byte(x))
	}
	return all
}

func (s *store) list(t *testing.T, name string) *objects.Object {
	o, ok := s.fsm.View().Object(s.service().Num, objects.KindList, Ref{Name: name})
	require.True(t, ok)
	return o
}

func (s *store) contents(t *testing.T, name string) (all []string) {
	for _, i := range s.fsm.View().ItemsAfter(s.list(t, name), 0, 1000) {
		all = append(all, string(i.Data))
	}
	return all
}

func TestDurableIsAList(t *testing.T) {
	s := newStore(t)
	r := s.open("l", OpenDurable{ContentType: "application/json", Items: items(`1`, `2`)})
	require.Nil(t, r.Err)
	require.True(t, r.Created)
	require.EqualValues(t, 2, r.Object.EventID)
	require.Nil(t, s.append("l", AppendDurable{Items: items(`{"a":3}`)}).Err, "JSON goes without saying")
	s.push(s.list(t, "l"), `4`)
	require.Equal(t, []string{`1`, `2`, `{"a":3}`, `4`}, s.contents(t, "l"))
	require.EqualValues(t, 4, s.list(t, "l").Items)

	// What is changed moves to its place among the changes; what is removed is left out.
	s.must(asREST, &WriteItem{Kind: objects.KindList, Object: Ref{Name: "l"}, Item: ItemKey{Index: 0}, Mode: UpdateItem, Data: []byte(`5`)})
	s.must(asREST, &RemoveItem{Kind: objects.KindList, Object: Ref{Name: "l"}, Item: ItemKey{Index: 1}})
	require.Equal(t, []string{`{"a":3}`, `4`, `5`}, s.contents(t, "l"))

	require.ErrorIs(t, s.append("none", AppendDurable{Items: items(`1`)}).Err, objects.ErrNameGone)
	require.ErrorIs(t, s.do(asAlice, &OpenDurable{List: Ref{SID: s.sid(objects.KindList)}}).Err, objects.ErrListGone)
}

func TestOpeningTwiceIsOpeningOnce(t *testing.T) {
	s := newStore(t)
	plain := s.create(objects.KindList, "plain")
	require.NotNil(t, plain)
	r := s.open("plain", OpenDurable{ContentType: "application/json; charset=utf-8"})
	require.Nil(t, r.Err, "every list is a stream of JSON")
	require.False(t, r.Created)
	text := OpenDurable{ContentType: "text/plain", TTL: 60, Items: items(`"a"`)}
	require.True(t, s.open("text", text).Created)
	require.Nil(t, s.open("text", text).Err)
	require.Len(t, s.contents(t, "text"), 1, "the items of the second are not added")
	text.ContentType = "Text/PLAIN;charset=utf-8"
	require.Nil(t, s.open("text", text).Err)
	for _, other := range []OpenDurable{{ContentType: "text/html", TTL: 60}, {ContentType: "text/plain", TTL: 61}, {ContentType: "text/plain"}, {ContentType: "text/plain", TTL: 60, Closed: true}, {ContentType: "text/plain", Expires: s.time + 60_000}} {
		require.ErrorIs(t, s.open("text", other).Err, objects.ErrDurableConfig)
	}
	require.ErrorIs(t, s.append("text", AppendDurable{ContentType: "text/html", Items: items(`"a"`)}).Err, objects.ErrDurableConfig)
}

func TestClosedListTakesNothing(t *testing.T) {
	s := newStore(t)
	l := s.create(objects.KindList, "l")
	s.push(l, `1`)
	r := s.append("l", AppendDurable{Items: items(`2`), Close: true})
	require.Nil(t, r.Err)
	require.True(t, r.Durable.Durable.Closed)
	require.Nil(t, s.append("l", AppendDurable{Close: true}).Err, "closed it is")
	for _, op := range []Op{
		&AppendDurable{List: Ref{Name: "l"}, Items: items(`3`), Close: true},
		&WriteItem{Kind: objects.KindList, Object: Ref{Name: "l"}, Mode: AppendItem, Data: []byte(`3`)},
		&WriteItem{Kind: objects.KindList, Object: Ref{Name: "l"}, Mode: UpdateItem, Data: []byte(`3`)},
	} {
		require.ErrorIs(t, s.do(asREST, op).Err, objects.ErrClosed)
	}
	require.Equal(t, []string{`1`, `2`}, s.contents(t, "l"))
	s.must(asREST, &RemoveItem{Kind: objects.KindList, Object: Ref{Name: "l"}, Item: ItemKey{Index: 0}})
	s.must(asREST, &RemoveObject{Kind: objects.KindList, Object: Ref{Name: "l"}})
	s.create(objects.KindList, "l")
	require.Nil(t, s.append("l", AppendDurable{Items: items(`1`)}).Err, "a new list is another one")
}

func TestProducersWriteOnce(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindList, "l")
	write := func(id string, epoch, seq uint64) *Result {
		return s.append("l", AppendDurable{Items: items(fmt.Sprintf(`"%s %d %d"`, id, epoch, seq)), Producer: &Producer{id, epoch, seq}})
	}
	require.ErrorIs(t, write("p", 0, 1).Err, objects.ErrSequence, "the first is 0")
	require.Nil(t, write("p", 0, 0).Err)
	require.Nil(t, write("p", 0, 1).Err)
	again := write("p", 0, 0)
	require.Nil(t, again.Err)
	require.True(t, again.Durable.Known)
	require.Equal(t, Producer{"p", 0, 1}, again.Durable.Producer, "the answer says how far it is")
	gap := write("p", 0, 3)
	require.ErrorIs(t, gap.Err, objects.ErrSequence)
	require.EqualValues(t, 2, gap.Durable.Expected)
	require.ErrorIs(t, write("p", 1, 1).Err, objects.ErrParameter)
	require.Nil(t, write("p", 1, 0).Err)
	stale := write("p", 0, 2)
	require.ErrorIs(t, stale.Err, objects.ErrStaleEpoch)
	require.EqualValues(t, 1, stale.Durable.Producer.Epoch)
	require.Nil(t, write("q", 0, 0).Err)
	require.Equal(t, []string{`"p 0 0"`, `"p 0 1"`, `"p 1 0"`, `"q 0 0"`}, s.contents(t, "l"))

	ends := AppendDurable{Items: items(`"end"`), Close: true, Producer: &Producer{"q", 0, 1}}
	require.Nil(t, s.append("l", ends).Err)
	require.True(t, s.append("l", ends).Durable.Known)
	require.ErrorIs(t, write("q", 0, 2).Err, objects.ErrClosed)
	require.ErrorIs(t, write("p", 0, 9).Err, objects.ErrStaleEpoch)
}

func TestWritersOwnSequenceRises(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindList, "l")
	write := func(seq string) *objects.Error { return s.append("l", AppendDurable{Items: items(`1`), Seq: seq}).Err }
	require.Nil(t, write("09"))
	require.Nil(t, write("10"))
	require.ErrorIs(t, write("10"), objects.ErrSequence)
	require.ErrorIs(t, write("1"), objects.ErrSequence)
	require.Nil(t, write("2"), "they are texts")
}

// What is refused for the writers' sequence says of a new epoch that it may begin.
func TestNewEpochBeginsAnew(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindList, "l")
	write := func(epoch, seq uint64, own string) *Result {
		return s.append("l", AppendDurable{Items: items(`1`), Seq: own, Producer: &Producer{"p", epoch, seq}})
	}
	require.Nil(t, write(0, 0, "1").Err)
	require.Nil(t, write(0, 1, "2").Err)
	early := write(1, 0, "2")
	require.ErrorIs(t, early.Err, objects.ErrSequence)
	require.Zero(t, early.Durable.Expected)
	require.Nil(t, write(1, 0, "3").Err)
}

func TestProducersAreForgottenByTheirSilence(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindList, "l")
	for i := range maxProducers + 1 {
		s.time++
		require.Nil(t, s.append("l", AppendDurable{Items: items(`1`), Producer: &Producer{ID: fmt.Sprint(i)}}).Err)
	}
	require.Equal(t, maxProducers, s.fsm.View().producers.Len())
	require.False(t, s.append("l", AppendDurable{Items: items(`1`), Producer: &Producer{ID: "0"}}).Durable.Known, "the first one was silent for longest")
	require.True(t, s.append("l", AppendDurable{Items: items(`1`), Producer: &Producer{ID: fmt.Sprint(maxProducers)}}).Durable.Known)

	s.must(asREST, &RemoveObject{Kind: objects.KindList, Object: Ref{Name: "l"}})
	s.expireAll()
	require.Zero(t, s.fsm.View().producers.Len(), "they go with the list")
	require.Zero(t, s.fsm.View().durables.Len())
	require.Zero(t, s.fsm.View().ServiceBytes(s.service().Num))
}

func TestIdleTimeBeginsAnewWithEachUse(t *testing.T) {
	s := newStore(t)
	require.Nil(t, s.open("l", OpenDurable{TTL: 10}).Err)
	end := func() int64 { return s.list(t, "l").Expires }
	first := end()
	require.Equal(t, s.time+10_000, first)
	for what, use := range map[string]func(){
		"read":   func() { s.must(asREST, &TouchDurable{List: s.list(t, "l").SID}) },
		"append": func() { require.Nil(t, s.append("l", AppendDurable{Items: items(`1`)}).Err) },
		"item":   func() { s.push(s.list(t, "l"), `1`) },
	} {
		s.time += 1000
		use()
		require.Equal(t, s.time+10_000, end(), what)
	}
	s.time += 10_000
	s.expireAll()
	_, there := s.fsm.View().Object(s.service().Num, objects.KindList, Ref{Name: "l"})
	require.False(t, there)
}

// streams makes, writes, closes, reads, removes and imports lists at random.
type streams struct {
	*machine
	closed map[uint64]uint64 // of each list, the items at its end
}

func (m *streams) ref(t *rapid.T) Ref {
	return Ref{Name: rapid.SampledFrom([]string{"own", "foreign"}).Draw(t, "list")}
}

func (m *streams) open(t *rapid.T) {
	op := &OpenDurable{List: m.ref(t), SID: m.sid(objects.KindList), TTL: rapid.SampledFrom([]int64{0, 0, 0, 3}).Draw(t, "ttl"), Closed: rapid.IntRange(0, 9).Draw(t, "closed") == 0}
	op.ContentType = rapid.SampledFrom([]string{"", "", "application/json", "text/plain"}).Draw(t, "content type")
	if op.TTL == 0 && rapid.Bool().Draw(t, "with an end") {
		op.Expires = m.time + 1000
	}
	op.Items = items(`"first"`, `"second"`)[:rapid.IntRange(0, 2).Draw(t, "items")]
	m.do(asREST, op)
}

func (m *streams) append(t *rapid.T) {
	op := &AppendDurable{List: m.ref(t), Close: rapid.IntRange(0, 4).Draw(t, "close") == 0, Seq: rapid.SampledFrom([]string{"", "", "", "1", "2"}).Draw(t, "sequence")}
	op.ContentType = rapid.SampledFrom([]string{"", "", "", "text/plain"}).Draw(t, "content type")
	text := `"by nobody"`
	if rapid.Bool().Draw(t, "by a producer") {
		op.Producer = &Producer{ID: rapid.SampledFrom([]string{"p", "q"}).Draw(t, "producer"), Epoch: rapid.Uint64Range(0, 1).Draw(t, "epoch"), Seq: rapid.SampledFrom([]uint64{0, 0, 1}).Draw(t, "number")}
		text = fmt.Sprintf(`"%s %d %d"`, op.Producer.ID, op.Producer.Epoch, op.Producer.Seq)
	}
	op.Items = items(text)
	m.do(asREST, op)
}

func (m *streams) write(t *rapid.T) {
	op := &WriteItem{Kind: objects.KindList, Object: m.ref(t), Mode: rapid.SampledFrom([]WriteMode{AppendItem, UpdateItem}).Draw(t, "mode"), Data: []byte(`"by the SDK"`)}
	op.TTL = ptr(m.ttl(t))
	m.do(asREST, op)
}

func (m *streams) read(t *rapid.T) {
	if o, there := m.fsm.View().Object(m.service().Num, objects.KindList, m.ref(t)); there {
		m.must(asREST, &TouchDurable{List: o.SID})
	}
}

func (m *streams) remove(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "all of it") == 0 {
		m.do(asREST, &RemoveObject{Kind: objects.KindList, Object: m.ref(t)})
	} else {
		m.do(asREST, &RemoveItem{Kind: objects.KindList, Object: m.ref(t)})
	}
}

func (m *streams) bring(t *rapid.T) {
	item := &objects.Item{Index: rapid.Uint64Range(0, 3).Draw(t, "index"), Revision: 3, Data: []byte(`"imported"`), Expires: m.at(m.ttl(t))}
	object := func(count, event uint64) *objects.Object {
		return &objects.Object{SID: foreignList, UniqueName: "foreign", CreatedBy: "bob", Items: count, EventID: objects.EventID(event)}
	}
	all := []Imported{
		{Of: testService, Object: object(0, 0)},
		{Of: foreignList, Item: item},
		{Of: foreignList, Item: &objects.Item{Index: 1}, Remove: true},
		{Of: foreignList, Permission: &objects.Permission{Identity: "alice", Rights: objects.Read}, Remove: rapid.Bool().Draw(t, "take it away")},
		{Of: testService, Object: object(rapid.Uint64Range(0, 3).Draw(t, "items"), rapid.Uint64Range(0, 30).Draw(t, "event")), Whole: true},
		{Of: testService, Object: object(0, 0), Remove: true},
	}
	from := rapid.IntRange(0, 2).Draw(t, "from")
	m.must(asREST, &Import{Records: all[from:rapid.SampledFrom([]int{3, 3, 4, 5, 6}).Draw(t, "to")]})
}

func (m *streams) check(t *rapid.T) {
	m.agree(t)
	v := m.fsm.View()
	for _, o := range v.Objects(m.service().Num, objects.KindList, Span[uint64]{Limit: 10}) {
		once := map[string]bool{}
		for _, i := range v.ItemsAfter(o, 0, 1000) {
			var p Producer
			if n, _ := fmt.Sscanf(string(i.Data), `"%s %d %d"`, &p.ID, &p.Epoch, &p.Seq); n == 3 {
				require.False(t, once[string(i.Data)], "%s is there twice", i.Data)
				once[string(i.Data)] = true
			}
		}
		if !v.Durable(o).Closed {
			continue
		}
		before, known := m.closed[o.Num]
		require.True(t, !known || o.Items <= before, "a closed list has more items than before")
		m.closed[o.Num] = o.Items
	}
}

func TestStreamsAndImportsAreTheSameOnAllReplicas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &streams{newMachine(t), map[uint64]uint64{}}
		t.Repeat(map[string]func(*rapid.T){
			"open":    m.open,
			"append":  m.append,
			"write":   m.write,
			"read":    m.read,
			"remove":  m.remove,
			"import":  m.bring,
			"pass":    m.pass,
			"restore": m.snapshotAndRestore,
			"":        m.check,
		})
	})
}
