package recall

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/wire"
)

func newRecall(told map[string]Told) *Recall {
	return New(Config{Self: "a.1", Process: 1, Servers: &member.Configuration{}, Logger: slog.New(slog.DiscardHandler)}, told)
}

func said(server string, process, term, index uint64) status.Node {
	return status.Node{Server: server, Process: process, Term: term, AppliedIndex: index}
}

// What a process has told is held against the ones after it, and not against itself.
func TestLaterProcessesAreAskedForWhatEarlierOnesTold(t *testing.T) {
	r := newRecall(nil)
	ask := func(process uint64) Extent {
		e, err := r.Answer(t.Context(), "b.1", Request{Process: process})
		require.NoError(t, err)
		return e
	}
	require.Zero(t, ask(10), "nothing was told")
	r.Heard(said("b.1", 10, 2, 100))
	r.Heard(said("b.1", 10, 3, 90))
	require.Zero(t, ask(10))
	require.Equal(t, Extent{3, 100}, ask(11))
	r.Heard(said("b.1", 11, 3, 100))
	require.Equal(t, Extent{3, 100}, ask(11))
	r.Heard(said("b.1", 11, 4, 200))
	require.Equal(t, Extent{3, 100}, ask(11), "it may have come to that since it began")
	require.Equal(t, Extent{4, 200}, ask(12))
	r.Heard(said("b.1", 12, 1, 10))
	require.Equal(t, Extent{4, 200}, ask(13), "a process that began with less makes nobody forget those before it")
	r.Heard(said("b.1", 13, 1, 10))
	require.Equal(t, Extent{4, 200}, ask(14), "nor does the next one")
	r.Heard(said("a.1", 1, 9, 999))
	e, err := r.Answer(t.Context(), "a.1", Request{Process: 2})
	require.NoError(t, err)
	require.Zero(t, e, "what this server says of itself proves nothing")

	kept := map[string]Told{}
	b, err := cbor.Marshal(r.told)
	require.NoError(t, err)
	require.NoError(t, cbor.Unmarshal(b, &kept))
	r = newRecall(kept)
	require.Equal(t, Extent{4, 200}, ask(13), "a restart forgets none of it")
}

func TestWhatIsNoNewsIsNotKeptAgain(t *testing.T) {
	r := newRecall(nil)
	r.Heard(said("b.1", 10, 2, 100))
	require.True(t, r.changed)
	require.NotNil(t, r.unsaved())
	r.told["b.1"] = Told{Process: 10, Extent: Extent{2, 100}} // it is no member of anything, here
	r.Heard(said("b.1", 10, 2, 100))
	require.Nil(t, r.unsaved())
}

func TestAnyMajorityHasOneWhoAnswered(t *testing.T) {
	voter := func(ids ...string) (s []raft.Server) {
		for _, id := range ids {
			s = append(s, raft.Server{ID: raft.ServerID(id)})
		}
		return s
	}
	require.Equal(t, 0, neededOf(voter("a"), "a"), "alone, there is nobody to ask")
	require.Equal(t, 1, neededOf(voter("a", "b"), "a"))
	require.Equal(t, 1, neededOf(voter("a", "b", "c"), "a"))
	require.Equal(t, 2, neededOf(voter("a", "b", "c", "d", "e"), "a"))
	require.Equal(t, 1, neededOf(voter("a"), "b"), "who does not vote asks who does")
}

// answers is wire.Caller with an answer or an error for each server.
type answers map[string]any

func (a answers) Call(_ context.Context, to string, _ byte, _ []byte) ([]byte, error) {
	switch x := a[to].(type) {
	case Extent:
		b, err := cbor.Marshal(x)
		return wire.Answer(b, nil), err
	case error:
		return wire.Answer(nil, x), nil
	}
	return nil, wire.ErrNotSent
}

func TestCopyOfBeforeIsTold(t *testing.T) {
	servers := []raft.Server{{ID: "a.1"}, {ID: "b.1"}, {ID: "c.1"}, {ID: "d.1", Suffrage: raft.Nonvoter}}
	for name, c := range map[string]struct {
		answers  answers
		answered int
		lost     bool
	}{
		"nobody is there":             {answers{}, 0, false},
		"one knows nothing":           {answers{"b.1": Extent{}}, 1, false},
		"one knows as much":           {answers{"b.1": Extent{5, 50}}, 1, false},
		"one knows less":              {answers{"b.1": Extent{4, 10}, "c.1": Extent{5, 49}}, 2, false},
		"one knows a later entry":     {answers{"b.1": Extent{5, 51}}, 0, true},
		"one knows a later term":      {answers{"b.1": Extent{6, 1}}, 0, true},
		"who does not vote counts":    {answers{"d.1": Extent{5, 51}}, 0, true},
		"but not for being there":     {answers{"d.1": Extent{}}, 0, false},
		"one refuses to answer":       {answers{"b.1": errors.New("not now")}, 0, false},
		"one of two is enough for it": {answers{"b.1": Extent{}, "c.1": Extent{9, 9}}, 1, true},
	} {
		var lost bool
		life := lifetime.New()
		r := New(Config{
			Self: "a.1", Process: 1, Start: Extent{5, 50}, Servers: &member.Configuration{}, Life: life,
			Peers: func() wire.Caller { return c.answers }, Scale: func(d time.Duration) time.Duration { return d },
			Lost: func(Extent, Extent) { lost = true }, Logger: slog.New(slog.DiscardHandler),
		}, nil)
		answered, gone := r.askAll(servers)
		require.Equal(t, c.answered, answered, name)
		require.Equal(t, c.lost, gone, name)
		require.Equal(t, c.lost, lost, name)
		life.End()
	}
}
