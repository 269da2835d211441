package histogram_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"lockstep/server/histogram"
)

func TestHistogramsAreNativeAndHaveBuckets(t *testing.T) {
	h := prometheus.NewHistogram(histogram.Seconds("x_seconds", "help"))
	h.Observe(.003)
	var m dto.Metric
	require.NoError(t, h.Write(&m))
	require.NotEmpty(t, m.Histogram.PositiveSpan, "a native histogram")
	require.NotEmpty(t, m.Histogram.Bucket, "and a classic one")
	require.EqualValues(t, 1, m.Histogram.GetSampleCount())
}

func TestObservingAllocatesNothing(t *testing.T) {
	h := prometheus.NewHistogram(histogram.Seconds("x_seconds", "help"))
	h.Observe(.003) // the first one in a bucket makes it
	require.Zero(t, testing.AllocsPerRun(1000, func() { h.Observe(.003) }))
}

func BenchmarkObserve(b *testing.B) {
	h := prometheus.NewHistogram(histogram.Seconds("x_seconds", "help"))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			h.Observe(float64(i%100) / 1000)
		}
	})
}
