package proposer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/test/golden"
)

const goldenFile = "testdata/golden/level1/proposals"

func TestProposalsAndOutcomesMatchGoldenFiles(t *testing.T) {
	ctx := context.Background()
	group := []*batch.Proposal{batch.NewProposal(ctx, []byte("first"), false), batch.NewProposal(ctx, []byte("second"), true)}
	outcomes := encodeOutcome(nil, batch.Outcome{Result: &fsm.Result{Index: 9, Err: objects.ErrDocumentGone}})
	outcomes = encodeOutcome(outcomes, batch.Outcome{Err: wire.ErrOverloaded})
	golden.Check(t, goldenFile, map[string][]byte{"proposals": EncodeProposals(group), "outcomes": outcomes})

	kept := golden.Read(t, goldenFile)
	back, err := decodeProposals(ctx, kept["proposals"])
	require.NoError(t, err)
	require.Len(t, back, len(group))
	for i, p := range group {
		require.Equal(t, p.Body, back[i].Body)
		require.Equal(t, p.Again, back[i].Again)
	}
	told, err := DecodeOutcomes(kept["outcomes"])
	require.NoError(t, err)
	require.Len(t, told, 2)
	require.Equal(t, &fsm.Result{Index: 9, Err: objects.ErrDocumentGone}, told[0].Result)
	require.ErrorIs(t, told[1].Err, wire.ErrOverloaded)
}
