package chart

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cmd/lockstep/bench/internal/report"
)

func TestChartsAreDrawnOfWhatWasMeasured(t *testing.T) {
	r := report.New(time.Second)
	for _, n := range []int{10, 1000} {
		for _, s := range []string{"writes", "growth-objects"} {
			r.Samples = append(r.Samples, report.Sample{Scenario: s, Row: "a row", N: n, Metrics: report.Metrics{report.PerSecond: 2, report.CPU: 3}})
		}
	}
	r.Samples = append(r.Samples, report.Sample{Scenario: "reads", Row: "a row", N: 1, Error: "failed"})
	files, err := Draw(r, t.TempDir())
	require.NoError(t, err)
	require.Len(t, files, 3)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		require.Contains(t, string(b), "a row")
	}
}
