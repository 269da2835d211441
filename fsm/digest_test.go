package fsm

import (
	"bytes"
	"io"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// touch alters each field of a record in turn, fields of its parts included, and
// tells check its path.
func touch(t *testing.T, path string, v reflect.Value, check func(path string)) {
	altered := func(f func()) {
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		f()
		check(path)
		v.Set(before)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			touch(t, path+"."+v.Type().Field(i).Name, v.Field(i), check)
		}
	case reflect.Pointer:
		touch(t, path, v.Elem(), check)
	case reflect.Bool:
		altered(func() { v.SetBool(!v.Bool()) })
	case reflect.Int, reflect.Int64:
		altered(func() { v.SetInt(v.Int() ^ 1<<40) })
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		altered(func() { v.SetUint(v.Uint() ^ 1<<3) })
	case reflect.String:
		altered(func() { v.SetString(v.String() + "x") })
	case reflect.Array:
		altered(func() { v.Index(v.Len() - 1).SetUint(v.Index(v.Len()-1).Uint() ^ 1) })
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			altered(func() { v.SetBytes(append(bytes.Clone(v.Bytes()), 1)) })
			return
		}
		altered(func() { v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem()))) })
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		touch(t, path+"[]", v.Index(v.Len()-1), check)
	default:
		t.Fatalf("%s: this test knows no %s", path, v.Kind())
	}
}

func covers[T any](t *testing.T, record *T, of func(*T) hash64) {
	t.Helper()
	touch(t, reflect.TypeFor[T]().Name(), reflect.ValueOf(record).Elem(), func(path string) {
		plain := new(T)
		if x, ok := any(plain).(*Tombstone); ok {
			x.Item = new(objects.Item)
		}
		require.NotEqual(t, of(plain), of(record), "%s is not part of the hash", path)
	})
}

func TestHashOfARecordCoversAllOfIt(t *testing.T) {
	covers(t, new(objects.Service), hashService)
	covers(t, new(storedObject), hashObject)
	covers(t, new(objects.Item), hashItem)
	covers(t, &Tombstone{Item: new(objects.Item)}, hashTombstone)
	covers(t, new(objects.Permission), hashPermission)
	covers(t, new(objects.APIKey), hashKey)
	covers(t, new(expiry), func(e *expiry) hash64 { return hashExpiry(*e) })
	covers(t, new(garbage), func(g *garbage) hash64 { return hashGarbage(*g) })
	covers(t, new(Delivery), hashDelivery)
	covers(t, new(Durable), hashDurable)
	covers(t, new(knownProducer), hashProducer)
	covers(t, new(Sealed), hashSealed)
	covers(t, new(Lease), func(l *Lease) hash64 { return hashLease(*l) })
	covers(t, new(Endpoint), func(e *Endpoint) hash64 { return hashEndpoint(*e) })
	covers(t, &meta{Rotation: &KeyRotation{}}, func(m *meta) hash64 {
		v := newView()
		v.meta = *m
		d := v.chain(1, 2)
		// The sum is made of the tables, and the index is told beside the hash.
		return hash64(d.Hash) + hash64(m.Sum) + hash64(m.Digest.Index)
	})
}

func TestEqualStoresHaveEqualDigests(t *testing.T) {
	s := filled(t)
	one := New(Config{})
	for _, log := range s.sent {
		one.Apply(log)
		d, ok := one.Digest(log.Index)
		require.True(t, ok)
		require.Equal(t, one.View().Digest(), d)
	}
	all := New(Config{})
	all.ApplyBatch(s.sent)
	require.Equal(t, s.fsm.View().Digest(), one.View().Digest())
	require.Equal(t, s.fsm.View().Digest(), all.View().Digest(), "however the entries come together")
	for _, log := range s.sent {
		a, _ := one.Digest(log.Index)
		b, ok := all.Digest(log.Index)
		require.True(t, ok)
		require.Equal(t, a, b)
	}
	require.NoError(t, s.fsm.View().Verify())

	// One that was restored goes on with it, and knows nothing of before.
	back := New(Config{})
	require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, s.fsm)))))
	last := s.fsm.View().Digest()
	d, ok := back.Digest(last.Index + 5)
	require.True(t, ok)
	require.Equal(t, last, d)
	_, ok = back.Digest(last.Index - 1)
	require.False(t, ok)
	for range 3 {
		log := s.entry(s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "b"}, Mode: PutItem, Data: []byte(`3`)}))
		s.fsm.Apply(log)
		back.Apply(log)
		require.Equal(t, s.fsm.View().Digest(), back.View().Digest())
	}
	require.NoError(t, back.View().Verify())
}

func TestRaftsOwnEntriesLeaveTheDigest(t *testing.T) {
	s := filled(t)
	before := s.fsm.View().Digest()
	s.fsm.Apply(&raft.Log{Index: before.Index + 1, Term: 2, Type: raft.LogConfiguration})
	require.Equal(t, before, s.fsm.View().Digest())
	d, ok := s.fsm.Digest(before.Index + 1)
	require.True(t, ok)
	require.Equal(t, before, d)
}

