package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// BenchmarkApply applies writes of map items of 256 bytes, with as many
// commands a batch as the name says: what one view a batch costs, and saves.
func BenchmarkApply(b *testing.B) {
	data := []byte(`"` + string(bytes.Repeat([]byte("x"), 254)) + `"`)
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s := newStore(b)
			m := s.create(objects.KindMap, "m")
			logs := make([]*raft.Log, b.N)
			for n := range logs {
				commands := make([]*Command, size)
				for i := range commands {
					key := fmt.Sprint((n*size + i) % 10_000)
					commands[i] = s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: key}, Mode: PutItem, Data: data})
				}
				logs[n] = s.entry(commands...)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, log := range logs {
				s.fsm.ApplyBatch([]*raft.Log{log})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/command")
		})
	}
}

// BenchmarkApplyUpdates applies updates of 4,096 documents by their names, a
// hundred commands a batch.
func BenchmarkApplyUpdates(b *testing.B) {
	const documents, size = 4096, 100
	data := []byte(`"` + string(bytes.Repeat([]byte("x"), 254)) + `"`)
	s := newStore(b)
	for i := range documents {
		s.create(objects.KindDocument, fmt.Sprintf("document-%d", i))
	}
	logs := make([]*raft.Log, b.N)
	for n := range logs {
		commands := make([]*Command, size)
		for i := range commands {
			name := fmt.Sprintf("document-%d", (n*size+i)*7919%documents)
			commands[i] = s.command(asREST, &UpdateObject{Kind: objects.KindDocument, Object: Ref{Name: name}, Data: data})
		}
		logs[n] = s.entry(commands...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, log := range logs {
		s.fsm.ApplyBatch([]*raft.Log{log})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/command")
}

// fill makes a list of n items of 200 bytes.
func fill(b *testing.B, n int) (*store, *objects.Object) {
	s := newStore(b)
	l := s.create(objects.KindList, "l")
	data := []byte(`"` + string(bytes.Repeat([]byte("x"), 198)) + `"`)
	for done := 0; done < n; done += 1000 {
		commands := make([]*Command, 1000)
		for i := range commands {
			commands[i] = s.command(asREST, &WriteItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Mode: AppendItem, Data: data})
		}
		s.fsm.Apply(s.entry(commands...))
		s.sent = nil
	}
	return s, l
}

// BenchmarkSize compares a list of a thousand items with one of a million: a
// page in the middle, a replay of the last hundred changes, and a write should
// cost about the same.
func BenchmarkSize(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		s, l := fill(b, n)
		o := s.object(l)
		view := s.fsm.View()
		b.Run(fmt.Sprintf("page/items=%d", n), func(b *testing.B) {
			for b.Loop() {
				if got := view.Items(o, Range{From: &ItemKey{Index: uint64(n / 2)}, Limit: 50}); len(got) != 50 {
					b.Fatal(len(got))
				}
			}
		})
		b.Run(fmt.Sprintf("replay/items=%d", n), func(b *testing.B) {
			after := o.EventID - 100
			for b.Loop() {
				if got, err := view.Replay(o, after, after, 1000); err != nil || len(got) != 100 {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(fmt.Sprintf("snapshot/items=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.fsm.Snapshot(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := newStore(b)
	m := s.create(objects.KindMap, "m")
	data := bytes.Repeat([]byte("1"), 200)
	for i := range 100_000 {
		s.put(m, fmt.Sprintf("key-%d", i), string(data))
		s.sent = nil
	}
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			var out bytes.Buffer
			require.NoError(b, s.fsm.WriteSnapshot(&out))
			b.SetBytes(int64(out.Len()))
		}
	})
	written := snapshotBytes(b, s.fsm)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			_, _, err := readSnapshot(bytes.NewReader(written))
			require.NoError(b, err)
		}
	})
}

// fillMaps makes n maps of one item of 256 bytes.
func fillMaps(b *testing.B, n int) *store {
	const batch = 32
	s := newStore(b)
	data := []byte(`"` + string(bytes.Repeat([]byte("x"), 254)) + `"`)
	all := func(op func(i int) Op) {
		for done := 0; done < n; done += batch {
			commands := make([]*Command, batch)
			for i := range commands {
				commands[i] = s.command(asREST, op(done+i))
			}
			s.fsm.Apply(s.entry(commands...))
			s.sent = nil
		}
	}
	name := func(i int) string { return fmt.Sprintf("m%07d", i) }
	all(func(i int) Op {
		var random [16]byte // as those of SIDs are
		binary.BigEndian.PutUint64(random[:], uint64(i+1)*0x9e3779b97f4a7c15)
		return &CreateObject{SID: objects.NewSID(objects.KindMap, random), UniqueName: name(i)}
	})
	all(func(i int) Op {
		return &WriteItem{Kind: objects.KindMap, Object: Ref{Name: name(i)}, Item: ItemKey{Key: "k"}, Mode: AddItem, Data: data}
	})
	return s
}

// BenchmarkMaps has what many small objects take in memory, made one by one and
// restored, and how long restoring them takes.
func BenchmarkMaps(b *testing.B) {
	const n = 200_000
	before := heapBytes()
	s := fillMaps(b, n)
	s.fsm.dedup, s.fsm.feed = newDedup(), newFeed(1, 1)
	made := heapBytes() - before
	written := snapshotBytes(b, s.fsm)
	s.fsm = nil
	before = heapBytes()
	var f *FSM
	b.Run("restore", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f = New(Config{})
			require.NoError(b, f.Restore(io.NopCloser(bytes.NewReader(written))))
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/map")
		b.ReportMetric(float64(made)/n, "made-B/map")
		b.ReportMetric(float64(heapBytes()-before)/n, "restored-B/map")
	})
	runtime.KeepAlive(f)
}

// BenchmarkDedup measures what remembering one command of a client costs, in
// time and in memory.
func BenchmarkDedup(b *testing.B) {
	s := newStore(b)
	l := s.create(objects.KindList, "l")
	result := s.push(l, `1`)
	s.fsm = nil
	d := newDedup()
	before := heapBytes()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		d.remember(&Command{ID: newID(), ClientChosen: true}, 1, int64(i/12), *result)
	}
	b.StopTimer()
	b.ReportMetric(float64(heapBytes()-before)/float64(b.N), "heap-B/command")
	b.ReportMetric(float64(d.windows[keyWindow].answers)/float64(b.N), "answer-B/command")
	runtime.KeepAlive(d)
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
