package server

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/server/enrol"
	"lockstep/server/nodedir"
)

// stopped is a data directory of a node that has run alone, and its record.
func stopped(t *testing.T) (config Config, record *nodedir.Record) {
	t.Helper()
	config = Config{DataDir: dataDir(t), NodeID: "one", Bootstrap: true, Account: testAccount}
	s := start(t, config)
	s.untilReady(t)
	record = s.untilSettled(t)
	require.NoError(t, s.end(t))
	return config, record
}

func openRecovery(t *testing.T, dir string) *enrol.Recovery {
	t.Helper()
	r, err := enrol.OpenRecovery(dir, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return r
}

// Wherever a recovery is cut off once it is decided, the next start of the node
// and a repetition both finish it.
func TestRecoveryThatIsCutOffIsFinished(t *testing.T) {
	for name, cutOff := range map[string]func(t *testing.T, dir string){
		"decided":  func(*testing.T, string) {},
		"in place": func(t *testing.T, dir string) { require.NoError(t, cluster.FinishRecovery(dir)) },
	} {
		for finish, again := range map[string]func(t *testing.T, c Config){
			"started": func(*testing.T, Config) {},
			"repeated": func(t *testing.T, c Config) {
				r := openRecovery(t, c.DataDir)
				require.True(t, r.Cut)
				_, err := r.Finish()
				require.NoError(t, err)
				require.NoError(t, r.Close())
			},
		} {
			t.Run(name+", "+finish, func(t *testing.T) {
				config, before := stopped(t)
				r := openRecovery(t, config.DataDir)
				require.NoError(t, r.Decide())
				require.NoError(t, r.Close())
				cutOff(t, config.DataDir)
				again(t, config)
				s := start(t, config)
				s.untilReady(t)
				now := s.untilSettled(t)
				require.NotEqual(t, before.ClusterID, now.ClusterID)
				require.NotEqual(t, before.ClusterKey, now.ClusterKey)
				require.NotEqual(t, before.Incarnation, now.Incarnation)
				require.Nil(t, now.Recovery)
				require.Len(t, now.Former, 1)
				require.Equal(t, before.ClusterID, now.Former[0].ClusterID)
				require.NoError(t, s.end(t))
			})
		}
	}
}

func TestRecoverAsksPeersWhetherClusterLives(t *testing.T) {
	config, record := stopped(t)
	peer := start(t, Config{DataDir: dataDir(t), NodeID: "two", Bootstrap: true, Account: testAccount})
	peer.untilReady(t)
	stranger := start(t, Config{DataDir: dataDir(t), NodeID: "three", Bootstrap: true})
	stranger.untilReady(t)
	waiting := start(t, Config{DataDir: dataDir(t), NodeID: "four"})
	record.Peers = []string{peer.url, stranger.url, waiting.url, "http://127.0.0.1:1"}
	require.NoError(t, record.Save(config.DataDir))
	r := openRecovery(t, config.DataDir)
	defer r.Close()
	peers := r.AskPeers(t.Context())
	require.Len(t, peers, 4)
	require.True(t, peers[0].Leader)
	require.Contains(t, peers[0].Says, "sees the leader two")
	require.True(t, peers[1].Leader, "it serves, whatever its account is")
	require.False(t, peers[2].Leader)
	require.Contains(t, peers[2].Says, "it belongs to no cluster yet")
	require.Equal(t, "does not answer", peers[3].Says)
	for _, s := range []*running{peer, stranger, waiting} {
		require.NoError(t, s.end(t))
	}
}
