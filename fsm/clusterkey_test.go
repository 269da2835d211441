package fsm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func TestKeySpreadsIsUsedAndReplacesTheOld(t *testing.T) {
	s := newStore(t)
	lost, key := KeyIDOf([32]byte{1}), KeyIDOf([32]byte{2})
	now := func() KeyRotation {
		require.NotNil(t, s.fsm.View().KeyRotation())
		return *s.fsm.View().KeyRotation()
	}
	refused(t, objects.ErrParameter, s.do(asREST, &RotateKey{}))
	s.must(asREST, &RotateKey{Key: lost})
	s.must(asREST, &ReachKeyStage{Key: lost, Stage: KeySpreads, Server: "a"})
	s.must(asREST, &RotateKey{Key: key})
	require.Equal(t, KeyRotation{Key: key, Stage: KeySpreads}, now(), "another key in its place")

	before := s.fsm.View().KeyRotation()
	for _, server := range []string{"b", "a", "b"} {
		s.must(asREST, &ReachKeyStage{Key: key, Stage: KeySpreads, Server: server})
	}
	s.must(asREST, &ReachKeyStage{Key: lost, Stage: KeySpreads, Server: "c"})
	s.must(asREST, &ReachKeyStage{Key: key, Stage: KeyUsed, Server: "c"})
	require.Equal(t, []string{"a", "b"}, now().Done)
	require.Empty(t, before.Done, "what is published does not change")

	s.must(asREST, &AdvanceKey{Key: lost, Stage: KeySpreads})
	s.must(asREST, &AdvanceKey{Key: key, Stage: KeySpreads})
	s.must(asREST, &AdvanceKey{Key: key, Stage: KeySpreads}) // again
	s.must(asREST, &RotateKey{Key: lost})
	require.Equal(t, KeyRotation{Key: key, Stage: KeyUsed}, now(), "nothing takes back a key that is used")
	require.Zero(t, s.fsm.View().ClusterKey())
	s.must(asREST, &AdvanceKey{Key: key, Stage: KeyUsed})
	require.Nil(t, s.fsm.View().KeyRotation())
	require.Equal(t, key, s.fsm.View().ClusterKey())
	refused(t, objects.ErrParameter, s.do(asREST, &RotateKey{Key: key}))
}
