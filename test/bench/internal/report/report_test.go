package report

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample(row string, n int, figure float64) Sample {
	return Sample{Scenario: "writes", Row: row, N: n, Metrics: Metrics{PerSecond: figure, P50: 1}}
}

func TestTableHasMediansAndRatios(t *testing.T) {
	r := New(time.Second)
	r.Samples = []Sample{
		sample("mine", 256, 3000), sample(EtcdPut, 256, 1000), sample("mine", 256, 1000), sample("mine", 256, 2000), sample("mine", 1, 50),
		{Scenario: "writes", Row: "broken", N: 256, Error: "a|b\nc"},
	}
	var b strings.Builder
	require.NoError(t, r.Tables(&b))
	require.Contains(t, b.String(), "| mine | 256 | 2,000 (1,000–3,000) | 2.00 | 1.00 | – |")
	require.Contains(t, b.String(), "| mine | 1 | 50.0 | – |", "the base was not measured with one client")
	require.Contains(t, b.String(), "| broken | 256 | failed: a/b; c |")
	require.Less(t, strings.Index(b.String(), "| mine | 1 |"), strings.Index(b.String(), "| mine | 256 |"))
}

func TestMedianOfAnEvenNumber(t *testing.T) {
	require.Equal(t, Spread{Median: 2.5, Min: 1, Max: 9, Count: 4}, Sum([]float64{9, 1, 3, 2}))
	require.Zero(t, Sum(nil))
}

func TestReportsAreKeptAndPutTogether(t *testing.T) {
	r := New(time.Second)
	r.Samples = []Sample{sample("a", 1, 2)}
	one, two := filepath.Join(t.TempDir(), "1"), filepath.Join(t.TempDir(), "2")
	require.NoError(t, r.Save(one))
	r.Samples = []Sample{sample("b", 1, 4)}
	require.NoError(t, r.Save(two))
	all, err := Load(one, two)
	require.NoError(t, err)
	require.Equal(t, []Line{{"a", 1}, {"b", 1}}, all.Lines("writes"))
}

func TestTargetsSayWhatWasReached(t *testing.T) {
	r := New(time.Second)
	r.Samples = []Sample{sample("mine", 256, 3000), sample(EtcdPut, 256, 1000)}
	target := Target{Work: "w", Scenario: "writes", Row: "mine", N: 256, Metric: PerSecond, Against: "etcd", Base: EtcdPut, Goal: 2}
	for _, tt := range []struct {
		change func(t *Target)
		want   string
	}{
		{func(*Target) {}, "| w | etcd | 3,000 | 1,000 | 3.00 | ≥ 2 ✓ |"},
		{func(t *Target) { t.N = 0 }, "| w | etcd | 3,000 | 1,000 | 3.00 | ≥ 2 ✓ |"},
		{func(t *Target) { t.Goal = 4 }, "| w | etcd | 3,000 | 1,000 | 3.00 | ≥ 4 ✗ |"},
		{func(t *Target) { t.Most = true }, "| w | etcd | 3,000 | 1,000 | 3.00 | ≤ 2 ✗ |"},
		{func(t *Target) { t.Base, t.Goal = "", 9000; t.Most = true }, "| w | etcd | 3,000 | – | – | ≤ 9000 ✓ |"},
		{func(t *Target) { t.N = 64 }, "| w | etcd | – | – | – | ≥ 2 |"},
	} {
		this := target
		tt.change(&this)
		var b strings.Builder
		require.NoError(t, r.Targets(&b, []Target{this}))
		require.True(t, strings.HasSuffix(b.String(), tt.want+"\n"), b.String())
	}
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	for want, f := range map[string]float64{"0": 0, "0.12": 0.123, "-1.50": -1.5, "12.3": 12.345, "123": 123.4, "1,234,567": 1234567, "-123": -123, "-1,234": -1234} {
		require.Equal(t, want, Number(f))
	}
}
