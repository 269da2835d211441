package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

// skewed is a machine's clock that a test steps.
type skewed struct{ ahead atomic.Int64 }

func (s *skewed) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *skewed) step(d time.Duration) { s.ahead.Store(int64(d)) }

const year = 365 * 24 * time.Hour

// clocks gives each node of a cluster a clock of its own.
func clocks() (map[string]*skewed, func(*Config)) {
	all := map[string]*skewed{"n1": {}, "n2": {}, "n3": {}}
	return all, func(c *Config) { c.Clock = all[c.ID].now }
}

func (m *members) transfer(to *Node) {
	m.t.Helper()
	m.eventually(func() bool {
		if to.IsLeader() {
			return true
		}
		from := m.leader()
		err := from.life.Await(m.context(), from.raft.LeadershipTransferToServer(raft.ServerID(to.self), raft.ServerAddress(to.InternalAddr())))
		return err == nil && to.IsLeader()
	})
}

// TestTimeIsMonotonicAcrossLeadersWithSkewedClocks moves leadership between nodes whose clocks
// differ by more than the dedup window, while they are written to.
func TestTimeIsMonotonicAcrossLeadersWithSkewedClocks(t *testing.T) {
	t.Parallel()
	all, edit := clocks()
	m := newMembers(t, 3, edit)
	m.must(m.nodes["n1"], &fsm.CreateObject{SID: newSID(objects.KindDocument), UniqueName: "lasting", TTL: 60})
	began := m.leader().FSM().View().Time()
	start := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writing sync.WaitGroup
	var acknowledged, unknown atomic.Int64
	for _, n := range m.nodes {
		for range 4 {
			writing.Go(func() {
				for ctx.Err() == nil {
					r, err := n.Propose(t.Context(), command(appendItem()))
					switch {
					case err != nil:
						unknown.Add(1)
					case r.Err != nil:
						t.Errorf("refused: %v", r.Err)
					default:
						acknowledged.Add(1)
					}
				}
			})
		}
	}
	for i, ahead := range []time.Duration{11 * time.Minute, -11 * time.Minute, 11 * time.Minute} {
		id := []string{"n1", "n2", "n3"}[i]
		all[id].step(ahead)
		m.transfer(m.nodes[id])
	}
	stop()
	writing.Wait()
	items := int64(m.items(m.nodes["n1"]))
	require.NotZero(t, acknowledged.Load())
	require.GreaterOrEqual(t, items, acknowledged.Load())
	require.LessOrEqual(t, items, acknowledged.Load()+unknown.Load(), "nothing is done twice")
	real := time.Since(start)
	passed := time.Duration(m.leader().FSM().View().Time()-began) * time.Millisecond
	require.InDelta(t, real.Seconds(), passed.Seconds(), 0.1*real.Seconds()+1)
}

// TestClockYearAheadNeitherExpiresNorStopsExpiry has the leader's clock a
// year ahead: it hands leadership over, and no TTL is felt by it.
func TestClockYearAheadNeitherExpiresNorStopsExpiry(t *testing.T) {
	t.Parallel()
	all, edit := clocks()
	m := newMembers(t, 3, edit)
	leader := m.leader()
	all[leader.ID()].step(year)
	month := int64(30 * 24 * 3600)
	m.must(leader, &fsm.CreateObject{SID: newSID(objects.KindDocument), UniqueName: "month", TTL: month})
	m.must(leader, appendItem())
	m.eventually(func() bool { return !leader.IsLeader() })
	other := m.leader()
	require.NotEqual(t, leader, other)
	_, far := leader.ClockOffset()
	require.True(t, far)
	_, far = other.ClockOffset()
	require.False(t, far)

	all[leader.ID()].step(0)
	short := newSID(objects.KindDocument)
	m.must(other, &fsm.CreateObject{SID: short, TTL: 1})
	m.eventually(func() bool {
		_, there := other.FSM().View().ObjectBySID(short)
		return !there
	})
	view := other.FSM().View()
	service, _ := view.Service(fsm.Ref{SID: testService})
	o, there := view.Object(service.Num, objects.KindDocument, fsm.Ref{Name: "month"})
	require.True(t, there)
	require.InDelta(t, time.Now().UnixMilli()+month*1000, o.Expires, 60_000)
	m.eventually(func() bool { _, far := leader.ClockOffset(); return !far })
}

// TestDowntimeCountsTowardsExpiry has a whole cluster down for an hour: its time goes on from
// where the clocks of its nodes are, and what fell due meanwhile expires.
func TestDowntimeCountsTowardsExpiry(t *testing.T) {
	t.Parallel()
	all, edit := clocks()
	m := newMembers(t, 3, edit)
	sid := newSID(objects.KindDocument)
	m.must(m.leader(), &fsm.CreateObject{SID: sid, TTL: 1800})
	for _, n := range m.nodes {
		m.crash(n)
	}
	for _, c := range all {
		c.step(time.Hour)
	}
	all["n2"].step(year) // and one is wrong
	for id := range m.nodes {
		m.open(id)
	}
	m.eventually(func() bool {
		view, err := m.leader().Read(m.context(), objects.Bucket{})
		if err != nil {
			return false
		}
		_, there := view.ObjectBySID(sid)
		return !there
	})
	require.InDelta(t, time.Now().Add(time.Hour).UnixMilli(), m.leader().FSM().View().Time(), 60_000)
}
