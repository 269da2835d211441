package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// A cluster is lost with all its disks, and another one begins with a backup that
// was made while clients wrote. What was written before the backup is there, and no
// client that knows what came later takes anything for what it knows.
func TestLostClusterIsRestored(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	rest := c.Nodes[0].REST()
	_, err := rest.Post(t.Context(), "/Documents", harness.Form("UniqueName", "d", "Data", `{"n":0}`))
	require.NoError(t, err)
	_, err = rest.Post(t.Context(), "/Maps", harness.Form("UniqueName", "m"))
	require.NoError(t, err)
	_, err = rest.Post(t.Context(), "/Lists", harness.Form("UniqueName", "l"))
	require.NoError(t, err)
	document, err := rest.SID(t.Context(), "/Documents/d")
	require.NoError(t, err)
	aMap, err := rest.SID(t.Context(), "/Maps/m")
	require.NoError(t, err)
	token := c.Token("alice")

	// Each writer's items are acknowledged one after the other.
	const writers = 3
	var mu sync.Mutex
	acknowledged := make([]int, writers)
	enough := func(more int) {
		mu.Lock()
		from := append([]int(nil), acknowledged...)
		mu.Unlock()
		c.Until("clients have written", func() error {
			mu.Lock()
			defer mu.Unlock()
			for w := range acknowledged {
				if acknowledged[w] < from[w]+more {
					return fmt.Errorf("%v", acknowledged)
				}
			}
			return nil
		})
	}
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			client := c.Nodes[w].REST()
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := client.Post(t.Context(), "/Maps/m/Items", harness.Form("Key", fmt.Sprintf("%d-%d", w, i), "Data", "1")); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				mu.Lock()
				acknowledged[w] = i
				mu.Unlock()
			}
		})
	}
	enough(20)
	mu.Lock()
	before := append([]int(nil), acknowledged...)
	mu.Unlock()
	file := filepath.Join(t.TempDir(), "sync.backup")
	out, err := c.Run(t.Context(), "backup", "--url", c.Follower().URL, "--json", file)
	require.NoError(t, err, out)
	var made struct {
		Index     uint64 `json:"index"`
		ClusterID string `json:"cluster_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &made), out)
	enough(20)

	// Subscribers know what is lost.
	for i := range 5 {
		_, err := rest.Post(t.Context(), "/Documents/d", harness.Form("Data", fmt.Sprintf(`{"n":%d}`, i+1)))
		require.NoError(t, err)
	}
	a, err := rest.Post(t.Context(), "/Lists/l/Items", harness.Form("Data", `"lost"`))
	require.NoError(t, err)
	var lost struct {
		Index    uint64 `json:"index"`
		Revision string `json:"revision"`
	}
	require.NoError(t, a.Decode(&lost))
	close(stop)
	writing.Wait()
	known := map[string]uint64{}
	kinds := map[string]string{document: "document", aMap: "map"}
	for sid, path := range map[string]string{document: "/Documents/d", aMap: "/Maps/m"} {
		known[sid], err = lastEvent(t, c.Nodes[1], path)
		require.NoError(t, err)
		r, err := harness.Connect(t.Context(), c.Nodes[1].URL, token)
		require.NoError(t, err)
		require.NoError(t, r.Follow(sid, kinds[sid], known[sid]))
		told, err := r.Next(10 * time.Second)
		require.NoError(t, err)
		require.Zero(t, told.Event.Error.Code, "it may be gone on from: %+v", told)
		r.Close()
	}
	for _, n := range c.Nodes {
		n.Kill9()
		require.NoError(t, os.RemoveAll(n.Dir))
	}

	first := c.Nodes[0]
	out, err = c.Run(t.Context(), "restore", file, "--data-dir", first.Dir, "--node-id", first.ID, "--yes")
	require.NoError(t, err, out)
	require.NotEqual(t, made.ClusterID, first.Record().ClusterID)
	first.Restart()
	first.UntilReady()
	for _, n := range c.Nodes[1:] {
		n.Restart("--join", first.URL)
	}
	c.UntilAllVote()

	// All nodes have what was acknowledged before the backup, in the order in which
	// it was: of each writer's items the first ones.
	for _, n := range c.Nodes {
		for w := range writers {
			there, after := 0, 0
			for i := 1; i <= acknowledged[w]; i++ {
				switch _, err := n.REST().Get(t.Context(), fmt.Sprintf("/Maps/m/Items/%d-%d", w, i)); {
				case err == nil && after == 0:
					there++
				case err == nil:
					t.Fatalf("writer %d: item %d is there, one before it is not", w, i)
				default:
					require.ErrorContains(t, err, "status 404")
					after++
				}
			}
			require.GreaterOrEqual(t, there, before[w], "acknowledged before the backup")
			require.NotZero(t, after, "written after the backup")
		}
	}

	// Clients that know what is lost are told to open the object anew, on each
	// node, now and when as much has been written again.
	for round := range 2 {
		for _, n := range c.Nodes {
			for sid, id := range known {
				r, err := harness.Connect(t.Context(), n.URL, token)
				require.NoError(t, err, "tokens of before are good")
				require.NoError(t, r.Follow(sid, kinds[sid], id))
				told, err := r.Next(10 * time.Second)
				require.NoError(t, err)
				require.Equal(t, 54008, told.Event.Error.Code, "round %d, %s: %+v", round, kinds[sid], told)
				r.Close()
			}
		}
		for i := range 10 {
			_, err := c.Nodes[1].REST().Post(t.Context(), "/Documents/d", harness.Form("Data", fmt.Sprint(i)))
			require.NoError(t, err)
			_, err = c.Nodes[2].REST().Post(t.Context(), "/Maps/m/Items", harness.Form("Key", fmt.Sprintf("new-%d-%d", round, i), "Data", "2"))
			require.NoError(t, err)
		}
	}
	a, err = c.Nodes[2].REST().Post(t.Context(), "/Lists/l/Items", harness.Form("Data", `"new"`))
	require.NoError(t, err)
	told := lost
	require.NoError(t, a.Decode(&lost))
	require.Greater(t, lost.Index, told.Index, "an index that was given is not given again")

	// And clients that open them follow them.
	r, err := harness.Connect(t.Context(), c.Nodes[2].URL, token)
	require.NoError(t, err)
	defer r.Close()
	now, err := lastEvent(t, c.Nodes[0], "/Documents/d")
	require.NoError(t, err)
	require.Greater(t, now, known[document])
	require.NoError(t, r.Follow(document, "document", now))
	answer, err := r.Next(10 * time.Second)
	require.NoError(t, err)
	require.Zero(t, answer.Event.Error.Code, "%+v", answer)
	_, err = c.Nodes[1].REST().Post(t.Context(), "/Documents/d", harness.Form("Data", `"live"`))
	require.NoError(t, err)
	event, err := r.Next(10 * time.Second)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(event.Type, "document_updated"), "%+v", event)
	require.Greater(t, event.Event.ID, now)
}

// lastEvent returns the id of an object's last event, which is its revision.
func lastEvent(t *testing.T, n *harness.Node, path string) (uint64, error) {
	t.Helper()
	a, err := n.REST().Get(t.Context(), path)
	if err != nil {
		return 0, err
	}
	var now revised
	if err := a.Decode(&now); err != nil {
		return 0, err
	}
	return strconv.ParseUint(now.Revision, 16, 64)
}
