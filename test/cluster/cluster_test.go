// Package cluster proves on real processes what users rely on: a node that
// dies takes no acknowledged write with it, and what was written is written once.
package cluster

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// Rate limits would stop a writer that does nothing but write to one list.
const unlimited = "LOCKSTEP_RATE_LIMITS=off"

// writers push numbered items to a list through all nodes, and note which
// were acknowledged. An unanswered push is repeated under its idempotency key,
// on the next node, until it is.
type writers struct {
	c    *harness.Cluster
	path string
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	acked []string
	next  atomic.Int64
}

func startWriters(t *testing.T, c *harness.Cluster, n int) *writers {
	list := c.Must(0, "POST", "/v1/Services/default/Lists").Body["sid"].(string)
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{c: c, path: "/v1/Services/default/Lists/" + list + "/Items", stop: cancel}
	for i := range n {
		w.wg.Go(func() { w.run(ctx, t, i) })
	}
	t.Cleanup(func() {
		cancel()
		w.wg.Wait()
	})
	return w
}

func (w *writers) run(ctx context.Context, t *testing.T, worker int) {
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("w%d-%d", worker, i)
		for node := worker; ; node++ {
			attempt, cancel := context.WithTimeout(context.Background(), 12*time.Second)
			a, err := w.c.REST(attempt, node, "POST", w.path, http.Header{"Idempotency-Key": {id}}, "Data", `"`+id+`"`)
			cancel()
			if err == nil && a.Status == 201 {
				break
			}
			if err == nil && a.Status != 503 {
				t.Errorf("write %s: status %d: %s", id, a.Status, a.Text)
				return
			}
			time.Sleep(10 * time.Millisecond) // a dead node refuses at once: do not spin on it
		}
		w.mu.Lock()
		w.acked = append(w.acked, id)
		w.mu.Unlock()
	}
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// progress waits until more writes were acknowledged than now.
func (w *writers) progress(t *testing.T, more int) {
	t.Helper()
	from := w.count()
	require.Eventually(t, func() bool { return w.count() >= from+more }, 30*time.Second, 5*time.Millisecond, "writes go on")
}

// verify stops the writers and compares what is there with what was acknowledged.
func (w *writers) verify(t *testing.T, node int) {
	w.stop()
	w.wg.Wait()
	require.NotEmpty(t, w.acked)
	there := items(t, w.c, node, w.path)
	slices.Sort(there)
	slices.Sort(w.acked)
	require.Equal(t, w.acked, there, "every acknowledged write is there, once")
}

func items(t *testing.T, c *harness.Cluster, node int, path string) []string {
	var out []string
	for next := path + "?PageSize=100"; next != ""; {
		a := c.Must(node, "GET", next)
		for _, i := range a.Body["items"].([]any) {
			out = append(out, i.(map[string]any)["data"].(string))
		}
		u, _ := a.Body["meta"].(map[string]any)["next_page_url"].(string)
		next = strings.TrimPrefix(u, c.URL(node))
	}
	return out
}

func TestKillingAnyNodeLosesNoAcknowledgedWrite(t *testing.T) {
	c := harness.Start(t, unlimited)
	w := startWriters(t, c, 6)
	for range 3 {
		w.progress(t, 50)
		leader := c.Leader()
		c.Kill(leader)
		w.progress(t, 50)
		c.Restart(leader)
		follower := (c.Leader() + 1) % 3
		c.Kill(follower)
		w.progress(t, 50)
		c.Restart(follower)
	}
	w.verify(t, 2)
}

