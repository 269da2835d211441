package link

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOldMemberIsToldOfRecoveryAndServedNothing(t *testing.T) {
	oldKey, nextKey := [32]byte{2}, [32]byte{3}
	recovered := open(t, "a", echo, func(c *Config) {
		c.Credential = credential(t, "new", "a", nextKey)
		require.NoError(t, c.Credential.Succeed([]Past{{ClusterID: "old", Keys: [][32]byte{oldKey, testKey}, Node: "was", NodeKey: ownKey("was")}}))
	})
	told := make(chan *RecoveredError, 8)
	old := func(id string, keys ...[32]byte) *Port {
		return open(t, id, echo, func(c *Config) {
			c.Credential = credential(t, "old", id, keys...)
			c.Recovered = func(server string, err *RecoveredError) {
				require.Equal(t, "was."+incarnation("was"), server, "the member that it was recovered from says so")
				told <- err
			}
		})
	}
	want := &RecoveredError{Cluster: "old", As: "new"}
	for i, p := range []*Port{old("b", oldKey), old("c", testKey, oldKey)} { // as a change of the key may have left it
		_, err := p.Call(within(t, patience), recovered.Addr(), 1, nil)
		require.ErrorIs(t, err, ErrNotSent)
		require.Equal(t, want, <-told, i)
	}

	stranger := old("d", [32]byte{9})
	_, err := stranger.Call(within(t, patience), recovered.Addr(), 1, nil)
	require.Error(t, err)
	require.Empty(t, told, "only the cluster's key makes such a certificate")

	member := open(t, "e", echo, func(c *Config) { c.Credential = credential(t, "new", "e", nextKey) })
	_, err = member.Call(within(t, patience), recovered.Addr(), 1, nil)
	require.NoError(t, err, "its own members are served as ever")
}
