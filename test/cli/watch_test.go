package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/test/harness"
)

// Whoever watches a list is told of each item once and in order, although the node
// that it is connected to dies meanwhile, and the next one, too.
func TestWatchGoesOnAtAnotherNode(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 3})
	key, err := c.Admin().CreateKey(t.Context(), admin.NewKey{FriendlyName: "watch"})
	require.NoError(t, err)
	_, err = c.Nodes[2].REST().Post(t.Context(), "/Lists", harness.Form("UniqueName", "watched"))
	require.NoError(t, err)

	watch := exec.Command(harness.Binary(), "watch", "list/watched", "--json", "--url", strings.Join(c.URLs(), ","))
	watch.Env = append(c.Environment(), "LOCKSTEP_API_KEY="+key.SID, "LOCKSTEP_API_SECRET="+key.Secret)
	out, err := watch.StdoutPipe()
	require.NoError(t, err)
	notes, err := watch.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, watch.Start())
	t.Cleanup(func() { _ = watch.Process.Kill() })
	told := make(chan string, 16)
	go func() {
		for s := bufio.NewScanner(notes); s.Scan(); {
			told <- s.Text()
		}
		close(told)
	}()
	require.Contains(t, <-told, "watching list watched")

	// Writes go on, through a node that stays.
	var pushed, heard atomic.Int64
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			n := pushed.Load()
			_, err := c.Nodes[2].REST().Post(t.Context(), "/Lists/watched/Items", harness.Form("Data", fmt.Sprint(n)), "Idempotency-Key", fmt.Sprint("item ", n))
			if err != nil {
				done <- err
				return
			}
			pushed.Add(1)
			time.Sleep(5 * time.Millisecond) // a pace, not a wait
		}
	}()
	ended := make(chan error, 1)
	go func() {
		for d := json.NewDecoder(out); ; {
			var e struct {
				Type  string
				Index int64
				Data  int64
			}
			if err := d.Decode(&e); err != nil {
				if err == io.EOF {
					err = nil
				}
				ended <- err
				return
			}
			if n := heard.Load(); e.Type != "list_item_added" || e.Index != n || e.Data != n {
				ended <- fmt.Errorf("%+v came in the place of item %d", e, n)
				return
			}
			heard.Add(1)
		}
	}()
	until := func(what string, ok func() bool) {
		harness.Until(t, what, func() error {
			select {
			case err := <-done:
				return fmt.Errorf("writing ended: %w", err)
			case err := <-ended:
				return fmt.Errorf("watching ended: %w", err)
			default:
			}
			if !ok() {
				return fmt.Errorf("%d items were pushed and %d heard", pushed.Load(), heard.Load())
			}
			return nil
		})
	}
	for i := range 2 {
		until("some are heard", func() bool { return heard.Load() > int64(50*(i+1)) })
		c.Nodes[i].Kill9()
		require.Contains(t, <-told, "the connection is lost")
		require.Contains(t, <-told, "goes on at "+c.Nodes[i+1].URL)
		c.Nodes[i].Restart()
		c.Nodes[i].UntilReady()
	}
	close(stop)
	require.NoError(t, <-done)
	until("all are heard", func() bool { return heard.Load() == pushed.Load() })
	require.NoError(t, watch.Process.Signal(syscall.SIGINT))
	require.NoError(t, <-ended)
	require.NoError(t, watch.Wait(), "Ctrl-C is no failure")
	require.Empty(t, told)
}
