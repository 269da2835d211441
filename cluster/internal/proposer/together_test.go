package proposer

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/watch"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

var (
	service = objects.NewSID(objects.KindService, [16]byte{1})
	list    = objects.NewSID(objects.KindList, [16]byte{2})
)

// Commands that go together have one outcome each, whatever becomes of an attempt and
// whoever leads meanwhile: they are in the log once, in their order.
func TestEachCommandOfAGroupIsToldOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		checkTold(t, rt, func(ctx context.Context, p *Proposer, commands []*fsm.Command, told func(int, *fsm.Result, error)) {
			p.ProposeAll(ctx, commands, told)
		})
	})
}

// So do commands that come one after the other.
func TestEachCommandIsToldOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		checkTold(t, rt, func(ctx context.Context, p *Proposer, commands []*fsm.Command, told func(int, *fsm.Result, error)) {
			for i, c := range commands {
				r, err := p.Propose(ctx, c)
				told(i, r, err)
			}
		})
	})
}

func checkTold(t *testing.T, rt *rapid.T, propose func(ctx context.Context, p *Proposer, commands []*fsm.Command, told func(int, *fsm.Result, error))) {
	c := &unruly{
		leaders: rapid.SliceOfN(rapid.Custom(drawReign), 0, 6).Draw(rt, "leaders"),
		fates:   rapid.SliceOfN(rapid.Custom(drawFate), 0, 6).Draw(rt, "fates"),
	}
	sizes := rapid.SliceOfN(rapid.SampledFrom([]int{small, large, tooLarge}), 1, 5).Draw(rt, "sizes")
	times, errs := make([]int, len(sizes)), make([]error, len(sizes))
	var commands []*fsm.Command
	var sound []string // what is written, in its order
	for i, size := range sizes {
		data := strconv.Itoa(i) + strings.Repeat(" ", size)
		if size != tooLarge {
			sound = append(sound, strconv.Itoa(i))
		}
		commands = append(commands, command(&fsm.WriteItem{
			Kind: objects.KindList, Object: fsm.Ref{SID: list}, Mode: fsm.AppendItem, Data: []byte(data),
		}))
	}
	synctest.Test(t, func(t *testing.T) {
		p := c.start()
		propose(t.Context(), p, commands, func(i int, r *fsm.Result, err error) {
			if times[i]++; err != nil {
				errs[i] = err
			} else if r.Err != nil {
				errs[i] = r.Err
			}
		})
		p.Life.End()
		p.Life.Wait()
	})
	for i, size := range sizes {
		require.Equal(rt, 1, times[i], "command %d", i)
		if size == tooLarge {
			require.ErrorIs(rt, errs[i], wire.ErrTooLarge)
		} else {
			require.NoError(rt, errs[i])
		}
	}
	view := c.store.View()
	o, _ := view.ObjectBySID(list)
	var stored []string
	for _, item := range view.Items(o, fsm.Range{Limit: 100}) {
		stored = append(stored, strings.TrimSpace(string(item.Data)))
	}
	require.Equal(rt, sound, stored)
}

// Sizes of commands: many or two of them go into one entry, or it goes into none.
const (
	small    = 0
	large    = maxTogether / 2
	tooLarge = maxCommand
)

// reign is a time in which a server leads, or none.
type reign struct {
	leader string
	lasts  time.Duration
}

func drawReign(t *rapid.T) reign {
	return reign{rapid.SampledFrom([]string{"", self, other}).Draw(t, "leader"), drawTime(t, "lasts")}
}

// fate is what becomes of a request to the leader.
type fate struct {
	failure error // of the answer; nil: it succeeds if the entry is applied by then
	lost    bool  // nothing of it ever comes into the log
	applied time.Duration
	unheard bool // this node's store does not tell who waits, as when it is restored
	answer  time.Duration
}

