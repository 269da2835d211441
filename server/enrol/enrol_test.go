package enrol_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/enrol"
	"lockstep/server/nodedir"
)

// enroller is a node with a data directory of its own that was told nothing.
func enroller(t *testing.T) enrol.Enroller {
	e := enrol.Enroller{
		Dir: filepath.Join(t.TempDir(), "node"), NodeID: "n1", InternalAddr: "127.0.0.1:0", GossipAddr: "127.0.0.1:0",
		Advertise: func(addr string) string { return addr }, Logger: slog.New(slog.DiscardHandler),
	}
	release, err := nodedir.Claim(e.Dir)
	require.NoError(t, err)
	t.Cleanup(release)
	return e
}

// member answers as a member of a cluster does that adds nodes at the second try.
type member struct {
	url             string
	enrolled, added atomic.Int32
}

func startMember(t *testing.T, account auth.Account) *member {
	m := &member{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch sid, token, _ := r.BasicAuth(); {
		case sid != account.SID || token != account.AuthToken:
			w.WriteHeader(http.StatusUnauthorized)
			json.NewEncoder(w).Encode(map[string]any{"code": 20003, "message": "no"})
		case r.URL.Path == "/cluster/enrol":
			m.enrolled.Add(1)
			json.NewEncoder(w).Encode(admin.Enrolment{ClusterID: "c1", ClusterKey: "k1", Seeds: []string{"127.0.0.1:1"}})
		case m.added.Add(1) == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	m.url = s.URL
	return m
}

func TestWaitingNodeEnrolsWhenToldWhere(t *testing.T) {
	e, account := enroller(t), auth.NewAccount()
	m := startMember(t, account)
	r, err := e.Identify("http://127.0.0.1:8080", "")
	require.NoError(t, err)
	own := auth.Account{SID: r.AccountSID, AuthToken: r.AuthToken}
	e.Serve = func(ctx context.Context, lets auth.Account, join admin.JoinFunc) error {
		require.Equal(t, own, lets)
		how := admin.Join{Member: m.url, AccountSID: account.SID, AuthToken: account.AuthToken}
		for _, wrong := range []struct {
			change func(*admin.Join)
			want   error
		}{
			{func(j *admin.Join) { j.AccountSID = "x" }, objects.ErrParameter},
			{func(j *admin.Join) { j.Member = "ftp://x" }, objects.ErrParameter},
			{func(j *admin.Join) { j.Member = "http://10.255.255.1:8080" }, objects.ErrParameter},
			{func(j *admin.Join) { j.AuthToken = "wrong" }, objects.ErrUnauthorized},
		} {
			j := how
			wrong.change(&j)
			_, err := join(ctx, j)
			require.ErrorIs(t, err, wrong.want)
			require.NoError(t, ctx.Err(), "it waits on")
		}
		for range 2 { // the second one finds it done
			id, err := join(ctx, how)
			require.NoError(t, err)
			require.Equal(t, "n1", id)
		}
		<-ctx.Done()
		return ctx.Err()
	}
	require.NoError(t, e.Enter(t.Context(), r))
	require.EqualValues(t, 1, m.enrolled.Load())
	kept, err := nodedir.Load(e.Dir)
	require.NoError(t, err)
	require.Equal(t, r, kept)
	require.Equal(t, "c1", r.ClusterID)
	require.Equal(t, m.url, r.JoinThrough)
	require.Equal(t, account, auth.Account{SID: r.AccountSID, AuthToken: r.AuthToken})

	votes := &node{settledFrom: 3}
	record := enrol.NewRecord(e.Dir)
	require.NoError(t, record.Set(*r))
	require.NoError(t, e.Settle(t.Context(), votes, record))
	require.EqualValues(t, 2, m.added.Load(), "what failed for the moment is tried again")
	require.Equal(t, 3, votes.asked)
	require.Empty(t, record.Copy().JoinThrough)
}

// The process before was added, and ended before it noted that. Where the member was
// through which it enrolled, nobody is any more.
func TestWhoSettledIsNotAddedAgain(t *testing.T) {
	e := enroller(t)
	record := enrol.NewRecord(e.Dir)
	require.NoError(t, record.Set(nodedir.Record{ID: "n2", ClusterID: "c1", JoinThrough: "http://127.0.0.1:1"}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, e.Settle(ctx, &node{settledFrom: 1}, record))
	require.Empty(t, record.Copy().JoinThrough)
}

func TestWhyItStoppedToWaitIsTold(t *testing.T) {
	e := enroller(t)
	r, err := e.Identify("http://127.0.0.1:8080", "")
	require.NoError(t, err)
	broken := errors.New("the listener broke")
	e.Serve = func(context.Context, auth.Account, admin.JoinFunc) error { return broken }
	require.ErrorIs(t, e.Enter(t.Context(), r), broken)
	require.False(t, r.Member())
}

func TestNewClusterUsesAccountOfItsRecord(t *testing.T) {
	e := enroller(t)
	e.Bootstrap = true
	var welcomed []auth.Account
	e.Welcome = func(a auth.Account) { welcomed = append(welcomed, a) }
	r, err := e.Identify("http://127.0.0.1:8080", "http://127.0.0.1:8081")
	require.NoError(t, err)
	start := time.Now()
	require.NoError(t, e.Enter(t.Context(), r))
	require.Less(t, time.Since(start), 2*time.Second, "nobody looks for a port that was chosen just now")
	c, err := enrol.ClusterConfig(r)
	require.NoError(t, err)
	require.True(t, c.Bootstrap)
	require.Equal(t, "http://127.0.0.1:8081", c.AdminURL)

	n := &node{}
	record := enrol.NewRecord(e.Dir)
	require.NoError(t, record.Set(*r))
	require.NoError(t, e.Settle(t.Context(), n, record))
	require.Equal(t, r.AccountSID, n.proposed.Op.(*fsm.Initialise).AccountSID)
	require.Equal(t, []auth.Account{{SID: r.AccountSID, AuthToken: r.AuthToken}}, welcomed)
	require.NoError(t, e.Settle(t.Context(), n, record))
	require.Len(t, welcomed, 1, "once")

	again, err := e.Identify("http://127.0.0.1:8082", "")
	require.NoError(t, err)
	require.Equal(t, r.InternalAddr, again.InternalAddr, "a port that was chosen is kept")
	e.NodeID = "n2"
	_, err = e.Identify("http://127.0.0.1:8082", "")
	require.ErrorContains(t, err, "belongs to node n1")
}

// node is an open node that has settled when it has been asked so many times.
type node struct {
	proposed           *fsm.Command
	settledFrom, asked int
}

func (n *node) Propose(_ context.Context, c *fsm.Command) (*fsm.Result, error) {
	n.proposed = c
	return &fsm.Result{}, nil
}

func (*node) InternalAddr() string { return "127.0.0.1:7000" }

func (n *node) Settled() bool {
	n.asked++
	return n.settledFrom > 0 && n.asked >= n.settledFrom
}
