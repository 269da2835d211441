package cluster

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

// BenchmarkProposeThroughFollower writes documents of 256 bytes from many
// goroutines at once, all on one follower.
func BenchmarkProposeThroughFollower(b *testing.B) {
	m := newMembers(b, 3, nil)
	benchmarkPropose(b, m, m.followers()[0])
}

// BenchmarkProposeOnLeader is the same without forwarding.
func BenchmarkProposeOnLeader(b *testing.B) {
	m := newMembers(b, 3, nil)
	benchmarkPropose(b, m, m.leader())
}

func benchmarkPropose(b *testing.B, m *members, n *Node) {
	document := newSID(objects.KindDocument)
	m.must(n, &fsm.CreateObject{SID: document, Data: []byte(`{}`)})
	data := make([]byte, 256)
	ctx := context.Background()
	measure(b, "writes/s", func(pb *testing.PB) {
		for pb.Next() {
			c := command(&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: document}, Data: data})
			if r, err := n.Propose(ctx, c); err != nil || r.Err != nil {
				b.Error(r, err)
				return
			}
		}
	})
}

// BenchmarkReadOnFollower takes linearizable views from many goroutines, which
func BenchmarkReadOnFollower(b *testing.B) {
	m := newMembers(b, 3, nil)
	n := m.followers()[0]
	ctx := context.Background()
	measure(b, "reads/s", func(pb *testing.PB) {
		for pb.Next() {
			if _, err := n.Read(ctx, objects.Bucket{}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// measure runs body from 128 goroutines a processor and reports the rate, and
// the processor time of all three nodes and the clients.
func measure(b *testing.B, unit string, body func(*testing.PB)) {
	b.SetParallelism(128)
	before := processorTime(b)
	b.ResetTimer()
	b.RunParallel(body)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), unit)
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
