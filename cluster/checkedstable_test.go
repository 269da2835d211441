package cluster

import (
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/disk"
)

func promises(t *testing.T) (*raft.InmemStore, *checkedStable) {
	kept := raft.NewInmemStore()
	c := &checkedStable{StableStore: kept}
	require.NoError(t, c.SetUint64(currentTermKey, 7))
	require.NoError(t, c.SetUint64(lastVoteTermKey, 6))
	require.NoError(t, c.Set(lastCandidateKey, []byte("n2.abc")))
	require.NoError(t, c.Set(nodeKey, []byte("secret")))
	return kept, c
}

func TestTermAndVoteRoundTrip(t *testing.T) {
	_, c := promises(t)
	require.NoError(t, c.verify(7))
	term, err := c.GetUint64(currentTermKey)
	require.NoError(t, err)
	require.EqualValues(t, 7, term)
	candidate, err := c.Get(lastCandidateKey)
	require.NoError(t, err)
	require.Equal(t, "n2.abc", string(candidate))

	fresh := &checkedStable{StableStore: raft.NewInmemStore()}
	_, err = fresh.GetUint64(currentTermKey)
	require.EqualError(t, err, "not found", "raft knows a new store by these words")
	require.NoError(t, fresh.verify(0))
	require.ErrorIs(t, fresh.verify(1), ErrDamaged, "there are log entries and no term")
}

func TestDamagedTermOrVoteIsDetected(t *testing.T) {
	for _, key := range [][]byte{currentTermKey, lastVoteTermKey, lastCandidateKey, nodeKey} {
		kept, c := promises(t)
		value, err := kept.Get(key)
		require.NoError(t, err)
		altered := append([]byte(nil), value...)
		altered[len(altered)/2] ^= 4
		require.NoError(t, kept.Set(key, altered))
		require.ErrorIs(t, c.verify(7), ErrDamaged, string(key))

		var told error
		c.damaged = func(err error) { told = err }
		_, err = c.Get(key)
		require.ErrorIs(t, err, ErrDamaged, string(key))
		require.ErrorContains(t, told, string(key)+" does not match its checksum")
	}
	_, c := promises(t)
	require.ErrorIs(t, c.verify(8), ErrDamaged, "the log is ahead of the term")
	require.NoError(t, c.SetUint64(lastVoteTermKey, 8))
	require.ErrorIs(t, c.verify(7), ErrDamaged, "the vote is ahead of the term")
}

// A node whose vote was altered on its disk is not opened, and says why.
func TestOpenRefusesDamagedVote(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	m.crash(m.nodes["n1"])
	s, err := openStores(m.config("n1").withDefaults(), disk.New())
	require.NoError(t, err)
	value, err := s.stable.StableStore.Get(lastVoteTermKey)
	require.NoError(t, err)
	value[7] ^= 1
	require.NoError(t, s.stable.StableStore.Set(lastVoteTermKey, value))
	require.NoError(t, s.close())

	_, err = Open(t.Context(), m.config("n1"))
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "LastVoteTerm does not match its checksum")
}
