package cluster

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// A node that comes back after an outage counts for a majority again at once: if
// the other follower dies in the very next moment, writes go on.
func TestReturnedNodeCountsForQuorum(t *testing.T) {
	t.Parallel() // it mostly waits
	c := harness.Start(t, harness.Config{})
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", "d"))
	require.NoError(t, err)
	leader := c.Leader()
	var followers []*harness.Node
	for _, n := range c.Nodes {
		if n != leader {
			followers = append(followers, n)
		}
	}
	write := func() {
		a, err := leader.REST().Do(t.Context(), http.MethodPost, "/Documents/d", harness.Form("Data", "1"))
		require.NoError(t, err)
		require.Equal(t, 200, a.Status, "%s", a.Body)
	}
	followers[0].Kill9()
	// Pauses between attempts to reach it would have grown to ten seconds by now.
	for end := time.Now().Add(21 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		write()
	}
	followers[0].Restart()
	start := time.Now()
	followers[0].UntilReady()
	followers[1].Kill9()
	write()
	took := time.Since(start)
	t.Logf("ready, and its vote counted, %v after the start", took)
	require.Less(t, took, 6*time.Second)
}

// A node whose raft state was put back to an older copy has promised what it does
// not know: the others do, and it is found before it votes. It comes back in its own
// place, and no write is lost.
func TestOlderCopyOfANodeDoesNotVote(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	leader := c.Leader()
	var behind, old *harness.Node
	for _, n := range c.Nodes {
		switch {
		case n == leader:
		case behind == nil:
			behind = n
		default:
			old = n
		}
	}
	write := func(from, to int) {
		for i := from; i < to; i++ {
			_, err := leader.REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", fmt.Sprint("d", i), "Data", "1"))
			require.NoError(t, err)
		}
	}
	write(0, 5)
	old.Stop()
	copied := filepath.Join(t.TempDir(), "raft")
	require.NoError(t, os.CopyFS(copied, os.DirFS(filepath.Join(old.Dir, "raft"))))
	old.Restart()
	c.UntilAllVote()
	write(5, 10)
	index := func() uint64 {
		s, err := leader.Client().Status(t.Context())
		require.NoError(t, err)
		m, _ := s.Find(old.ID)
		return m.AppliedIndex
	}
	at := index()
	c.Until("the node that stays was told", func() error {
		s, err := behind.Client().Status(t.Context())
		if err != nil {
			return err
		}
		if m, _ := s.Find(old.ID); m.AppliedIndex < at {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})

	// The only other one that is there is not the leader, which had all of it.
	old.Kill9()
	leader.Kill9()
	require.NoError(t, os.RemoveAll(filepath.Join(old.Dir, "raft")))
	require.NoError(t, os.CopyFS(filepath.Join(old.Dir, "raft"), os.DirFS(copied)))
	old.Restart()
	require.Equal(t, exitState, old.UntilExit(), "%s", old.Log())
	require.Contains(t, old.Log(), "is a copy of before: it told another member that it had term ")
	require.Contains(t, old.Log(), "--replace")
	old.Restart()
	require.Equal(t, exitState, old.UntilExit(), "it knows by now")

	leader.Restart()
	leader.UntilReady()
	old.Restart("--join", leader.URL, "--replace")
	c.UntilAllVote()
	for i := range 10 {
		_, err := old.REST().Get(t.Context(), fmt.Sprint("/Documents/d", i))
		require.NoError(t, err)
	}
}
