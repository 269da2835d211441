// Package durable runs the conformance suite of the Durable Streams protocol, which
// its makers publish, against three nodes, the leader of which is killed meanwhile.
package durable

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// left are the cases that do not count: about forks and subscriptions, which there are not.
var left = regexp.MustCompile(`^Fork - |^Reserved subscription`)

// timed are cases that give a stream one or two seconds to live, by the clock, and ask in
// between whether it does: when the leader is killed just then, or the machine has much
// else to do, an answer comes too late to be right.
var timed = regexp.MustCompile(`^TTL Expiration Behavior > `)

// least is the share of the cases that has to pass, whatever the clock does.
const least = 0.95

func TestConformance(t *testing.T) {
	npm(t)
	c := harness.Start(t, harness.Config{Nodes: 3, Env: []string{"LOCKSTEP_LONG_POLL=2s"}})
	front := httptest.NewServer(&balancer{c: c})
	t.Cleanup(front.Close)

	report := filepath.Join(t.TempDir(), "report.json")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	suite := exec.CommandContext(ctx, "node_modules/.bin/vitest", "run", "--testTimeout=30000", "--reporter=json", "--outputFile="+report)
	suite.Env = append(os.Environ(), "CONFORMANCE_TEST_URL="+front.URL, "CI=1")
	suite.WaitDelay = 5 * time.Second
	out := new(bytes.Buffer)
	suite.Stdout, suite.Stderr = out, out
	require.NoError(t, suite.Start())
	ended := make(chan error, 1)
	go func() { ended <- suite.Wait() }()
	select {
	case <-time.After(5 * time.Second): // when cases are under way
		c.Leader().Kill9()
		<-ended // the report says which cases failed
	case err := <-ended:
		t.Fatalf("the suite ended before a node was killed: %v\n%s", err, out)
	}
	judge(t, report, out.String())
}

// npm installs the suite, unless it is there.
func npm(t *testing.T) {
	lock, err := os.Stat("package-lock.json")
	require.NoError(t, err)
	if done, err := os.Stat("node_modules/.package-lock.json"); err == nil && !done.ModTime().Before(lock.ModTime()) {
		return
	}
	out, err := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error").CombinedOutput()
	require.NoError(t, err, string(out))
}

// judge compares what passed with what has to.
func judge(t *testing.T, report, output string) {
	b, err := os.ReadFile(report)
	require.NoError(t, err, output)
	var r struct {
		TestResults []struct {
			AssertionResults []struct {
				AncestorTitles  []string
				Title, Status   string
				FailureMessages []string
			}
		}
	}
	require.NoError(t, json.Unmarshal(b, &r))
	passed, failed, others := 0, 0, map[string]int{}
	for _, file := range r.TestResults {
		for _, x := range file.AssertionResults {
			name := strings.TrimPrefix(strings.Join(append(x.AncestorTitles, x.Title), " > "), " > ")
			switch {
			case left.MatchString(name):
				others[x.Status]++
			case x.Status == "passed":
				passed++
			default:
				failed++
				report := t.Errorf
				if timed.MatchString(name) {
					report = t.Logf
				}
				report("%s: %s: %s", x.Status, name, strings.Join(x.FailureMessages, "\n"))
			}
		}
	}
	t.Logf("%d of %d cases passed; of those about forks and subscriptions: %v", passed, passed+failed, others)
	require.Greater(t, passed, 200)
	require.GreaterOrEqual(t, float64(passed), least*float64(passed+failed))
}

// balancer is a proxy in front of the nodes: it adds credentials, and tries another
// node when one is gone, under an idempotency key, by which a write happens once.
type balancer struct {
	c    *harness.Cluster
	next atomic.Int64
	keys atomic.Int64
}

// ServeHTTP implements http.Handler.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	key := fmt.Sprintf("k%d", b.keys.Add(1))
	for until := time.Now().Add(10 * time.Second); ; {
		answer, err := b.try(r, body, key)
		if err == nil && (answer.StatusCode != http.StatusServiceUnavailable || time.Now().After(until)) {
			if to := answer.Header.Get("Location"); to != "" { // as every proxy does that is at another path
				answer.Header.Set("Location", "http://"+r.Host+r.URL.Path)
			}
			pass(w, answer)
			return
		}
		if err == nil {
			answer.Body.Close()
		}
		if r.Context().Err() != nil || time.Now().After(until) {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
	}
}

// try asks the next node.
func (b *balancer) try(r *http.Request, body []byte, key string) (*http.Response, error) {
	urls := b.c.URLs()
	target := urls[int(b.next.Add(1))%len(urls)] + "/v1/Services/default/durable/Lists/" + strings.TrimPrefix(r.URL.Path, "/v1/stream/")
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	to, err := http.NewRequestWithContext(r.Context(), r.Method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	to.Header = r.Header.Clone()
	to.Header.Del("Accept-Encoding")
	to.SetBasicAuth(b.c.Account.SID, b.c.Account.AuthToken)
	to.Header.Set("Idempotency-Key", key)
	return transport.RoundTrip(to)
}

var transport = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32}

// pass passes an answer on as it comes.
func pass(w http.ResponseWriter, answer *http.Response) {
	defer answer.Body.Close()
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	b := make([]byte, 32<<10)
	for {
		n, err := answer.Body.Read(b)
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// A follower of a map whose node stops goes on at another one, and misses nothing.
func TestEventsGoOnAtAnotherNode(t *testing.T) {
	c := harness.Start(t, harness.Config{Nodes: 3})
	ask := func(node *harness.Node, method, path, body, last string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, node.URL+"/v1/Services/default/Maps"+path, strings.NewReader(body))
		require.NoError(t, err)
		r.SetBasicAuth(c.Account.SID, c.Account.AuthToken)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { answer.Body.Close() })
		require.Less(t, answer.StatusCode, 300)
		return answer
	}
	put := func(key string) { ask(c.Nodes[1], "POST", "/m/Items", "Key="+key+"&Data=1", "") }
	// read returns the id of the next event, which is about a key.
	read := func(events *bufio.Scanner, key string) (id string) {
		for events.Scan() {
			if text, ok := strings.CutPrefix(events.Text(), "id: "); ok {
				id = text
			}
			if data, ok := strings.CutPrefix(events.Text(), "data: "); ok {
				require.Contains(t, data, `"key":"`+key+`"`)
				return id
			}
		}
		require.Fail(t, "the events ended", "%v", events.Err())
		return ""
	}
	ask(c.Nodes[1], "POST", "", "UniqueName=m", "")
	followed := ask(c.Nodes[2], "GET", "/m/Events", "", "")
	events := bufio.NewScanner(followed.Body)
	require.True(t, events.Scan(), "it is followed")
	put("a")
	last := read(events, "a")
	c.Nodes[2].Stop() // which waits for those that it serves
	for events.Scan() {
		require.NotContains(t, events.Text(), "data")
	}
	put("b")
	put("c")
	back := bufio.NewScanner(ask(c.Nodes[0], "GET", "/m/Events", "", last).Body)
	read(back, "b")
	read(back, "c")
}
