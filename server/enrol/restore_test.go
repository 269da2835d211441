package enrol

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/fsm/fsmtest"
	"lockstep/server/auth"
	"lockstep/server/backup"
	"lockstep/server/nodedir"
)

func aBackup(t *testing.T) backup.Loaded {
	t.Helper()
	var file bytes.Buffer
	at := time.Now()
	require.NoError(t, backup.Write(&file, backup.Origin{Node: "old", Release: "1.0", At: at}, fsmtest.New(nil).FSM().Capture()))
	b, err := backup.Load(&file)
	require.NoError(t, err)
	return b
}

func restoration(t *testing.T) Restoration {
	return Restoration{DataDir: filepath.Join(t.TempDir(), "node"), Logger: slog.New(slog.DiscardHandler)}
}

func TestRestoredNodeStartsNewCluster(t *testing.T) {
	r, b := restoration(t), aBackup(t)
	require.NoError(t, r.Check(b.Summary))
	require.NoDirExists(t, r.DataDir, "looking changes nothing")
	id, account, err := r.Do(b)
	require.NoError(t, err)
	require.Equal(t, auth.Account{SID: fsmtest.AccountSID, AuthToken: fsmtest.AuthToken}, account)
	record, err := nodedir.Load(r.DataDir)
	require.NoError(t, err)
	require.Equal(t, id, record.ClusterID)
	require.NotEqual(t, "test", id)
	require.Nil(t, record.Recovery)
	require.Empty(t, record.Former, "nobody has a key to speak for the old cluster")
	remains, err := cluster.OpenRemains(cluster.Config{ID: record.ID, Incarnation: record.Incarnation, DataDir: r.DataDir, Logger: r.Logger})
	require.NoError(t, err)
	require.Equal(t, id, remains.ClusterID)
	require.Len(t, remains.Members, 1)
	require.True(t, remains.Members[0].Self && remains.Members[0].Votes)
	require.Greater(t, remains.LastIndex, b.Index)
	require.NoError(t, remains.Close())
}

func TestStateIsNotRestoredOver(t *testing.T) {
	r := restoration(t)
	_, _, err := r.Do(aBackup(t))
	require.NoError(t, err)
	before, err := nodedir.Load(r.DataDir)
	require.NoError(t, err)
	_, _, err = r.Do(aBackup(t))
	require.ErrorContains(t, err, "holds the state of node "+before.ID)
	r.Replace, r.NodeID = true, "other"
	_, _, err = r.Do(aBackup(t))
	require.ErrorContains(t, err, "belongs to node "+before.ID)
	r.NodeID = ""
	_, _, err = r.Do(aBackup(t))
	require.NoError(t, err)
	after, err := nodedir.Load(r.DataDir)
	require.NoError(t, err)
	require.Equal(t, before.ID, after.ID)
	require.NotEqual(t, before.ClusterID, after.ClusterID)
	require.DirExists(t, filepath.Join(r.DataDir, "raft.aside"))

	r.Replace = false
	require.NoError(t, nodedir.Forget(r.DataDir))
	require.ErrorContains(t, r.Check(aBackup(t).Summary), "holds the state of a node", "what node.json does not tell of is a state, too")
}

// A crash before the record has it leaves nothing that counts, and one after it is
// finished by the node's start.
func TestRestoreThatIsCutOff(t *testing.T) {
	r := restoration(t)
	require.NoError(t, os.MkdirAll(filepath.Join(r.DataDir, "raft.recovered", "half"), 0o700))
	_, _, err := r.Do(aBackup(t))
	require.NoError(t, err, "half of an earlier one is in nobody's way")

	record, err := nodedir.Load(r.DataDir)
	require.NoError(t, err)
	cut := *record
	cut.Recovery = &nodedir.Recovery{ClusterID: record.ClusterID, ClusterKey: record.ClusterKey, Incarnation: record.Incarnation}
	cut.ClusterID, cut.ClusterKey, cut.Incarnation = "", "", ""
	require.NoError(t, cut.Save(r.DataDir))
	require.NoError(t, os.Rename(filepath.Join(r.DataDir, "raft"), filepath.Join(r.DataDir, "raft.recovered")))
	_, _, err = r.Do(aBackup(t))
	require.ErrorContains(t, err, "holds the state", "it was decided")
	e := Enroller{Dir: r.DataDir, InternalAddr: "127.0.0.1:0", GossipAddr: "127.0.0.1:0", Logger: r.Logger}
	finished, err := e.Identify("http://127.0.0.1:1", "")
	require.NoError(t, err)
	require.Equal(t, record.ClusterID, finished.ClusterID)
	require.Nil(t, finished.Recovery)
	require.DirExists(t, filepath.Join(r.DataDir, "raft"))
}

func TestClockBeforeTheBackupIsRefused(t *testing.T) {
	s := backup.Summary{Header: backup.Header{Time: time.Now().UnixMilli(), Taken: time.Now().UnixMilli()}}
	require.NoError(t, checkClock(s, time.Now()))
	require.NoError(t, checkClock(s, time.Now().Add(-clockTolerance/2)))
	require.ErrorContains(t, checkClock(s, time.Now().Add(-2*clockTolerance)), "set the clock first")
	s.Time = time.Now().Add(time.Hour).UnixMilli()
	require.Error(t, checkClock(s, time.Now()), "the cluster's own clock counts, too")
}
