package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/objects"
)

// busy starts a node that has served some of everything.
func busy(t *testing.T) *running {
	s := start(t, Config{DataDir: dataDir(t), NodeID: "one", Bootstrap: true, Account: testAccount})
	s.untilReady(t)
	service := "/v1/Services/default"
	for i := range 5 {
		require.Equal(t, 201, s.post(t, service+"/Documents", url.Values{"UniqueName": {fmt.Sprint("d", i)}, "Data": {"{}"}}))
	}
	require.Equal(t, 409, s.post(t, service+"/Documents", url.Values{"UniqueName": {"d1"}}))
	status, _ := s.get(t, service+"/Documents/d1", testAccount.SID, testAccount.AuthToken)
	require.Equal(t, 200, status)
	require.NoError(t, s.Snapshot(t.Context()))
	return s
}

func (r *running) post(t *testing.T, path string, form url.Values) (status int) {
	req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+path, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(testAccount.SID, testAccount.AuthToken)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func TestMetricsOfLiveNodeAreWellFormed(t *testing.T) {
	s := busy(t)
	status, text := s.get(t, "/metrics", "", "")
	require.Equal(t, 200, status)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)

	for _, line := range []string{
		`lockstep_write_stage_seconds_count{stage="queued"}`, `lockstep_write_stage_seconds_count{stage="committed"}`, `lockstep_write_stage_seconds_count{stage="applied"}`,
		`lockstep_disk_write_seconds_count{what="append"}`, `lockstep_disk_write_seconds_count{what="promise"}`,
		`lockstep_request_seconds_count{kind="write",protocol="rest"}`, `lockstep_request_seconds_count{kind="read",protocol="rest"}`,
		`lockstep_refusals_total{code="54301",protocol="rest"}`,
		`lockstep_event_stage_seconds_count{stage="framed"}`,
		`lockstep_entry_commands_count`, `lockstep_entry_bytes_count`, `lockstep_read_round_seconds_count`, `lockstep_read_round_reads_count`,
		`lockstep_snapshot_seconds_count`, `lockstep_snapshot_bytes`, `lockstep_log_bytes`, `lockstep_log_entries`,
	} {
		require.Positive(t, value(t, text, line), line)
	}
	require.NoError(t, s.end(t))
}

// value returns the value of a line of /metrics.
func value(t *testing.T, text, series string) (v float64) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			_, err := fmt.Sscan(rest, &v)
			require.NoError(t, err)
			return v
		}
	}
	require.Fail(t, "no such series", "%s", series)
	return 0
}

func TestAllMeasuresHaveTheirHistogram(t *testing.T) {
	m := newMetrics(nil)
	for what := range cluster.Measures {
		require.NotNil(t, m.cluster[what], "measure %d", what)
		require.NotPanics(t, func() { m.observe(what, 1) })
	}
	families, err := m.registry.Gather()
	require.NoError(t, err)
	at := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "lockstep_write_stage_seconds" })
	require.NotEmpty(t, families[at].Metric[0].Histogram.PositiveSpan, "histograms are native, too")
}

// What is measured for each request costs it no memory.
func TestMeasuringAllocatesNothing(t *testing.T) {
	m := newMetrics(nil)
	measure := func() {
		m.rest.answered(true, nil, time.Millisecond)
		m.realtime.answered(false, nil, time.Millisecond)
		m.proposed(&updated, nil, time.Millisecond)
		m.read(nil, time.Millisecond)
		for what := range cluster.Measures {
			m.observe(what, .001)
		}
	}
	measure()
	require.Zero(t, testing.AllocsPerRun(1000, measure))
}

func TestRefusalsAreCountedByCode(t *testing.T) {
	m := newMetrics(nil)
	m.rest.answered(true, objects.ErrTooMany, time.Millisecond)
	m.rest.answered(true, objects.ErrTooMany.With("another message"), time.Millisecond)
	m.realtime.answered(true, objects.ErrTooMany, time.Millisecond)
	m.proposed(nil, fmt.Errorf("wrapped: %w", cluster.ErrOverloaded), time.Millisecond)
	var text bytes.Buffer
	gather(t, m, &text)
	require.EqualValues(t, 2, value(t, text.String(), `lockstep_refusals_total{code="20429",protocol="rest"}`))
	require.EqualValues(t, 1, value(t, text.String(), `lockstep_refusals_total{code="20429",protocol="realtime"}`))
	require.EqualValues(t, 1, value(t, text.String(), `lockstep_shed_total{kind="write"}`))
	require.EqualValues(t, 0, value(t, text.String(), `lockstep_shed_total{kind="read"}`))
}

func gather(t *testing.T, m *metrics, into *bytes.Buffer) {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, w.Code)
	into.Write(w.Body.Bytes())
}

var updated fsm.Result

func BenchmarkMeasuringOfAWrite(b *testing.B) {
	m := newMetrics(nil)
	b.ReportAllocs()
	for b.Loop() {
		m.proposed(&updated, nil, time.Millisecond)
		m.rest.answered(true, nil, time.Millisecond)
	}
}

func TestMetricsMayHaveAnAddressOfTheirOwn(t *testing.T) {
	addr := freeAddr(t)
	s := start(t, Config{DataDir: dataDir(t), NodeID: "one", Bootstrap: true, Account: testAccount, MetricsAddr: addr})
	s.untilReady(t)
	status, _ := s.get(t, "/metrics", "", "")
	require.Equal(t, 404, status, "they are nowhere else")
	status, _ = s.get(t, "/healthz", "", "")
	require.Equal(t, 200, status)
	s.url = "http://" + addr
	status, text := s.get(t, "/metrics", "", "")
	require.Equal(t, 200, status)
	require.EqualValues(t, 1, value(t, text, "lockstep_raft_leader"))
	for _, path := range []string{"/", "/healthz", "/cluster/status", "/v1/Services/default"} {
		status, _ = s.get(t, path, testAccount.SID, testAccount.AuthToken)
		require.Equal(t, 404, status, "%s is not there", path)
	}
	require.NoError(t, s.end(t))
}

// freeAddr returns an address on which nobody listens.
func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
