package fsm

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// nowhere is where a snapshot goes that nobody needs.
type nowhere struct{ io.Writer }

func (nowhere) ID() string    { return "" }
func (nowhere) Close() error  { return nil }
func (nowhere) Cancel() error { return nil }

// BenchmarkSnapshotPause applies entries of 16 writes to a store of a million items,
// while a snapshot of it is written. What raft waits for is capturing it, and what
// is applied meanwhile; the longest entry without a snapshot is to compare with.
func BenchmarkSnapshotPause(b *testing.B) {
	s, l := fill(b, 1_000_000)
	data := []byte(`"written again"`)
	var next uint64
	// apply applies entries until done, and returns how long each took.
	apply := func(done func() bool) (took []time.Duration) {
		for !done() {
			commands := make([]*Command, 16)
			for i := range commands {
				next = (next + 7919) % 1_000_000
				commands[i] = s.command(asREST, &WriteItem{Kind: objects.KindList, Object: Ref{SID: l.SID}, Item: ItemKey{Index: next}, Mode: UpdateItem, Data: data})
			}
			entry := s.entry(commands...)
			s.sent = nil
			begin := time.Now()
			s.fsm.ApplyBatch([]*raft.Log{entry})
			took = append(took, time.Since(begin))
		}
		return took
	}
	var capture time.Duration
	var during, quiet []time.Duration
	for b.Loop() {
		begin := time.Now()
		snapshot, err := s.fsm.Snapshot()
		capture = max(capture, time.Since(begin))
		require.NoError(b, err)
		written := make(chan error, 1)
		go func() { written <- snapshot.Persist(nowhere{io.Discard}) }()
		during = append(during, apply(func() bool { return len(written) > 0 })...)
		require.NoError(b, <-written)
		begin = time.Now()
		quiet = append(quiet, apply(func() bool { return time.Since(begin) > time.Second })...)
	}
	slices.Sort(during)
	slices.Sort(quiet)
	for name, d := range map[string]time.Duration{
		"capture-max": capture, "during-max": during[len(during)-1], "during-p99": during[len(during)*99/100],
		"quiet-max": quiet[len(quiet)-1], "quiet-p99": quiet[len(quiet)*99/100],
	} {
		b.ReportMetric(float64(d.Microseconds())/1000, name+"-ms")
	}
}