func TestAPausedLeaderLosesNoAcknowledgedWrite(t *testing.T) {
	c := harness.Start(t, unlimited)
	w := startWriters(t, c, 3)
	w.progress(t, 50)
	leader := c.Leader()
	c.Pause(leader)
	require.Eventually(t, func() bool {
		for n := range 3 {
			if n == leader {
				continue
			}
			for _, m := range c.Status(n).Nodes {
				if m.Role == "leader" && !strings.HasSuffix(m.HTTP, fmt.Sprint(":", c.Port+leader)) {
					return true
				}
			}
		}
		return false
	}, 30*time.Second, 50*time.Millisecond, "another leader")
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	other := (leader + 1) % 3
	doc, err := c.REST(ctx, other, "POST", "/v1/Services/default/Documents", nil, "UniqueName", "paused", "Data", `"new"`)
	require.NoError(t, err)
	require.Equal(t, 201, doc.Status, doc.Text)
	c.Resume(leader)
	a := c.Must(leader, "GET", "/v1/Services/default/Documents/paused")
	require.Equal(t, "new", a.Body["data"], "a read on the old leader does not miss it")
	w.progress(t, 50)
	w.verify(t, leader)
}

func TestAllNodesKilledAtOnceLoseNothing(t *testing.T) {
	c := harness.Start(t, unlimited)
	w := startWriters(t, c, 3)
	w.progress(t, 100)
	for n := range 3 {
		syscall.Kill(c.Pid(n), syscall.SIGKILL)
	}
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() { c.Restart(n) })
	}
	wg.Wait()
	w.progress(t, 50)
	w.verify(t, 1)
}

func TestASecondStartContinuesWithTheSameData(t *testing.T) {
	c := harness.Start(t)
	c.Must(1, "POST", "/v1/Services/default/Documents", "UniqueName", "kept", "Data", `{"a":1}`)
	before := c.Env
	c.Down()
	require.Zero(t, c.ExitCode())
	c.Up()
	require.Equal(t, before, c.Env)
	require.Equal(t, map[string]any{"a": 1.0}, c.Must(2, "GET", "/v1/Services/default/Documents/kept").Body["data"])
}

func TestAFourthNodeJoinsAndLeavesWithoutAFailedWrite(t *testing.T) {
	c := harness.Start(t, unlimited)
	w := startWriters(t, c, 3)
	w.progress(t, 50)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fourth := c.Command(ctx, "serve", "--data-dir", c.NodeDir(3), "--http-port", fmt.Sprint(c.Port+3), "--join", c.URL(0))
	require.NoError(t, os.MkdirAll(c.NodeDir(3), 0o700))
	log, err := os.Create(filepath.Join(c.NodeDir(3), "log"))
	require.NoError(t, err)
	defer log.Close()
	fourth.Stdout, fourth.Stderr = log, log
	require.NoError(t, fourth.Start())
	ended := make(chan error, 1)
	go func() { ended <- fourth.Wait() }()
	voters := func(want int) func() bool {
		return func() bool {
			n := 0
			for _, m := range c.Status(1).Nodes {
				if m.Role == "leader" || m.Role == "follower" {
					n++
				}
			}
			return n == want
		}
	}
	require.Eventually(t, voters(4), 60*time.Second, 100*time.Millisecond, "four voters")
	w.progress(t, 50)
	out, err := c.CLI("leave", "--data-dir", c.NodeDir(3))
	require.NoError(t, err, out)
	require.Eventually(t, voters(3), 60*time.Second, 100*time.Millisecond, "three voters")
	select {
	case err := <-ended:
		require.NoError(t, err, "the node that left ends in order")
	case <-time.After(30 * time.Second):
		t.Fatal("the node that left does not stop")
	}
	w.progress(t, 50)
	w.verify(t, 0)
}

func TestNobodyWithoutCredentialsGetsAnything(t *testing.T) {
	c := harness.Start(t)
	for _, path := range []string{"/v1/Services", "/cluster/status", "/cluster/keys", "/v1/Nothing"} {
		resp, err := http.Get(c.URL(0) + path)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 401, resp.StatusCode, path)
	}
	cmd := c.Command(context.Background(), "serve", "--data-dir", c.NodeDir(3), "--http-port", fmt.Sprint(c.Port+3), "--join", c.URL(0))
	cmd.Env = append(os.Environ(), "LOCKSTEP_ACCOUNT_SID="+c.Env["LOCKSTEP_ACCOUNT_SID"], "LOCKSTEP_AUTH_TOKEN=wrong")
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "a join without credentials is refused: %s", out)
}
