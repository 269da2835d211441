// Package cluster tests whole clusters of real processes: what they promise
// while nodes are killed, paused, restarted, added and removed.
package cluster

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/test/harness"
	"lockstep/test/validate"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// write is one write of one writer.
type write struct {
	Writer int `json:"writer"`
	N      int `json:"n"`
}

func (w write) name() string { return fmt.Sprintf("%d-%d", w.Writer, w.N) }

// writers push items to one list through all nodes, each write again and again
// under its idempotency key, through one node after the other, until it is
// acknowledged.
type writers struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	writes validate.Writes

	mu       sync.Mutex
	longest  time.Duration // that a write took
	refusals []string      // answers that were no success, of nodes that serve
}

const list = "/Lists/writes/Items"

func startWriters(t *testing.T, c *harness.Cluster, perNode int) *writers {
	t.Helper()
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Lists", url.Values{"UniqueName": {"writes"}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{cancel: cancel}
	var clients []*harness.REST
	for _, n := range c.Nodes {
		client := n.REST()
		client.Timeout = 3 * time.Second
		clients = append(clients, client)
	}
	for i := range perNode * len(clients) {
		w.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w.push(write{i, n}, clients)
			}
		})
	}
	t.Cleanup(func() { cancel(); w.done.Wait() })
	return w
}

// push gives up only when the test is over for good.
func (w *writers) push(item write, clients []*harness.REST) {
	form := url.Values{"Data": {fmt.Sprintf(`{"writer":%d,"n":%d}`, item.Writer, item.N)}}
	w.writes.Note(item.name(), validate.Unknown)
	start := time.Now()
	for try := 0; time.Since(start) < time.Minute; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		a, err := clients[(item.Writer+try)%len(clients)].Do(ctx, http.MethodPost, list, form, "Idempotency-Key", item.name())
		cancel()
		if err == nil && a.Err() == nil {
			w.note(item, time.Since(start))
			return
		}
		if err == nil && !strings.Contains(string(a.Body), "does not serve at the moment") {
			w.refused(a)
		}
		time.Sleep(10 * time.Millisecond) // a dead node refuses at once
	}
}

func (w *writers) note(item write, took time.Duration) {
	w.writes.Note(item.name(), validate.Done)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, took)
}

func (w *writers) refused(a harness.Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusals = append(w.refusals, a.Err().Error())
}

// more waits until so many more writes were acknowledged.
func (w *writers) more(t *testing.T, n int) {
	t.Helper()
	moreOf(t, "writes are acknowledged", n, w.writes.Done)
}

