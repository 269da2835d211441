package replica

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/member"
	"lockstep/fsm"
)

// Verification is the outcome of Verify.
type Verification struct {
	Index uint64 // at which the states were compared
	Equal bool   // all members have answered, and have one state
	Nodes []Report
}

// Report is what Verify found of one member.
type Report struct {
	ID      string
	Digest  fsm.Digest
	Problem string // empty if its state is that of the majority
}

// Verify has every member add up its state anew and say its digest at one log
// index, which is this node's last one, and compares them.
func (r *Replica) Verify(ctx context.Context) Verification {
	servers := r.Servers.All()
	v := Verification{Index: r.Store.View().Digest().Index, Nodes: make([]Report, len(servers))}
	var asking sync.WaitGroup
	for i, s := range servers {
		asking.Go(func() { v.Nodes[i] = r.report(ctx, s, v.Index) })
	}
	asking.Wait()
	slices.SortStableFunc(v.Nodes, func(a, b Report) int { return cmp.Compare(a.ID, b.ID) })
	v.conclude()
	return v
}

func (r *Replica) report(ctx context.Context, s raft.Server, index uint64) Report {
	report := Report{ID: member.NodeOf(s.ID)}
	a, err := r.ask(ctx, s, Request{Index: index, Verify: true}, verifyTimeout)
	switch {
	case err != nil:
		report.Problem = fmt.Sprintf("it does not answer: %v", err)
	case a.Version != fsm.DigestVersion:
		report.Problem = "it is of a release with other digests"
	case !a.Known || a.Digest.Index != index:
		report.Problem = "it remembers no digest of that index any more"
	default:
		report.Digest, report.Problem = a.Digest, a.Fault
	}
	return report
}

// conclude finds who has another state than the majority.
func (v *Verification) conclude() {
	counts := make(map[fsm.Digest]int)
	largest := 0
	for _, r := range v.Nodes {
		if r.Digest.Index > 0 {
			counts[r.Digest]++
			largest = max(largest, counts[r.Digest])
		}
	}
	v.Equal = true
	for i := range v.Nodes {
		r := &v.Nodes[i]
		majority := 2*largest > len(v.Nodes)
		switch {
		case r.Problem != "" || len(counts) == 1 || counts[r.Digest] == largest && majority:
		case majority:
			r.Problem = "its state differs from that of the majority"
		default:
			r.Problem = "its state differs from others', and no majority says whose is right"
		}
		v.Equal = v.Equal && r.Problem == ""
	}
}
