package console

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuantilesAreRightWithinAnEighth(t *testing.T) {
	for took := time.Microsecond; took < time.Minute; took = took*21/20 + time.Microsecond {
		var m Meter
		m.Observe(took)
		c := m.counts()
		want := float64(took.Microseconds()) / 1000
		require.InEpsilon(t, want, c.quantile(.99, 1), .125, "%v", took)
	}
	var m Meter
	m.Observe(0)
	m.Observe(time.Hour)
	c := m.counts()
	require.Equal(t, .001, c.quantile(.5, 2), "at least a microsecond")
	require.Greater(t, c.quantile(1, 2), 60_000.0, "at most what the last bucket stands for")
}

func TestQuantilesAreOfTheInterval(t *testing.T) {
	var m Meter
	m.Observe(time.Second)
	before := m.counts()
	for range 98 {
		m.Observe(time.Millisecond)
	}
	m.Observe(100 * time.Millisecond)
	m.Observe(100 * time.Millisecond)
	more, total := m.counts().since(&before)
	require.EqualValues(t, 100, total)
	require.InEpsilon(t, 1, more.quantile(.5, total), .125)
	require.InEpsilon(t, 1, more.quantile(.98, total), .125)
	require.InEpsilon(t, 100, more.quantile(.99, total), .125)
}

func TestSamplesAreBounded(t *testing.T) {
	var s sampler
	for i := range maxSamples + 5 {
		s.add(Sample{At: int64(i)})
	}
	all := s.after(0)
	require.Len(t, all, maxSamples)
	require.EqualValues(t, 5, all[0].At, "the oldest are forgotten")
	require.Len(t, s.after(maxSamples+2), 2, "those after a time")
	require.Empty(t, s.after(maxSamples+4))
}
