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
