package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"lockstep/test/harness"
)

const exitDisk = 4

// fill leaves so many bytes free where a directory is. The function that it
// returns gives them back.
func fill(t *testing.T, dir string, leave int64) (empty func()) {
	t.Helper()
	var s unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &s))
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, int64(s.Bavail)*int64(s.Bsize)-leave))
	return func() { require.NoError(t, os.Remove(ballast)) }
}

// exitLine is the one line in which a node said why it ended.
func exitLine(t *testing.T, n *harness.Node) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(n.Log()) {
		if strings.HasPrefix(line, "lockstep: ") {
			found = append(found, line)
		}
	}
	require.Len(t, found, 1, "%s", n.Log())
	return found[0]
}

// While the disks have less room than the reserve, writes are refused on every
// node, and all else goes on. When there is room, nobody has to do anything.
func TestFullDisksRefuseWritesUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{
		Env:   []string{"LOCKSTEP_DISK_RESERVE=32MiB"},
		Mount: func(dir string) { harness.Memory(t, dir, "160m") },
	})
	ctx := t.Context()
	rest := c.Nodes[0].REST()
	a, err := rest.Post(ctx, "/Maps", harness.Form("UniqueName", "m"))
	require.NoError(t, err)
	var m struct{ SID string }
	require.NoError(t, a.Decode(&m))
	for _, key := range []string{"a", "b", "c"} {
		_, err = rest.Post(ctx, "/Maps/m/Items", harness.Form("Key", key, "Data", `{"n":1}`))
		require.NoError(t, err)
	}
	client, err := harness.Connect(ctx, c.Follower().URL, c.Token("alice"))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.Follow(m.SID, "map", 3))
	expect := func(kind, key string) {
		t.Helper()
		for {
			n, err := client.Next(30 * time.Second)
			require.NoError(t, err, "waiting for %s of %s", kind, key)
			if n.Type == kind {
				require.Equal(t, key, n.Event.ItemKey)
				return
			}
		}
	}

	var empty []func()
	for _, n := range c.Nodes {
		empty = append(empty, fill(t, n.Dir, 16<<20))
	}
	write := func(n *harness.Node) (harness.Answer, error) {
		return n.REST().Do(ctx, http.MethodPost, "/Maps/m/Items/a", harness.Form("Data", `{"n":2}`))
	}
	c.Until("writes are refused", func() error {
		a, err := write(c.Nodes[0])
		if err == nil && a.Status != http.StatusInsufficientStorage {
			err = fmt.Errorf("status %d", a.Status)
		}
		return err
	})
	for i, n := range c.Nodes {
		a, err := write(n)
		require.NoError(t, err)
		require.Equal(t, http.StatusInsufficientStorage, a.Status, "%s", a.Body)
		require.Contains(t, string(a.Body), `"code":54906`)
		require.NotEmpty(t, a.Header.Get("Retry-After"))
		_, err = n.REST().Get(ctx, "/Maps/m/Items/c")
		require.NoError(t, err, "reads go on")
		a, err = n.REST().Do(ctx, http.MethodGet, n.URL+"/readyz", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, a.Status)
		require.Contains(t, string(a.Body), "disk is nearly full")
		if i < 2 {
			key := []string{"a", "b"}[i]
			a, err = n.REST().Do(ctx, http.MethodDelete, "/Maps/m/Items/"+key, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusNoContent, a.Status, "removals go on: %s", a.Body)
			expect("map_item_removed", key)
		}
	}

	for _, free := range empty {
		free()
	}
	c.Until("writes are taken again", func() error {
		_, err := rest.Post(ctx, "/Maps/m/Items/c", harness.Form("Data", `{"n":3}`))
		return err
	})
	expect("map_item_updated", "c")
	for _, n := range c.Nodes {
		require.False(t, n.Exited())
	}
}

// A disk that answers with an input/output error ends its node, in one line. The
// others go on, and when the disk is well the node comes back with what they did.
func TestInputOutputErrorEndsNodeWithOneLine(t *testing.T) {
	t.Parallel()
	disks := map[string]*harness.Disk{}
	c := harness.Start(t, harness.Config{Mount: func(dir string) { disks[dir] = harness.NewDisk(t, dir) }})
	ctx := t.Context()
	_, err := c.Nodes[0].REST().Post(ctx, "/Documents", harness.Form("UniqueName", "d", "Data", `{"n":0}`))
	require.NoError(t, err)
	sick := c.Leader()
	disks[sick.Dir].Fail()
	c.Until("the node ends", func() error {
		if !sick.Exited() {
			_, _ = sick.REST().Post(ctx, "/Documents/d", harness.Form("Data", `{"n":1}`)) // it has to write something
			return errors.New("it runs")
		}
		return nil
	})
	require.Equal(t, exitDisk, sick.UntilExit(), "%s", sick.Log())
	line := exitLine(t, sick)
	require.Contains(t, line, "a write to this node's disk failed")
	require.Contains(t, line, "input/output error")
	require.Contains(t, line, "with the other nodes")
	require.Contains(t, line, sick.Dir)

	other := c.Leader()
	require.NotEqual(t, sick, other)
	c.Until("the others take writes", func() error {
		_, err := other.REST().Post(ctx, "/Documents/d", harness.Form("Data", `{"n":2}`))
		return err
	})
	disks[sick.Dir].Mend()
	sick.Restart()
	sick.UntilReady()
	a, err := sick.REST().Get(ctx, "/Documents/d")
	require.NoError(t, err)
	require.Contains(t, string(a.Body), `"n":2`)
}

// A node that is alone has the only copy of what it acknowledged, and says so.
func TestFullDiskWithoutReserveEndsALoneNode(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{
		Nodes: 1, Env: []string{"LOCKSTEP_DISK_RESERVE=off"},
		Mount: func(dir string) { harness.Memory(t, dir, "96m") },
	})
	ctx := t.Context()
	lone := c.Nodes[0]
	_, err := lone.REST().Post(ctx, "/Documents", harness.Form("UniqueName", "d", "Data", `{"n":0}`))
	require.NoError(t, err)
	empty := fill(t, lone.Dir, 0)
	data := `{"text":"` + strings.Repeat("x", 15_000) + `"}`
	acknowledged := 0
	c.Until("the node ends", func() error {
		if !lone.Exited() {
			if _, err := lone.REST().Post(ctx, "/Documents", harness.Form("UniqueName", fmt.Sprint("d", acknowledged), "Data", data)); err == nil {
				acknowledged++
			}
			return errors.New("it runs")
		}
		return nil
	})
	require.Equal(t, exitDisk, lone.UntilExit(), "%s", lone.Log())
	line := exitLine(t, lone)
	require.Contains(t, line, "no space left on device")
	require.Contains(t, line, "on that disk alone")
	require.NotContains(t, line, "other nodes")

	empty()
	lone.Restart()
	lone.UntilReady()
	for i := range acknowledged {
		_, err := lone.REST().Get(ctx, fmt.Sprint("/Documents/d", i))
		require.NoError(t, err)
	}
}
