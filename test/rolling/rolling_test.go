// Package rolling restarts and upgrades all nodes of a cluster, one after the other,
// behind a load balancer and under the load of the official client.
package rolling

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// line is what client.mjs prints.
type line struct {
	Written struct{ List, Map, Document int }

	Failed  string // the kind of object
	Message string
	N       int

	Done     bool
	Repeated int // requests that crossed the end of a connection
	Heard    struct {
		List, Map []int
		Document  int
	}
}

// application is a running client.mjs.
type application struct {
	t  *testing.T
	in io.WriteCloser

	mu   sync.Mutex
	last line
	over chan struct{} // closed at its end
}

func startApplication(t *testing.T, url, token string) *application {
	t.Helper()
	install := exec.CommandContext(t.Context(), "npm", "ci", "--silent", "--no-audit", "--no-fund")
	output, err := install.CombinedOutput()
	require.NoError(t, err, "npm ci: %s", output)

	node := exec.CommandContext(t.Context(), "node", "client.mjs")
	node.Env = append(os.Environ(), "SYNC_URL="+url, "SYNC_TOKEN="+token)
	node.Stderr = os.Stderr
	in, err := node.StdinPipe()
	require.NoError(t, err)
	out, err := node.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, node.Start())
	a := &application{t: t, in: in, over: make(chan struct{})}
	t.Cleanup(func() { <-a.over }) // the test's context has ended it by then
	go func() {
		defer close(a.over)
		a.read(out)
		if err := node.Wait(); err != nil {
			t.Errorf("client.mjs: %v", err)
		}
	}()
	return a
}

func (a *application) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			a.t.Errorf("client.mjs says %q", lines.Text())
			continue
		}
		if l.Failed != "" {
			a.t.Errorf("write %d to the %s failed: %s", l.N, l.Failed, l.Message)
			continue
		}
		a.mu.Lock()
		a.last = l
		a.mu.Unlock()
	}
}

func (a *application) now() line {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// more waits until some more has been written to each object.
func (a *application) more(count int) {
	a.t.Helper()
	from := a.now().Written
	harness.Until(a.t, "the application writes on", func() error {
		now := a.now().Written
		if min(now.List-from.List, now.Map-from.Map, now.Document-from.Document) < count {
			return fmt.Errorf("%+v, then %+v", from, now)
		}
		return nil
	})
}

// end stops the writing and returns all that happened.
func (a *application) end() line {
	a.t.Helper()
	_, err := a.in.Write([]byte("end\n"))
	require.NoError(a.t, err)
	select {
	case <-a.over:
	case <-time.After(time.Minute):
		a.t.Fatal("client.mjs does not end")
	}
	l := a.now()
	require.True(a.t, l.Done)
	return l
}

// A restart of all nodes, and an upgrade of all nodes to a release that knows more,
// fail no request that a node got, and lose no event.
func TestRestartsAndUpgradesFailNoRequestAndLoseNoEvent(t *testing.T) {
	next := harness.NextRelease(t)
	c := harness.Start(t, harness.Config{Env: []string{"LOCKSTEP_RATE_LIMITS=default"}})
	a := startApplication(t, c.Balanced(), c.Token("app"))
	a.more(10)
	for _, release := range []string{harness.Binary(), next} {
		for _, n := range c.Nodes {
			n.Stop()
			a.more(5)
			n.Binary = release
			n.Restart()
			n.UntilReady()
			a.more(5)
		}
	}
	l := a.end()
	t.Logf("written: %+v; repeated: %d", l.Written, l.Repeated)
	require.Equal(t, l.Written.Document, l.Heard.Document)
	require.Equal(t, upTo(l.Written.List), l.Heard.List)
	require.Equal(t, upTo(l.Written.Map), l.Heard.Map)
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i + 1
	}
	return all
}
