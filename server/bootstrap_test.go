package server

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/auth"
	"lockstep/server/enrol"
	"lockstep/server/nodedir"
)

func (r *running) untilSettled(t *testing.T) *nodedir.Record {
	t.Helper()
	var record *nodedir.Record
	require.Eventually(t, func() (ok bool) {
		var err error
		record, err = nodedir.Load(r.dir)
		return err == nil && !record.Bootstrap
	}, 20*time.Second, 10*time.Millisecond, "the cluster is made")
	return record
}

func TestInitMakesTheClusterThatServeStarts(t *testing.T) {
	dir := dataDir(t)
	account, id, err := enrol.Init(dir, "one", auth.Account{})
	require.NoError(t, err)
	require.NoError(t, account.ValidateStrength())
	_, _, err = enrol.Init(dir, "one", auth.Account{})
	require.ErrorContains(t, err, "node one of cluster "+id)

	s := start(t, Config{DataDir: dir, Welcome: func(auth.Account) { t.Error("its account was told by Init") }})
	s.AccountSID, s.AuthToken = account.SID, account.AuthToken
	s.untilReady(t)
	require.Equal(t, id, s.untilSettled(t).ClusterID)
	status, err := s.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, id, status.ClusterID)
	require.Equal(t, "one", status.Nodes[0].ID)
	_, _, err = enrol.Init(dir, "", auth.Account{})
	require.ErrorIs(t, err, nodedir.ErrRunning)
	require.NoError(t, s.end(t))
}

func TestInitTakesTheAccountThatIsGiven(t *testing.T) {
	_, _, err := enrol.Init(dataDir(t), "", auth.Account{SID: testAccount.SID, AuthToken: "aaaa"})
	require.ErrorContains(t, err, "too easy to guess")
	dir := dataDir(t)
	waiting := &nodedir.Record{ID: "waiting", AccountSID: testAccount.SID, AuthToken: "other"} // as a node that waited to join left it
	require.NoError(t, nodedir.Make(dir))
	require.NoError(t, waiting.Save(dir))
	_, _, err = enrol.Init(dir, "another", testAccount)
	require.ErrorContains(t, err, "belongs to node waiting")
	account, _, err := enrol.Init(dir, "", testAccount)
	require.NoError(t, err)
	require.Equal(t, testAccount, account)
}

// A start that is told to make a cluster finds the one that it made before,
// however far that had come, and makes no other.
func TestBootstrapIsOnlyTheFirstStart(t *testing.T) {
	dir := dataDir(t)
	config := Config{DataDir: dir, NodeID: "one", Bootstrap: true, Account: testAccount}
	s := start(t, config)
	s.untilReady(t)
	made := s.untilSettled(t)
	require.NoError(t, s.end(t))
	for _, left := range []func(*nodedir.Record){
		func(*nodedir.Record) {},                       // all was done
		func(r *nodedir.Record) { r.Bootstrap = true }, // but for the note of that
		func(r *nodedir.Record) { r.Bootstrap, r.Incarnation = true, "" },
	} {
		r := *made
		left(&r)
		require.NoError(t, r.Save(dir))
		s := start(t, config)
		s.untilReady(t)
		now := s.untilSettled(t)
		require.Equal(t, made.ClusterID, now.ClusterID)
		require.Equal(t, made.Incarnation, now.Incarnation)
		require.NoError(t, s.end(t))
	}
	require.NoDirExists(t, filepath.Join(dir, "raft.aside"))
}

func TestBootstrapRefusedWhileSeedAnswers(t *testing.T) {
	seed := start(t, Config{DataDir: dataDir(t), Bootstrap: true, Account: testAccount})
	seed.untilReady(t)
	record := seed.untilSettled(t)
	config := Config{DataDir: dataDir(t), NodeID: "one", Bootstrap: true, Account: testAccount, Seeds: []string{"127.0.0.1:1", record.GossipAddr}}
	config.HTTPAddr, config.Logger = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	s, err := New(config)
	require.NoError(t, err)
	var why enrol.StateError
	require.ErrorAs(t, s.Run(t.Context()), &why)
	require.ErrorContains(t, why, "at the seed "+record.GossipAddr)
	require.NoFileExists(t, filepath.Join(config.DataDir, nodedir.RecordFile))
	require.NoError(t, seed.end(t))

	config.Seeds = config.Seeds[:1] // nobody is there: it is the first node
	first := start(t, config)
	first.untilReady(t)
	require.NoError(t, first.end(t))
}
