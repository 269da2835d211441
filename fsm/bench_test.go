package fsm

import (
	"bytes"
	"fmt"
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
}
