package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/cluster"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/limits"
	"lockstep/server/nodedir"
)

func TestMain(m *testing.M) {
	// memberlist's Shutdown does not wait for a probe under way, which takes a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

var testAccount = auth.Account{SID: "AC" + strings.Repeat("a1", 16), AuthToken: "token1234567890abcdefghi"}

// running is a server in this process.
type running struct {
	*admin.Client
	url       string // for clients
	operators string
	dir       string
	done      chan error
	stop      context.CancelFunc
}

func start(t *testing.T, c Config) *running {
	t.Helper()
	c.HTTPAddr, c.RateLimits = "127.0.0.1:0", limits.Default()
	c.Logger = slog.New(slog.DiscardHandler)
	s, err := New(c)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{dir: c.DataDir, done: make(chan error, 1), stop: stop}
	go func() { r.done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		http.DefaultClient.CloseIdleConnections()
	})
	require.Eventually(t, func() bool {
		record, err := nodedir.Load(c.DataDir)
		_, occupied := nodedir.Running(c.DataDir)
		if err != nil || !occupied || record.HTTPURL == "" {
			return false
		}
		r.url, r.operators = record.HTTPURL, record.OperatorURL()
		res, err := http.Get(r.operators + "/healthz")
		if err == nil {
			res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond, "the node answers")
	r.Client = &admin.Client{URLs: []string{r.operators}, AccountSID: testAccount.SID, AuthToken: testAccount.AuthToken}
	return r
}

func (r *running) untilReady(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return r.Ready(t.Context()) == nil }, 20*time.Second, 20*time.Millisecond, "ready")
}

func (r *running) end(t *testing.T) error {
	t.Helper()
	r.stop()
	return r.ended(t)
}

func (r *running) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the server does not stop")
		return nil
	}
}

func (r *running) get(t *testing.T, path, user, password string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.url+path, nil)
	require.NoError(t, err)
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}

func dataDir(t *testing.T) string { return filepath.Join(t.TempDir(), "node") }

func TestOneNodeFromBootstrapToSecondStart(t *testing.T) {
	dir := dataDir(t)
	var welcomed []auth.Account
	config := Config{DataDir: dir, NodeID: "one", Bootstrap: true, Welcome: func(a auth.Account) { welcomed = append(welcomed, a) }}
	s := start(t, config)
	s.untilReady(t)
	require.Eventually(t, func() bool {
		r, err := nodedir.Load(dir)
		return err == nil && !r.Bootstrap
	}, 10*time.Second, 10*time.Millisecond)
	require.Len(t, welcomed, 1)
	account := welcomed[0]
	s.AccountSID, s.AuthToken = account.SID, account.AuthToken

	status, err := s.Status(t.Context())
	require.NoError(t, err)
	require.Len(t, status.Nodes, 1)
	require.Equal(t, "one", status.Nodes[0].ID)
	require.Equal(t, admin.RoleLeader, status.Nodes[0].Role)
	require.Equal(t, s.url, status.Nodes[0].HTTP)
	require.NotZero(t, status.Nodes[0].AppliedIndex)

	key, err := s.CreateKey(t.Context(), admin.NewKey{FriendlyName: "for a test"})
	require.NoError(t, err)
	require.Regexp(t, `^SK[0-9a-f]{32}$`, key.SID)
	require.Regexp(t, `^[0-9A-Za-z]{32}$`, key.Secret)

	code, body := s.get(t, "/v1/Services/default", key.SID, key.Secret)
	require.Equal(t, 200, code, body)
	code, body = s.get(t, "/v1/Services/default", "", "")
	require.Equal(t, 401, code, body)
	for _, path := range []string{"/cluster/status", "/cluster/keys", "/cluster/unknown"} {
		code, body = s.get(t, path, key.SID, key.Secret)
		require.Equal(t, 401, code, "API keys do not open the operator's API: %s", body)
		code, _ = s.get(t, path, "", "")
		require.Equal(t, 401, code, path)
	}
	code, body = s.get(t, "/metrics", "", "")
	require.Equal(t, 200, code)
	for _, name := range []string{"lockstep_raft_leader 1", "lockstep_raft_applied_index", `lockstep_members{role="leader"} 1`, `lockstep_write_seconds_count{outcome="done"}`, "go_goroutines", "process_open_fds"} {
		require.Contains(t, body, name)
	}
	code, body = s.get(t, "/", "", "")
	require.Equal(t, 200, code, body)
	require.NoError(t, s.Snapshot(t.Context()))
	require.NoError(t, s.end(t))

	s = start(t, config)
	s.AccountSID, s.AuthToken = account.SID, account.AuthToken
	s.untilReady(t)
	keys, err := s.Keys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, key.SID, keys[0].SID)
	require.Equal(t, "for a test", keys[0].FriendlyName)
	require.Empty(t, keys[0].Secret, "a secret is shown once")
	require.NoError(t, s.RevokeKey(t.Context(), key.SID))
	require.ErrorIs(t, s.RevokeKey(t.Context(), key.SID), objects.ErrNotFound)
	code, _ = s.get(t, "/v1/Services/default", key.SID, key.Secret)
	require.Equal(t, 401, code)
	require.NoError(t, s.end(t))
	require.Len(t, welcomed, 1)
}