func TestOldestDigestsAreForgotten(t *testing.T) {
	var d digests
	_, ok := d.at(1)
	require.False(t, ok)
	for i := uint64(1); i <= 3*digestLength/2; i++ {
		d.add(Digest{Index: 2 * i, Hash: i})
	}
	newest := uint64(3 * digestLength / 2)
	for _, i := range []uint64{newest, newest - 1, newest - digestLength + 1} {
		for _, index := range []uint64{2 * i, 2*i + 1} {
			x, ok := d.at(index)
			require.True(t, ok)
			require.Equal(t, Digest{Index: 2 * i, Hash: i}, x)
		}
	}
	_, ok = d.at(2 * (newest - digestLength))
	require.False(t, ok)
	d.reset(Digest{})
	_, ok = d.at(1 << 60)
	require.False(t, ok)
}

// A bit that flips in memory is found by adding up anew, goes into no
// snapshot, and shows in the digest when the record is touched.
func TestBitThatFlipsInMemoryIsFound(t *testing.T) {
	s := filled(t)
	m, _ := s.fsm.View().Object(s.service().Num, objects.KindMap, Ref{Name: "m"})
	twin := New(Config{})
	twin.ApplyBatch(s.sent)

	item, ok := s.fsm.View().Item(m, ItemKey{Key: "b"})
	require.True(t, ok)
	item.Data[0] ^= 1
	require.ErrorIs(t, s.fsm.View().Verify(), ErrAltered)
	require.NoError(t, twin.View().Verify())
	require.ErrorIs(t, s.fsm.WriteSnapshot(io.Discard), ErrAltered)

	log := s.entry(s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "b"}, Mode: PutItem, Data: []byte(`3`)}))
	s.fsm.Apply(log)
	twin.Apply(log)
	require.NotEqual(t, twin.View().Digest().Hash, s.fsm.View().Digest().Hash)
}

func BenchmarkVerify(b *testing.B) {
	s, _ := fill(b, 1_000_000)
	view := s.fsm.View()
	for b.Loop() {
		if err := view.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDigest has what a write of an item of 256 bytes over another one adds
// to applying it: four hashes of records and one of the result.
func BenchmarkDigest(b *testing.B) {
	s := newStore(b)
	m := s.create(objects.KindMap, "m")
	r := s.put(m, "key", `"`+string(bytes.Repeat([]byte("x"), 254))+`"`)
	item, _ := s.fsm.View().Item(s.object(m), ItemKey{Key: "key"})
	answer, err := r.Encode()
	require.NoError(b, err)
	all, o := hash64(0), s.stored(m)
	for b.Loop() {
		all += hashItem(item) + hashItem(item) + hashObject(o) + hashObject(o) + all.bytes(answer)
	}
}

// A record that changes without the sum, on all replicas alike, makes them all
// doubt what they have. One recount in the log is right for all, for those that
// come by snapshot later, and shows whose records are others.
func TestRecountMakesTheSumAnewOnAllReplicasAlike(t *testing.T) {
	s := filled(t)
	twin, odd := New(Config{}), New(Config{})
	twin.ApplyBatch(s.sent)
	odd.ApplyBatch(s.sent)
	item := func(f *FSM) *objects.Item {
		m, _ := f.View().Object(s.service().Num, objects.KindMap, Ref{Name: "m"})
		item, ok := f.View().Item(m, ItemKey{Key: "b"})
		require.True(t, ok)
		return item
	}
	for _, f := range []*FSM{s.fsm, twin, odd} {
		item(f).Revision++
	}
	item(odd).Data[0] ^= 1
	require.NotZero(t, s.fsm.View().Drift())
	require.Equal(t, s.fsm.View().Drift(), twin.View().Drift())
	require.NotEqual(t, s.fsm.View().Drift(), odd.View().Drift())
	drift := twin.View().Drift()

	log := s.entry(
		s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "new"}, Mode: PutItem, Data: []byte(`1`)}),
		RecountState(newID()),
		s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "new"}, Mode: PutItem, Data: []byte(`2`)}),
	)
	for _, f := range []*FSM{s.fsm, twin, odd} {
		f.Apply(log)
		require.NoError(t, f.View().Verify())
	}
	require.Equal(t, Recounts{Last: log.Index, Wrong: 1, Drift: drift}, twin.View().Recounts())
	require.Equal(t, s.fsm.View().Digest(), twin.View().Digest())
	require.NotEqual(t, twin.View().Digest(), odd.View().Digest(), "the sum is that of the records, whatever they are")

	back := New(Config{})
	require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, s.fsm)))))
	require.Zero(t, back.View().Recounts())
	next := s.entry(s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "b"}, Mode: PutItem, Data: []byte(`3`)}))
	for _, f := range []*FSM{s.fsm, twin, back} {
		f.Apply(next)
		require.NoError(t, f.View().Verify())
		require.Equal(t, s.fsm.View().Digest(), f.View().Digest())
	}
}
