package cluster

import (
	"context"
	"testing"

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
	b.SetParallelism(128)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := command(&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: document}, Data: data})
			if r, err := n.Propose(ctx, c); err != nil || r.Err != nil {
				b.Error(r, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

// BenchmarkReadOnFollower takes linearizable views from many goroutines, which
func BenchmarkReadOnFollower(b *testing.B) {
	m := newMembers(b, 3, nil)
	n := m.followers()[0]
	ctx := context.Background()
	b.SetParallelism(128)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := n.Read(ctx, ""); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}