func drawFate(t *rapid.T) fate {
	f := fate{
		failure: rapid.SampledFrom([]error{nil, wire.ErrUnknownOutcome, wire.ErrNotLeader}).Draw(t, "failure"),
		lost:    rapid.Bool().Draw(t, "lost"),
		applied: drawTime(t, "applied"),
		unheard: rapid.Bool().Draw(t, "unheard"),
		answer:  drawTime(t, "answer"),
	}
	f.lost = f.lost || f.failure == wire.ErrNotLeader
	return f
}

func drawTime(t *rapid.T, label string) time.Duration {
	return time.Duration(rapid.IntRange(0, 60).Draw(t, label)) * time.Millisecond
}

const self, other = "n1.1", "n2.1"

// unruly is a cluster whose leaders come and go as they were drawn, and do with
// requests what was drawn; from then on another node leads, and all goes well. It
// implements Leadership and wire.Caller.
type unruly struct {
	leaders []reign
	fates   []fate

	state   watch.Value[leadership.State]
	store   *fsm.FSM
	waiters *Waiters

	mu      sync.Mutex
	index   uint64
	unheard bool
}

func (c *unruly) start() *Proposer {
	c.waiters = NewWaiters()
	c.store = fsm.New(fsm.Config{Applied: func(applied []fsm.Applied) {
		if !c.unheard {
			c.waiters.Resolve(applied)
		}
	}})
	for _, op := range []fsm.Op{&fsm.Initialise{ClusterID: "c", Service: service}, &fsm.CreateObject{SID: list}} {
		body, err := command(op).Encode()
		if err != nil {
			panic(err)
		}
		c.apply([][]byte{body}, false)
	}
	p := New(Config{Self: self, Leadership: c, Peers: c, Store: c.store, Waiters: c.waiters, Life: lifetime.New()})
	c.state.Set(leadership.State{Leader: append(c.leaders, reign{leader: other})[0].leader})
	for _, run := range []func(){p.Run, func() { c.reign(p.Life.Context()) }} {
		if err := p.Life.Go(run); err != nil {
			panic(err)
		}
	}
	return p
}

func command(op fsm.Op) *fsm.Command {
	return &fsm.Command{ID: commandid.New(), Service: service, Op: op}
}

func (c *unruly) apply(bodies [][]byte, unheard bool) []*fsm.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	c.unheard = unheard
	return c.store.Apply(&raft.Log{Index: c.index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeBatch(1, bodies)}).([]*fsm.Result)
}

func (c *unruly) reign(ctx context.Context) {
	for _, r := range append(c.leaders, reign{leader: other}) {
		c.state.Set(leadership.State{Leader: r.leader})
		lifetime.Pause(ctx, r.lasts)
	}
}

func (c *unruly) State() (leadership.State, <-chan struct{}) { return c.state.Get() }

// Leading returns nil: a term of this node never starts.
func (c *unruly) Leading() *leadership.Term { return nil }

func (c *unruly) Started(context.Context) (*leadership.Term, error) { return nil, wire.ErrNotLeader }

func (c *unruly) Call(ctx context.Context, _ string, _ byte, body []byte) ([]byte, error) {
	var f fate
	c.mu.Lock()
	if len(c.fates) > 0 {
		f, c.fates = c.fates[0], c.fates[1:]
	}
	c.mu.Unlock()
	group, err := decodeProposals(ctx, body)
	if err != nil {
		return nil, err
	}
	var bodies [][]byte
	for _, attempt := range group {
		bodies = append(bodies, attempt.Body)
	}
	var results []*fsm.Result
	switch {
	case f.lost || f.applied > f.answer:
		f.failure = cmp.Or(f.failure, wire.ErrUnknownOutcome)
		if !f.lost {
			time.AfterFunc(f.applied, func() { c.apply(bodies, f.unheard) })
		}
		lifetime.Pause(ctx, f.answer)
	default:
		time.Sleep(f.applied)
		results = c.apply(bodies, f.unheard)
		lifetime.Pause(ctx, f.answer-f.applied)
	}
	var answer []byte
	for i := range group {
		o := batch.Outcome{Err: f.failure}
		if f.failure == nil {
			o.Result = results[i]
		}
		answer = encodeOutcome(answer, o)
	}
	return wire.Answer(answer, ctx.Err()), nil
}
