package fsm

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"reflect"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
)

// tables returns what is in the tables of a view, those that no snapshot has included.
func (v *View) tables() []any {
	return []any{
		v.services.Items(), v.objects.Items(), v.sids.Items(), v.names.Items(), v.items.Items(), v.changes.Items(), v.tombstones.Items(),
		v.byAge.Items(), v.permissions.Items(), v.keys.Items(), v.expiries.Items(), v.usage.Items(), v.garbage.Items(), v.outbox.Items(),
		v.waiting.Items(), v.shares.Items(), v.byWeight.Items(), v.endpoints.Items(), v.connections.Items(), v.absences.Items(),
		v.sealed.Items(), v.leases.Items(), v.durables.Items(), v.producers.Items(), v.holders.Items(), v.lapses.Items(),
		v.holds.Items(), v.held.Items(),
	}
}

// sameTables fails unless two views have the same in every table.
func sameTables(t require.TestingT, a, b *View) {
	want, got := a.tables(), b.tables()
	require.Len(t, want, reflect.TypeFor[View]().NumField()-3, "all but meta, corrections, recounts")
	for i := range want {
		require.Equal(t, want[i], got[i], "table %d", i)
	}
}

func TestRestoredStoreHasTheSameTables(t *testing.T) {
	s := filled(t)
	s.must(asREST, &UpdateService{ACLEnabled: ptr(false)})
	for i := range 300 { // more than one node has
		m := s.create(objects.KindMap, fmt.Sprint("map-", i*7919%300))
		s.put(m, "k", `1`)
		if i%3 == 0 {
			s.create(objects.KindDocument, "")
		}
	}
	m, l := s.create(objects.KindMap, ""), s.create(objects.KindList, "")
	for i := range 300 {
		s.put(m, fmt.Sprint(i*7919%300), `1`)
		s.push(l, `1`)
	}
	for i := range 100 {
		s.put(m, fmt.Sprint(i), `2`)
		s.must(asREST, &RemoveItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Item: ItemKey{Index: uint64(3 * i)}})
		s.must(Actor{Identity: fmt.Sprint("u", i), Endpoint: "e", Token: true}, &ConnectEndpoint{Node: fmt.Sprint("n", i%3)})
	}
	back := New(Config{})
	require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, s.fsm)))))
	sameTables(t, s.fsm.View(), back.View())
	require.NoError(t, back.View().Verify())
	require.Equal(t, s.fsm.View().Bytes(), back.View().Bytes())

	// And it goes on the same.
	for i := range 300 {
		log := s.entry(
			s.command(asREST, &RemoveObject{Kind: objects.KindMap, Object: Ref{Name: fmt.Sprint("map-", i)}}),
			s.command(asREST, &CreateObject{SID: s.sid(objects.KindMap), UniqueName: fmt.Sprint("again-", i)}),
			s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: fmt.Sprint(i)}, Mode: PutItem, Data: []byte(`3`)}),
		)
		s.fsm.Apply(log)
		back.Apply(log)
	}
	require.Equal(t, s.fsm.View().Digest(), back.View().Digest())
	sameTables(t, s.fsm.View(), back.View())
}

// rawRecord is one of a snapshot.
type rawRecord struct {
	is   recordType
	data []byte
}

// rawRecords takes a state to its records, without the trailer.
func rawRecords(t *testing.T, f *FSM) (all []rawRecord) {
	var b bytes.Buffer
	require.NoError(t, writeRecords(&b, f.View(), f.dedup.snapshot()))
	r, read := newRecordReader(&b), new(stretch)
	complete, err := r.fill(read)
	require.NoError(t, err)
	require.True(t, complete)
	for _, x := range read.records {
		all = append(all, rawRecord{x.is, read.bytes[x.begin:x.end]})
	}
	return all
}

// rawSnapshot makes a snapshot of records, with a trailer that is right.
func rawSnapshot(t *testing.T, all []rawRecord) []byte {
	out := bytes.NewBuffer(binary.AppendUvarint(bytes.Clone(snapshotMagic), uint64(Level1)))
	z, err := zstd.NewWriter(out)
	require.NoError(t, err)
	var plain []byte
	for _, r := range all {
		plain = append(binary.AppendUvarint(append(plain, byte(r.is)), uint64(len(r.data))), r.data...)
	}
	end, err := encode(nil, trailer{Records: uint64(len(all))})
	require.NoError(t, err)
	plain = append(binary.AppendUvarint(append(plain, byte(recordTrailer)), uint64(len(end))), end...)
	_, err = z.Write(plain)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return out.Bytes()
}

