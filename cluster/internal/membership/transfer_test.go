package membership

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/status"
)

// A server that was asked to take leadership over, and did not, is left alone
// for a while: raft would wait for it for ever.
func TestTransferDoesNotAskSameNodeTwiceInRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		voters := []raft.Server{{ID: "a.1"}, {ID: "b.1"}, {ID: "c.1"}, {ID: "d.1"}}
		reports := map[string]status.Node{"a.1": {LastIndex: 9, LastTerm: 4}, "b.1": {LastIndex: 9, LastTerm: 3}, "c.1": {LastIndex: 8, LastTerm: 4}}
		var asked Transfers
		next := func() string {
			to := asked.successor(voters, reports, "a.1")
			if to == nil {
				return ""
			}
			require.True(t, asked.begin(to.ID))
			require.False(t, asked.begin(to.ID))
			return string(to.ID)
		}
		require.Equal(t, "c.1", next(), "its log is the newest but for the leader's")
		require.Equal(t, "b.1", next())
		require.Empty(t, next(), "the fourth does not answer")
		time.Sleep(transferRest)
		require.Equal(t, "c.1", next())
		asked.succeeded("c.1")
		require.Equal(t, "c.1", next(), "it did take it over")
	})
}
