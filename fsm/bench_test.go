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
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				b.StopTimer()
				commands := make([]*Command, size)
				for i := range commands {
					n++
					commands[i] = s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: fmt.Sprint(n % 10_000)}, Mode: PutItem, Data: data})
				}
				log := s.entry(commands...)
				s.sent = nil
				b.StartTimer()
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