// moreOf waits until so many more things are done.
func moreOf(t *testing.T, what string, n int, done func() int) {
	t.Helper()
	want := done() + n
	harness.Until(t, fmt.Sprintf("%d more %s", n, what), func() error {
		if have := done(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// stop ends the writing; every write that was begun is finished.
func (w *writers) stop() *validate.Writes {
	w.cancel()
	w.done.Wait()
	return &w.writes
}

// stored reads the list through a node: how often each write is there.
func stored(t *testing.T, n *harness.Node) map[string]int {
	t.Helper()
	pages, err := n.REST().Pages(t.Context(), list+"?PageSize=100")
	require.NoError(t, err)
	found := map[string]int{}
	for _, p := range pages {
		var page struct {
			Items []struct {
				Data write `json:"data"`
			} `json:"items"`
		}
		require.NoError(t, p.Decode(&page))
		for _, i := range page.Items {
			found[i.Data.name()]++
		}
	}
	return found
}

func requireStoredOnce(t *testing.T, n *harness.Node, writes *validate.Writes) {
	t.Helper()
	require.NoError(t, writes.Stored(stored(t, n)), n.ID)
}

// requireOneState waits until all nodes have applied the same, and compares what
// they have then.
func requireOneState(t *testing.T, c *harness.Cluster) {
	t.Helper()
	var states map[string]validate.Digest
	c.Until("all nodes have applied the same", func() error {
		s, err := c.Admin().Status(t.Context())
		if err != nil {
			return err
		}
		states = map[string]validate.Digest{}
		for _, n := range s.Nodes {
			states[n.ID] = validate.Digest{Index: n.DigestIndex, Hash: n.Digest}
			if n.DigestIndex != s.Nodes[0].DigestIndex {
				return fmt.Errorf("%+v", states)
			}
		}
		return nil
	})
	require.NoError(t, validate.Digests(states))
}

func TestKillAnyNodeLosesNoAcknowledgedWrite(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	w := startWriters(t, c, 2)
	w.more(t, 50)
	victims := []func() *harness.Node{c.Leader, c.Follower, c.Leader}
	for _, n := range c.Nodes {
		victims = append(victims, func() *harness.Node { return n })
	}
	for _, victim := range victims {
		n := victim()
		n.Kill9()
		w.more(t, 50) // the others go on
		n.Restart()
		n.UntilReady()
		w.more(t, 20)
	}
	acknowledged := w.stop()
	for _, n := range c.Nodes {
		requireStoredOnce(t, n, acknowledged)
	}
	requireOneState(t, c)
	t.Logf("%d writes; the longest took %v", acknowledged.Done(), w.longest)
}

func TestRestartCatchesUp(t *testing.T) {
	c := harness.Start(t, harness.Config{Env: []string{"LOCKSTEP_SNAPSHOT_THRESHOLD=20", "LOCKSTEP_TRAILING_LOGS=5"}})
	w := startWriters(t, c, 1)
	away := c.Follower()
	snapshots := func() int {
		entries, err := os.ReadDir(filepath.Join(away.Dir, "raft", "snapshots"))
		require.NoError(t, err)
		return len(entries)
	}

	away.Kill9()
	require.Zero(t, snapshots())
	w.more(t, 30)
	away.Restart() // what it missed is in the others' logs
	away.UntilReady()
	require.Zero(t, snapshots())

	away.Kill9()
	w.more(t, 100)
	for _, n := range c.Nodes {
		if n != away {
			require.NoError(t, n.Client().Snapshot(t.Context()))
		}
	}
	w.more(t, 30)
	away.Restart() // what it missed is in no log any more
	away.UntilReady()
	require.NotZero(t, snapshots(), "it came by snapshot")

	requireStoredOnce(t, away, w.stop())
}

func TestKillAllNodesLosesNoAcknowledgedWrite(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	w := startWriters(t, c, 1)
	w.more(t, 100)
	for _, n := range c.Nodes {
		n.Kill9()
	}
	for _, n := range c.Nodes {
		n.Restart()
	}
	c.UntilAllVote()
	w.more(t, 20)
	requireStoredOnce(t, c.Leader(), w.stop())
}

func TestFourthNodeJoinsAndLeaves(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", url.Values{"UniqueName": {"d"}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	var written, failed atomic.Int64
	for _, n := range c.Nodes {
		writing.Go(func() {
			for ctx.Err() == nil {
				if _, err := n.REST().Post(context.Background(), "/Documents/d", url.Values{"Data": {`{"from":"` + n.ID + `"}`}}); err != nil {
					failed.Add(1)
					t.Errorf("write through %s: %v", n.ID, err)
					return
				}
				written.Add(1)
			}
		})
	}
	defer func() { cancel(); writing.Wait() }()

	fourth := c.Add(c.Nodes[1])
	c.UntilAllVote()
	_, err = fourth.REST().Post(t.Context(), "/Documents/d", url.Values{"Data": {`{"from":"the fourth"}`}})
	require.NoError(t, err)

	out, err := c.Run(t.Context(), "leave", "--data-dir", fourth.Dir)
	require.NoError(t, err, out)
	require.Zero(t, fourth.UntilExit())
	c.Nodes = c.Nodes[:3]
	s, err := c.Admin().Status(t.Context())
	require.NoError(t, err)
	require.Len(t, s.Nodes, 3)

	before := written.Load()
	harness.Until(t, "writing goes on", func() error {
		if failed.Load() > 0 {
			return nil
		}
		if written.Load() < before+50 {
			return fmt.Errorf("%d writes", written.Load()-before)
		}
		return nil
	})
	cancel()
	writing.Wait()
	require.Zero(t, failed.Load(), "of %d writes", written.Load())

	fourth.Restart()
	require.Equal(t, 1, fourth.UntilExit(), "a node that left does not come back")
}

func TestLeaderLeaves(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 4})
	w := startWriters(t, c, 1)
	w.more(t, 20)
	leader := c.Leader()
	out, err := c.Run(t.Context(), "leave", "--data-dir", leader.Dir)
	require.NoError(t, err, out)
	require.Zero(t, leader.UntilExit())
	w.more(t, 20)
	acknowledged := w.stop()
	for _, n := range c.Nodes {
		if n != leader {
			requireStoredOnce(t, n, acknowledged)
		}
	}
}

func TestDeadNodeIsRemoved(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 4})
	dead := c.Follower()
	dead.Kill9()
	c.Until("it is seen as unreachable", func() error {
		s, err := c.Admin().Status(t.Context())
		if n, ok := s.Find(dead.ID); err != nil || !ok || n.Role != admin.RoleUnreachable {
			return fmt.Errorf("%+v, %w", s, err)
		}
		return nil
	})
	out, err := c.Run(t.Context(), "leave", dead.ID, "--url", c.Leader().URL)
	require.NoError(t, err, out)
	dead.Restart()
	dead.UntilExit() // it learns that it was removed, and stops
}