// What was written otherwise than a store does is refused, even if its sums are right.
func TestSnapshotOfRecordsInDisorderIsRefused(t *testing.T) {
	s := filled(t)
	for i := range 100 {
		s.put(s.create(objects.KindMap, fmt.Sprint(i)), "k", `1`)
	}
	all := rawRecords(t, s.fsm)
	_, _, err := readSnapshot(bytes.NewReader(rawSnapshot(t, all)))
	require.NoError(t, err)
	outOfTables := []recordType{recordMeta, recordWindow, recordChunk}
	doubled, swapped := map[recordType]bool{}, map[recordType]bool{}
	for i, r := range all {
		if slices.Contains(outOfTables, r.is) || doubled[r.is] && i%29 != 0 {
			continue
		}
		doubled[r.is] = true
		twice := slices.Insert(slices.Clone(all), i, r)
		_, _, err := readSnapshot(bytes.NewReader(rawSnapshot(t, twice)))
		require.ErrorIs(t, err, ErrSnapshot, "record %d, of type %d, twice", i, r.is)
		require.ErrorIs(t, err, errDisorder)

		missing := slices.Delete(slices.Clone(all), i, i+1)
		_, _, err = readSnapshot(bytes.NewReader(rawSnapshot(t, missing)))
		require.ErrorIs(t, err, ErrSnapshot, "record %d, of type %d, is missing", i, r.is)

		if i+1 < len(all) && all[i+1].is == r.is {
			swapped[r.is] = true
			swap := slices.Clone(all)
			swap[i], swap[i+1] = swap[i+1], swap[i]
			_, _, err = readSnapshot(bytes.NewReader(rawSnapshot(t, swap)))
			require.ErrorIs(t, err, errDisorder, "records %d and the next, of type %d", i, r.is)
		}
	}
	require.Len(t, doubled, len(everyRecord())-len(outOfTables)-1, "all but those and the trailer")
	require.True(t, swapped[recordObject] && swapped[recordItem])

	late := append(slices.Clone(all), all[slices.IndexFunc(all, func(r rawRecord) bool { return r.is == recordObject })])
	_, _, err = readSnapshot(bytes.NewReader(rawSnapshot(t, late)))
	require.ErrorIs(t, err, errDisorder, "an object behind the items")
	for _, cut := range []rawRecord{{recordTombstone, []byte{0xa0}}, {recordItem, nil}, {200, nil}} {
		_, _, err = readSnapshot(bytes.NewReader(rawSnapshot(t, append(slices.Clone(all), cut))))
		require.ErrorIs(t, err, ErrSnapshot)
	}
}

// Two objects that have one SID, or one name, are none that a store has written.
func TestSnapshotOfTwoObjectsOfOneNameIsRefused(t *testing.T) {
	for _, alter := range []func(first, second *storedObject){
		func(first, second *storedObject) { second.SID = first.SID },
		func(first, second *storedObject) { second.UniqueName = first.UniqueName },
	} {
		s := newStore(t)
		a, b := s.stored(s.create(objects.KindMap, "a")), s.stored(s.create(objects.KindMap, "b"))
		alter(a, b)
		_, _, err := readSnapshot(bytes.NewReader(rawSnapshot(t, rawRecords(t, unsummed(s.fsm)))))
		require.ErrorIs(t, err, errDisorder)
	}
}

// unsummed takes the state of a store for what was put there.
func unsummed(f *FSM) *FSM {
	f.View().meta.Sum += hash64(f.View().Drift())
	return f
}

func TestSIDsAreSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := make([]sidEntry, rapid.IntRange(0, 500).Draw(t, "entries"))
		for i := range entries {
			random := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "random")
			kind := rapid.SampledFrom([]objects.Kind{objects.KindService, objects.KindDocument, objects.KindStream, objects.KindMap}).Draw(t, "kind")
			entries[i] = sidEntryOf(objects.NewSID(kind, [16]byte(random)), 0, uint64(i))
		}
		want := slices.Clone(entries)
		slices.SortStableFunc(want, compareSIDs)
		sortBySID(entries)
		for i, e := range entries {
			require.Zero(t, compareSIDs(want[i], e))
		}
		slices.SortFunc(entries, func(a, b sidEntry) int { return cmp.Compare(a.is.num(), b.is.num()) })
		for i, e := range entries {
			require.EqualValues(t, i, e.is.num(), "none is there twice")
		}
	})
}
