package replica

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/lifetime"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

func TestWhatASumThatDoesNotMatchIsWorth(t *testing.T) {
	const own, at = 7, 20
	same, right, other := Count{Index: at, Drift: own}, Count{Index: at + 1}, Count{Index: at, Drift: 8}
	anew := Count{Index: at + 2, Recounted: at + 1}
	wrong := Count{Index: at, Fault: "it differs"}
	away := errors.New("away")
	type voice struct {
		Count
		votes bool
		err   error
	}
	says := func(c Count) voice { return voice{Count: c, votes: true} }
	for _, c := range []struct {
		what   string
		voters int // this server is one of them, unless there are more other ones
		before bool
		others []voice
		want   verdict
	}{
		{"alone", 1, false, nil, altered},
		{"alone, as before", 1, true, nil, sound},
		{"two alike", 2, false, []voice{says(same)}, sound},
		{"the other one is right", 2, false, []voice{says(right)}, altered},
		{"the other one is away", 2, false, []voice{{votes: true, err: away}}, unsure},
		{"the other one is away, and it was so before", 2, true, []voice{{votes: true, err: away}}, unsure},
		{"three alike", 3, false, []voice{says(same), says(same)}, sound},
		{"two of three alike", 3, false, []voice{says(same), says(right)}, sound},
		{"only this one", 3, false, []voice{says(right), says(right)}, altered},
		{"only this one, of two that are there", 3, false, []voice{says(right), {votes: true, err: away}}, altered},
		{"all others are away", 3, false, []voice{{votes: true, err: away}, {votes: true, err: away}}, unsure},
		{"all off, each by its own", 3, false, []voice{says(other), says(other)}, unsure},
		{"made anew since", 3, false, []voice{says(anew), says(anew)}, past},
		{"whose state is wrong says nothing", 3, false, []voice{says(wrong), {votes: true, err: away}}, unsure},
		{"one voter, and another server like it", 1, false, []voice{{Count: same}}, sound},
		{"one voter, and another server that is right", 1, false, []voice{{Count: right}}, altered},
		{"without a vote, like the voter", 1, false, []voice{says(same)}, sound},
		{"without a vote, unlike the voter", 1, false, []voice{says(right)}, altered},
	} {
		p := &poll{own: Count{Index: at, Drift: own}, voters: c.voters, twice: c.before}
		votes := 0
		for _, v := range c.others {
			p.expect(v.votes)
			if v.votes {
				votes++
			}
		}
		if votes < c.voters {
			p.agree++
		}
		for _, v := range c.others {
			require.Contains(t, []verdict{unsure, c.want}, p.verdict(), "%s: too early", c.what)
			p.add(v.Count, v.votes, v.err)
		}
		require.Equal(t, c.want, p.verdict(), c.what)
	}
}

// only is a cluster of one voter.
type only string

func (o only) All() []raft.Server    { return []raft.Server{{ID: raft.ServerID(o)}} }
func (o only) Voters() []raft.Server { return o.All() }

// apply applies one operation to a store, as its next log entry.
func apply(t *testing.T, store *fsm.FSM, c *fsm.Command) {
	t.Helper()
	body, err := c.Encode()
	require.NoError(t, err)
	store.Apply(&raft.Log{Index: store.View().Index() + 1, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeBatch(1, [][]byte{body})})
}

// alone is the replica of a cluster of one, after a process in which the sum was off
// by so much, and what it keeps for the next one. In its store a record was changed
// without the sum.
func alone(t *testing.T, before uint64) (r *Replica, kept *[]uint64) {
	store := fsm.New(fsm.Config{})
	apply(t, store, &fsm.Command{ID: commandid.New(), Op: &fsm.Initialise{ClusterID: "c", Service: objects.NewSID(objects.KindService, [16]byte{1})}})
	service, ok := store.View().Service(fsm.Ref{Name: fsm.DefaultService})
	require.True(t, ok)
	service.Created++
	ready := make(chan struct{})
	close(ready)
	kept = new([]uint64)
	return New(Config{
		Self: "a", Store: store, Servers: only("a"), Life: lifetime.New(), Scale: func(d time.Duration) time.Duration { return d },
		Drift: before, KeepDrift: func(drift uint64) error { *kept = append(*kept, drift); return nil },
		Ready: ready, Leads: func() bool { return true },
		Recount: func(context.Context) error { apply(t, store, fsm.RecountState(commandid.New())); return nil },
		Logger:  slog.New(slog.DiscardHandler),
	}), kept
}

// What the process before came to, too, was not its memory.
func TestLogThatLeadsToTheSameSumTwiceIsBelieved(t *testing.T) {
	r, kept := alone(t, 0)
	drift := r.Store.View().Drift()
	require.False(t, r.recount(t.Context()))
	_, err := r.Fault()
	require.ErrorIs(t, err, ErrAltered)
	require.Equal(t, []uint64{drift}, *kept)

	r, kept = alone(t, drift+1)
	_, err = r.Fault()
	require.ErrorIs(t, err, ErrUnsure, "nothing is served before it is known")
	r.recount(t.Context())
	_, err = r.Fault()
	require.ErrorIs(t, err, ErrAltered, "another sum than before")
	require.Len(t, *kept, 1)

	r, kept = alone(t, drift) // the log has led there again
	_, err = r.Fault()
	require.ErrorIs(t, err, ErrUnsure)
	require.True(t, r.recount(t.Context()), "it is looked at again")
	require.False(t, r.recount(t.Context()))
	_, err = r.Fault()
	require.NoError(t, err)
	require.NoError(t, r.Store.View().Verify())
	require.Equal(t, []uint64{0}, *kept)
}