func TestJoinRequiresCredentials(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 1})
	member := c.Nodes[0]
	stranger := &admin.Client{URLs: c.URLs(), AccountSID: c.Account.SID, AuthToken: "wrong"}
	_, err := stranger.Enrol(t.Context(), admin.Enrol{ID: "x"})
	require.ErrorIs(t, err, objects.ErrUnauthorized)
	require.ErrorIs(t, stranger.AddMember(t.Context(), admin.Member{ID: "x", Raft: "127.0.0.1:1"}), objects.ErrUnauthorized)
	require.ErrorIs(t, stranger.RemoveMember(t.Context(), member.ID), objects.ErrUnauthorized)
	require.ErrorIs(t, stranger.Leave(t.Context()), objects.ErrUnauthorized)

	right := c.Account
	c.Account.AuthToken = "wrong"
	n := c.Add(member)
	require.Equal(t, 1, n.UntilExit())
	c.Account = right
	s, err := member.Client().Status(t.Context())
	require.NoError(t, err)
	require.Len(t, s.Nodes, 1)
}

// A leader that was paused knows of nothing that happened meanwhile, least of
// all that it leads no more. What it reads must be fresh all the same.
func TestReadIndexAfterPause(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", url.Values{"UniqueName": {"d"}, "Data": {`{"v":0}`}})
	require.NoError(t, err)
	for v := 1; v <= 3; v++ {
		paused := c.Leader()
		other := c.Follower()
		paused.Pause()
		c.Until("the others go on", func() error {
			_, err := other.REST().Post(t.Context(), "/Documents/d", url.Values{"Data": {fmt.Sprintf(`{"v":%d}`, v)}})
			return err
		})
		paused.Resume()
		var document struct {
			Data struct {
				V int `json:"v"`
			} `json:"data"`
		}
		c.Until("it answers", func() error {
			a, err := paused.REST().Get(t.Context(), "/Documents/d")
			if err != nil {
				return err
			}
			return a.Decode(&document)
		})
		require.Equal(t, v, document.Data.V)
		c.UntilAllVote()
	}
}

// The leader dies while a node leaves: that one is in or out afterwards, nothing
// between the two, and leaving again makes it be out.
func TestLeaderDiesDuringLeave(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 60 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			c := harness.Start(t, harness.Config{Nodes: 4})
			w := startWriters(t, c, 1)
			w.more(t, 20)
			leader, leaving := c.Leader(), c.Follower()
			var out string
			var err error
			var running sync.WaitGroup
			running.Go(func() { out, err = c.Run(t.Context(), "leave", "--data-dir", leaving.Dir) })
			time.Sleep(after) // so that the leader dies in different places of its way out
			leader.Kill9()
			running.Wait()
			t.Logf("%v: %s", err, out)
			leader.Restart()
			leader.UntilReady()
			if err != nil {
				leaving.UntilReady()
				out, err := c.Run(t.Context(), "leave", "--data-dir", leaving.Dir)
				require.NoError(t, err, out)
			}
			require.Zero(t, leaving.UntilExit())
			c.Until("all others have it that it is out", func() error {
				for _, n := range c.Nodes {
					if n == leaving {
						continue
					}
					s, err := n.Client().Status(t.Context())
					if _, found := s.Find(leaving.ID); err != nil || found || len(s.Nodes) != 3 {
						return fmt.Errorf("%s: %+v, %w", n.ID, s, err)
					}
				}
				return nil
			})
			again, err := c.Run(t.Context(), "leave", "--data-dir", leaving.Dir)
			require.NoError(t, err, again)
			require.Contains(t, again, "already")
			w.more(t, 20)
			acknowledged := w.stop()
			for _, n := range c.Nodes {
				if n != leaving {
					requireStoredOnce(t, n, acknowledged)
				}
			}
		})
	}
}
