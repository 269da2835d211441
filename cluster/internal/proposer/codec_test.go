package proposer

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/objects"
)

func TestProposalRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var group []*batch.Proposal
		for range rapid.IntRange(0, 20).Draw(t, "count") {
			body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
			group = append(group, batch.NewProposal(context.Background(), body, rapid.Bool().Draw(t, "again")))
		}
		got, err := decodeProposals(context.Background(), EncodeProposals(group))
		require.NoError(t, err)
		require.Len(t, got, len(group))
		for i, p := range group {
			require.True(t, bytes.Equal(p.Body, got[i].Body))
			require.Equal(t, p.Again, got[i].Again)
		}
	})
}

func TestOutcomeRoundTrip(t *testing.T) {
	b := encodeOutcome(nil, batch.Outcome{Result: &fsm.Result{Index: 9, Err: objects.ErrDocumentGone}})
	b = encodeOutcome(b, batch.Outcome{Err: wire.ErrOverloaded})
	outcomes, err := DecodeOutcomes(b)
	require.NoError(t, err)
	require.Len(t, outcomes, 2)
	require.EqualValues(t, 9, outcomes[0].Result.Index)
	require.ErrorIs(t, outcomes[0].Result.Err, objects.ErrDocumentGone)
	require.ErrorIs(t, outcomes[1].Err, wire.ErrOverloaded)
	outcomes, err = DecodeOutcomes(b[:len(b)-1])
	require.Error(t, err)
	require.Len(t, outcomes, 1, "the outcome that arrived whole counts")
}

func FuzzDecodeFromPeer(f *testing.F) {
	f.Add(EncodeProposals([]*batch.Proposal{batch.NewProposal(context.Background(), []byte("x"), true)}))
	f.Add(encodeOutcome(nil, batch.Outcome{Err: wire.ErrOverloaded}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		decodeProposals(context.Background(), b)
		DecodeOutcomes(b)
	})
}

func TestSpansRoundTrip(t *testing.T) {
	ctx := context.Background()
	group := func() (g []*batch.Proposal) {
		for range 300 {
			g = append(g, batch.NewProposal(ctx, nil, false))
		}
		return g
	}
	sent, got := group(), group()
	require.Nil(t, encodeSpans(sent), "nothing is followed")
	sent[0].Span, sent[299].Span = &wire.Span{1}, &wire.Span{2, 24: 1}
	b := encodeSpans(sent)
	require.NoError(t, decodeSpans(b, got))
	for i := range sent {
		require.Equal(t, sent[i].Span, got[i].Span)
	}
	require.ErrorIs(t, decodeSpans(b[:len(b)-1], group()), wire.ErrBadRequest)
	require.ErrorIs(t, decodeSpans(b, group()[:10]), wire.ErrBadRequest, "of none of the group")
}

// older is a leader that knows nothing of spans.
type older struct{ asked []byte }

func (o *older) Call(_ context.Context, _ string, kind byte, body []byte) ([]byte, error) {
	o.asked = append(o.asked, kind)
	if kind != wire.Propose {
		return wire.Answer(nil, wire.ErrBadRequest), nil
	}
	return wire.Answer(body, nil), nil
}

func TestLeaderThatKnowsNoSpansIsAskedAsBefore(t *testing.T) {
	leader := new(older)
	p := New(Config{Peers: leader})
	group := []*batch.Proposal{batch.NewProposal(t.Context(), []byte("x"), false)}
	answer, err := p.send(t.Context(), "leader", group)
	require.NoError(t, err)
	require.Equal(t, EncodeProposals(group), answer)
	require.Equal(t, []byte{wire.Propose}, leader.asked, "at once, if nothing is followed")
	group[0].Span = new(wire.Span)
	answer, err = p.send(t.Context(), "leader", group)
	require.NoError(t, err)
	require.Equal(t, EncodeProposals(group), answer)
	require.Equal(t, []byte{wire.Propose, wire.ProposeTraced, wire.Propose}, leader.asked)
}
