package batch

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

func TestFullQueueRefuses(t *testing.T) {
	q := NewQueue()
	for range maxQueued {
		require.NoError(t, q.Put(NewProposal(context.Background(), nil, false)))
	}
	require.ErrorIs(t, q.Put(NewProposal(context.Background(), nil, false)), wire.ErrOverloaded)

	q = NewQueue()
	body := make([]byte, 1<<20)
	for range maxQueuedBytes / len(body) {
		require.NoError(t, q.Put(NewProposal(context.Background(), body, false)))
	}
	require.ErrorIs(t, q.Put(NewProposal(context.Background(), body, false)), wire.ErrOverloaded)
	require.Len(t, q.Take(context.Background()), 1, "a group of one large proposal")
	require.NoError(t, q.Put(NewProposal(context.Background(), body, false)), "there is room again")
}

func TestQueueGivesGroupsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := NewQueue()
		var want []*Proposal
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		for range rapid.IntRange(0, 600).Draw(t, "count") {
			p := NewProposal(context.Background(), make([]byte, rapid.IntRange(0, 4000).Draw(t, "size")), false)
			if rapid.IntRange(0, 9).Draw(t, "gone") == 0 {
				p.ctx = gone
			} else {
				want = append(want, p)
			}
			require.NoError(t, q.Put(p))
		}
		var got []*Proposal
		for len(got) < len(want) {
			group := q.Take(context.Background())
			size := 0
			for _, p := range group {
				size += len(p.Body)
			}
			require.LessOrEqual(t, len(group), maxGroup)
			require.LessOrEqual(t, size, maxGroupBytes)
			got = append(got, group...)
		}
		require.Equal(t, want, got)
		require.Nil(t, q.Take(gone))
	})
}

func TestQueueKeepsTogetherWhatWasPutTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := NewQueue()
		unit := make(map[*Proposal]int)
		var want, got []*Proposal
		for i := range rapid.IntRange(0, 60).Draw(t, "count") {
			var together []*Proposal
			for range rapid.IntRange(1, 64).Draw(t, "length") {
				p := NewProposal(context.Background(), make([]byte, rapid.IntRange(0, 4000).Draw(t, "size")), false)
				unit[p] = i
				together = append(together, p)
			}
			require.NoError(t, q.Put(together...))
			want = append(want, together...)
		}
		for last := -1; len(got) < len(want); {
			group := q.Take(context.Background())
			require.NotEqual(t, last, unit[group[0]], "the group before has a part")
			last = unit[group[len(group)-1]]
			got = append(got, group...)
		}
		require.Equal(t, len(want), len(got))
		for i := range want {
			require.Same(t, want[i], got[i])
		}
	})
	q := NewQueue()
	for range maxQueued - 1 {
		require.NoError(t, q.Put(NewProposal(context.Background(), nil, false)))
	}
	two := []*Proposal{NewProposal(context.Background(), nil, false), NewProposal(context.Background(), nil, false)}
	require.ErrorIs(t, q.Put(two...), wire.ErrOverloaded, "not one of them")
	require.NoError(t, q.Put(two[0]))
}

func TestClosedQueueSettlesWhatWaits(t *testing.T) {
	q := NewQueue()
	p := NewProposal(context.Background(), nil, false)
	require.NoError(t, q.Put(p))
	q.Close(wire.ErrNotLeader)
	require.ErrorIs(t, (<-p.out).Err, wire.ErrNotLeader)
	require.ErrorIs(t, q.Put(p), wire.ErrNotLeader)
}

// heldFuture is an answer of raft that the test gives.
type heldFuture struct {
	raft.ApplyFuture
	release chan error
	results []*fsm.Result
}

func (f *heldFuture) Error() error  { return <-f.release }
func (f *heldFuture) Response() any { return f.results }

func TestBatcherGathersWhileOneIsUnderWay(t *testing.T) {
	futures := make(chan *heldFuture, 10)
	var made []int
	applied, traced := 0, 0
	b := NewBatcher(func([]byte) raft.ApplyFuture {
		f := &heldFuture{release: make(chan error, 1)}
		futures <- f
		return f
	}, func() int64 { return 1 }, Observer{
		Made:    func(commands, _ int, waited time.Duration) { made = append(made, commands) },
		Applied: func(time.Time) { applied++ },
		Traced:  func(*wire.Span, time.Time, time.Time) { traced++ },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.Run(ctx) })

	var all []*Proposal
	put := func() {
		p := NewProposal(context.Background(), []byte("x"), false)
		if len(all)%2 == 0 {
			p.Span = new(wire.Span)
		}
		all = append(all, p)
		require.NoError(t, b.Put(p))
	}
	put()
	first := <-futures
	for range 10 {
		put()
	}
	select {
	case <-futures:
		require.FailNow(t, "a second batch was sent")
	default:
	}
	result := &fsm.Result{Index: 5}
	first.results = []*fsm.Result{result}
	first.release <- nil
	require.Equal(t, Outcome{Result: result}, <-all[0].out)
	second := <-futures
	second.release <- raft.ErrLeadershipLost
	for _, p := range all[1:] {
		require.ErrorIs(t, (<-p.out).Err, wire.ErrUnknownOutcome)
	}
	put()
	third := <-futures
	third.release <- raft.ErrNotLeader
	err := (<-all[11].out).Err
	require.ErrorIs(t, err, wire.ErrNotLeader)
	require.True(t, wire.NotWritten(err))
	cancel()
	running.Wait()
	require.Equal(t, []int{1, 10, 1}, made, "what each entry was told to be made of")
	require.Equal(t, 1, applied, "only what was applied is told to be")
	require.Equal(t, 1, traced, "of what was applied, what is followed")
	require.ErrorIs(t, b.Put(all[0]), wire.ErrNotLeader)
}
