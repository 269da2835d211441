//go:build load

// Package overload gives a cluster more to do than it can, and measures what it
// still does: make test-overload. It is no part of make test, since figures of
// throughput mean little on a busy machine.
package overload

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(bystanderVariable); text != "" {
		runBystander(text)
		return
	}
	os.Exit(harness.Main(m))
}

const (
	saturating = 256             // clients that are enough for all the cluster can do
	warmUp     = 2 * time.Second // before each measurement
	measured   = 8 * time.Second
	patience   = 5 * time.Second // an answer that comes later is as good as none
)

// tally is what clients were answered within the patience of a client.
type tally struct {
	done, refused, late, other atomic.Int64

	mu   sync.Mutex
	took []time.Duration // of those that were done
	odd  string          // the last other answer
}

func (x *tally) add(status int, retryAfter string, took time.Duration) {
	switch {
	case status == http.StatusCreated && took <= patience:
		x.done.Add(1)
		x.mu.Lock()
		x.took = append(x.took, took)
		x.mu.Unlock()
	case status == http.StatusCreated:
		x.late.Add(1)
	case (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) && retryAfter != "":
		x.refused.Add(1)
	default:
		x.other.Add(1)
		x.mu.Lock()
		x.odd = fmt.Sprint(status)
		x.mu.Unlock()
	}
}

func (x *tally) p99() time.Duration {
	if len(x.took) == 0 {
		return 0
	}
	slices.Sort(x.took)
	return x.took[len(x.took)*99/100]
}

// load has clients write for a while, each as fast as it is answered, or refused.
func load(t *testing.T, c *harness.Cluster, clients int) (goodput float64, x *tally) {
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var now atomic.Pointer[tally]
	now.Store(new(tally))
	for i := range clients {
		work.Go(func() { write(ctx, c, i, &now) })
	}
	time.Sleep(warmUp)
	x = new(tally)
	now.Store(x)
	time.Sleep(measured)
	now.Store(new(tally))
	stop()
	work.Wait()
	return float64(x.done.Load()) / measured.Seconds(), x
}

// write is one client with a connection of its own. Lists are shared by few.
func write(ctx context.Context, c *harness.Cluster, client int, now *atomic.Pointer[tally]) {
	node := c.Nodes[client%len(c.Nodes)]
	list := fmt.Sprintf("load-%d", client%saturating)
	r, err := http.NewRequest(http.MethodPost, node.URL+"/v1/Services/default/Lists/"+list+"/Items", strings.NewReader("Data=%7B%22n%22%3A1%7D"))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(c.Account.SID, c.Account.AuthToken)
	var text strings.Builder
	_ = r.Write(&text)
	request := []byte(text.String())
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", r.URL.Host)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		in := bufio.NewReader(conn)
		for ctx.Err() == nil {
			begin := time.Now()
			if _, err := conn.Write(request); err != nil {
				break
			}
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				break
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			now.Load().add(answer.StatusCode, answer.Header.Get("Retry-After"), time.Since(begin))
		}
		stop()
		conn.Close()
	}
}

func TestGoodputUnderOverload(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	for i := range saturating {
		_, err := c.Nodes[0].REST().Post(t.Context(), "/Lists", harness.Form("UniqueName", fmt.Sprint("load-", i)))
		require.NoError(t, err)
	}
	c.Favour()
	leader := c.Leader()
	peak, x := load(t, c, saturating)
	t.Logf("%5d clients: %.0f writes/s, p99 %v", saturating, peak, x.p99())
	for _, factor := range []int{5, 16} {
		goodput, x := load(t, c, factor*saturating)
		t.Logf("%5d clients: %.0f writes/s (%.2f of the peak), p99 %v, refused %d, late %d, other %d %s",
			factor*saturating, goodput, goodput/peak, x.p99(), x.refused.Load(), x.late.Load(), x.other.Load(), x.odd)
		require.GreaterOrEqual(t, goodput, 0.8*peak)
		require.Zero(t, x.other.Load())
	}
	require.Same(t, leader, c.Leader(), "heartbeats were not starved")
}
