package guard_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/server/audit"
	"lockstep/server/guard"
)

func TestWrongCredentialsWait(t *testing.T) {
	g := guard.New(guard.Config{Delay: 50 * time.Millisecond})
	begin := time.Now()
	require.True(t, g.Refused(t.Context(), "rest", "1.2.3.4"))
	require.GreaterOrEqual(t, time.Since(begin), 50*time.Millisecond)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.True(t, guard.New(guard.Config{Delay: time.Hour}).Refused(ended, "rest", "1.2.3.4"), "who hangs up is not waited for")
	require.False(t, guard.New(guard.Config{Delay: -1}).Refused(t.Context(), "rest", "1.2.3.4"))
}

func TestThoseWhoWaitAreBounded(t *testing.T) {
	g := guard.New(guard.Config{Delay: time.Hour, Waiting: 32})
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 1000 {
		waiting.Go(func() { g.Refused(ctx, "rest", "1.2.3.4") })
	}
	require.Eventually(t, func() bool { return !g.Refused(probe(), "rest", "1.2.3.4") }, 10*time.Second, time.Millisecond)
	require.True(t, g.Refused(probe(), "rest", "5.6.7.8"), "one address leaves room for others")
	for i := range 1000 {
		waiting.Go(func() { g.Refused(ctx, "rest", fmt.Sprint(i)) })
	}
	require.Eventually(t, func() bool { return !g.Refused(probe(), "rest", "9.9.9.9") }, 10*time.Second, time.Millisecond)
	cancel()
	waiting.Wait()
}

// probe is a context that does not wait.
func probe() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestWrongCredentialsAreCountedAndLogged(t *testing.T) {
	var lines bytes.Buffer
	registry := prometheus.NewRegistry()
	g := guard.New(guard.Config{Delay: -1, Metrics: registry, Audit: audit.New(slog.New(slog.NewTextHandler(&lines, nil)))})
	for range 100_000 {
		g.Refused(t.Context(), "rest", "1.2.3.4")
	}
	for i := range 1000 {
		g.Refused(t.Context(), "realtime", fmt.Sprint("10.0.0.", i))
	}
	g.Run(probe())
	g.Run(probe())
	require.Equal(t, 1, bytes.Count(lines.Bytes(), []byte("\n")), "one line: %s", lines.String())
	require.Regexp(t, `level=WARN msg="wrong credentials" audit=true count=101000 addresses=64 most="rest 1.2.3.4 ×100000, realtime 10.0.0.0 ×1`, lines.String())
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 1)
	require.Equal(t, "lockstep_wrong_credentials_total", families[0].GetName())
	require.Len(t, families[0].GetMetric(), 2, "by interface")
}