func TestWaitingNodeJoinsAndLeaves(t *testing.T) {
	first := start(t, Config{DataDir: dataDir(t), NodeID: "first", Bootstrap: true, Account: testAccount})
	first.untilReady(t)
	dir := dataDir(t)
	second := start(t, Config{DataDir: dir, NodeID: "second", Account: testAccount})

	require.Eventually(t, func() bool {
		err := second.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "belongs to no cluster") // before: it is starting
	}, 10*time.Second, 5*time.Millisecond)
	code, body := second.get(t, "/v1/Services/default", testAccount.SID, testAccount.AuthToken)
	require.Equal(t, 503, code, body)
	require.Contains(t, body, `"code":20503`)

	stranger := &admin.Client{URLs: second.URLs, AccountSID: testAccount.SID, AuthToken: "wrong"}
	join := admin.Join{Member: first.url, AccountSID: testAccount.SID, AuthToken: testAccount.AuthToken}
	_, err := stranger.Join(t.Context(), join)
	require.ErrorIs(t, err, objects.ErrUnauthorized)
	wrong := join
	wrong.AuthToken = "wrong"
	_, err = second.Join(t.Context(), wrong)
	require.ErrorIs(t, err, objects.ErrUnauthorized, "the member refuses")
	wrong = join
	wrong.Member = "http://"
	_, err = second.Join(t.Context(), wrong)
	require.ErrorIs(t, err, objects.ErrParameter)

	wrong = join
	wrong.Member = "http://10.255.255.1:8080"
	_, err = second.Join(t.Context(), wrong)
	require.ErrorIs(t, err, objects.ErrParameter, "not over plain HTTP beyond this machine")
	require.ErrorContains(t, err, "--insecure-join")

	id, err := second.Join(t.Context(), join)
	require.NoError(t, err)
	require.Equal(t, "second", id)
	require.Eventually(t, func() bool {
		s, err := first.Status(t.Context())
		n, ok := s.Find("second")
		return err == nil && ok && n.Votes()
	}, 20*time.Second, 50*time.Millisecond, "second votes")
	second.untilReady(t)
	code, body = second.get(t, "/v1/Services/default", testAccount.SID, testAccount.AuthToken)
	require.Equal(t, 200, code, body)

	require.ErrorContains(t, first.RemoveMember(t.Context(), "third"), "unknown member")
	require.NoError(t, second.Leave(t.Context()))
	require.NoError(t, second.ended(t), "it stops by itself")
	s, err := first.Status(t.Context())
	require.NoError(t, err)
	require.Len(t, s.Nodes, 1)

	again, err := New(Config{DataDir: dir, HTTPAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.ErrorIs(t, again.Run(t.Context()), cluster.ErrLeft)
	require.NoError(t, first.end(t))
}

// While a node is down somebody else may take its ports. In place of those that it chose
// itself it chooses others, by which the other nodes find it; those that it was told it
// insists on.
func TestNodeWhosePortsAreTakenTakesOthers(t *testing.T) {
	first := start(t, Config{DataDir: dataDir(t), NodeID: "first", Bootstrap: true, Account: testAccount})
	first.untilReady(t)
	config := Config{DataDir: dataDir(t), NodeID: "second", Join: first.url, Account: testAccount}
	second := start(t, config)
	votes := func() bool {
		s, err := first.Status(t.Context())
		if err != nil {
			return false
		}
		n, ok := s.Find("second")
		return ok && n.Votes() && second.Ready(t.Context()) == nil
	}
	require.Eventually(t, votes, 20*time.Second, 50*time.Millisecond)
	require.NoError(t, second.end(t))
	before, err := nodedir.Load(config.DataDir)
	require.NoError(t, err)
	for _, taken := range []string{before.InternalAddr, before.GossipAddr} {
		l, err := net.Listen("tcp", taken)
		require.NoError(t, err)
		defer l.Close()
	}

	second = start(t, config)
	require.Eventually(t, votes, 20*time.Second, 50*time.Millisecond)
	after, err := nodedir.Load(config.DataDir)
	require.NoError(t, err)
	require.NotEqual(t, before.InternalAddr, after.InternalAddr)
	require.NotEqual(t, before.GossipAddr, after.GossipAddr)
	require.Equal(t, before.ID, after.ID)
	require.NoError(t, second.end(t))

	config.InternalAddr = before.InternalAddr
	config.HTTPAddr, config.Logger = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	told, err := New(config)
	require.NoError(t, err)
	require.ErrorIs(t, told.Run(t.Context()), syscall.EADDRINUSE)
	require.NoError(t, first.end(t))
}

func TestLastNodeCannotLeave(t *testing.T) {
	only := start(t, Config{DataDir: dataDir(t), Bootstrap: true, Account: testAccount})
	only.untilReady(t)
	var refused *objects.Error
	require.ErrorAs(t, only.Leave(t.Context()), &refused)
	require.Equal(t, http.StatusConflict, refused.Status)
	only.untilReady(t)
	code, body := only.get(t, "/v1/Services/default", testAccount.SID, testAccount.AuthToken)
	require.Equal(t, 200, code, "it goes on serving: %s", body)
	require.NoError(t, only.end(t))
}

func TestJoinIsRefusedWithoutTheAccount(t *testing.T) {
	first := start(t, Config{DataDir: dataDir(t), Bootstrap: true, Account: testAccount})
	first.untilReady(t)
	stranger := testAccount
	stranger.AuthToken = "wrong"
	s, err := New(Config{DataDir: dataDir(t), HTTPAddr: "127.0.0.1:0", Join: first.url, Account: stranger, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.ErrorIs(t, s.Run(t.Context()), objects.ErrUnauthorized)
	require.NoError(t, first.end(t))
}

func TestOneProcessADirectory(t *testing.T) {
	dir := dataDir(t)
	first := start(t, Config{DataDir: dir})
	s, err := New(Config{DataDir: dir, HTTPAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.ErrorIs(t, s.Run(t.Context()), nodedir.ErrRunning)
	require.NoError(t, first.end(t))
}

func TestDirectoryBelongsToOneNode(t *testing.T) {
	dir := dataDir(t)
	require.NoError(t, start(t, Config{DataDir: dir, NodeID: "a"}).end(t))
	s, err := New(Config{DataDir: dir, NodeID: "b", HTTPAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.ErrorContains(t, s.Run(t.Context()), "belongs to node a")
}

func TestValidate(t *testing.T) {
	valid := Config{DataDir: "d", HTTPAddr: "127.0.0.1:8080"}
	for _, c := range []struct {
		change func(*Config)
		want   string // "" for none
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.DataDir = "" }, "--data-dir"},
		{func(c *Config) { c.Join = "10.0.0.1:8080"; c.Account = testAccount }, "--insecure-join"},
		{func(c *Config) { c.Join = "http://n1:8080"; c.Account = testAccount }, "plain http"},
		{func(c *Config) { c.Join = "http://n1:8080"; c.Account = testAccount; c.InsecureJoin = true }, ""},
		{func(c *Config) { c.Join = "https://n1"; c.Account = testAccount }, ""},
		{func(c *Config) { c.Join = "127.0.0.1:8080"; c.Account = testAccount }, ""},
		{func(c *Config) { c.Join = "http://[::1]:8080"; c.Account = testAccount }, ""},
		{func(c *Config) { c.Join = "localhost:8080"; c.Account = testAccount }, ""},
		{func(c *Config) { c.AdminAddr = "8081" }, "--admin-addr"},
		{func(c *Config) { c.AdminAddr = "0.0.0.0:8081" }, "--advertise"},
		{func(c *Config) { c.AdminAddr = "127.0.0.1:8081" }, ""},
		{func(c *Config) { c.Join = "http://10.0.0.1:8080" }, "--join needs"},
		{func(c *Config) { c.Join = "ftp://x"; c.Account = testAccount }, "--join"},
		{func(c *Config) { c.Bootstrap = true; c.Join = "http://x"; c.Account = testAccount }, "--bootstrap"},
		{func(c *Config) { c.HTTPAddr = "127.0.0.1" }, "--http-addr"},
		{func(c *Config) { c.HTTPAddr = "0.0.0.0:1" }, "--advertise"},
		{func(c *Config) { c.HTTPAddr = ":1"; c.Advertise = "n1" }, ""},
		{func(c *Config) { c.InternalAddr = "[::]:1" }, "--internal-addr"},
		{func(c *Config) { c.GossipAddr = "x" }, "--gossip-addr"},
		{func(c *Config) { c.PublicURL = "sync.example.com" }, "--public-url"},
		{func(c *Config) { c.PublicURL = "https://sync.example.com/" }, ""},
		{func(c *Config) { c.Account.SID = testAccount.SID }, "LOCKSTEP_AUTH_TOKEN"},
		{func(c *Config) { c.Account = auth.Account{SID: "x", AuthToken: "y"} }, "LOCKSTEP_ACCOUNT_SID"},
		{func(c *Config) { c.Account = auth.Account{SID: testAccount.SID, AuthToken: "with-dash"} }, "LOCKSTEP_AUTH_TOKEN"},
		{func(c *Config) { c.TimeoutScale = -1 }, "--timeout-scale"},
		{func(c *Config) { c.RateLimits.Reads.Rate = -1 }, "--rate-limits"},
	} {
		config := valid
		c.change(&config)
		_, err := New(config)
		if c.want == "" {
			require.NoError(t, err, "%+v", config)
		} else {
			require.ErrorContains(t, err, c.want)
		}
	}
}

func TestGateWakesAllWhoWait(t *testing.T) {
	var g drainGate
	g.enter()
	var closed sync.WaitGroup
	for range 2 {
		closed.Go(func() { require.NoError(t, g.close(t.Context())) })
	}
	g.leave()
	closed.Wait()
	require.False(t, g.enter())
}

func TestGateWaitsForThoseInside(t *testing.T) {
	var g drainGate
	require.True(t, g.enter())
	closed := make(chan error)
	go func() { closed <- g.close(t.Context()) }()
	require.Eventually(t, func() bool {
		if g.enter() {
			g.leave()
			return false
		}
		return true
	}, 5*time.Second, time.Millisecond, "the gate is shut")
	g.leave()
	require.NoError(t, <-closed)
	require.False(t, g.enter())
	g.open()
	require.True(t, g.enter())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, g.close(ended), context.Canceled)
}

func TestRefusal(t *testing.T) {
	require.NoError(t, refusal(nil))
	for err, want := range map[error]int{
		cluster.ErrUnknownMember: 404, cluster.ErrQuorum: 409, cluster.ErrAddressTaken: 409, cluster.ErrOldRelease: 409,
		cluster.ErrNoLeader: 503, cluster.ErrUnreachable: 503, errors.New("other"): 503,
	} {
		var got *objects.Error
		require.ErrorAs(t, refusal(err), &got)
		require.Equal(t, want, got.Status, err)
	}
}

func TestRolesAreCalledAsOperatorsKnowThem(t *testing.T) {
	for role, want := range map[cluster.Role]string{
		cluster.RoleLeader: admin.RoleLeader, cluster.RoleFollower: admin.RoleFollower,
		cluster.RoleNonvoter: admin.RoleNonvoter, cluster.RoleUnreachable: admin.RoleUnreachable,
	} {
		require.Equal(t, want, string(role))
	}
}

func TestWhatIsLikelyNotMeantIsWarnedOf(t *testing.T) {
	for addr, warned := range map[string]bool{"127.0.0.1:8080": false, "[::1]:8080": false, "localhost:8080": false, "0.0.0.0:8080": true, "10.0.0.1:8080": true, ":8080": true} {
		c := Config{HTTPAddr: addr}
		require.Equal(t, warned, len(c.warnings()) == 1, addr)
		c.PublicURL = "https://sync.example.com"
		require.Empty(t, c.warnings(), addr)
	}
}

func TestAdminAddrServesOperatorsAlone(t *testing.T) {
	first := start(t, Config{DataDir: dataDir(t), NodeID: "first", Bootstrap: true, Account: testAccount, AdminAddr: "127.0.0.1:0"})
	require.NotEqual(t, first.url, first.operators)
	first.untilReady(t)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/cluster", "/cluster/", "/cluster/status", "/cluster/enrol"} {
		code, body := first.get(t, path, testAccount.SID, testAccount.AuthToken)
		require.Equal(t, 404, code, "%s %s", path, body)
		require.Contains(t, body, `"code":20404`)
	}
	code, body := first.get(t, "/", "", "")
	require.Equal(t, 200, code)
	require.NotContains(t, body, "metrics")
	code, body = first.get(t, "/v1/Services/default", testAccount.SID, testAccount.AuthToken)
	require.Equal(t, 200, code, body)

	atOperators := &running{url: first.operators}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/cluster/status": 200, "/v1/Services/default": 404, "/v3/wsconnect": 404, "/": 404} {
		code, body := atOperators.get(t, path, testAccount.SID, testAccount.AuthToken)
		require.Equal(t, want, code, "%s %s", path, body)
	}

	wrong, err := New(Config{DataDir: dataDir(t), HTTPAddr: "127.0.0.1:0", Join: first.url, Account: testAccount, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.ErrorContains(t, wrong.Run(t.Context()), "--admin-addr", "told where to go")

	second := start(t, Config{DataDir: dataDir(t), NodeID: "second", Join: first.operators, Account: testAccount, AdminAddr: "127.0.0.1:0"})
	second.untilReady(t)
	require.Eventually(t, func() bool {
		r, err := nodedir.Load(second.dir)
		return err == nil && len(r.Peers) == 1 && r.Peers[0] == first.operators
	}, 30*time.Second, 50*time.Millisecond, "it notes where the other one answers operators")
	require.NoError(t, second.Leave(t.Context()))
	require.NoError(t, second.ended(t))
	require.NoError(t, first.end(t))
}
