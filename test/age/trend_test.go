package age

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFitTellsGrowthFromNoise(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	allowed := Allowance{Share: 0.1, Least: 16}
	for name, c := range map[string]struct {
		value func(minute float64) float64
		flat  bool
	}{
		"constant":           {func(float64) float64 { return 300 }, true},
		"noise":              {func(float64) float64 { return 300 + 60*random.Float64() }, true},
		"saw":                {func(m float64) float64 { return 200 + 100*(m/7-float64(int(m/7))) }, true},
		"warm-up":            {func(m float64) float64 { return 300 + 5*min(m, 28) }, true},
		"shrinks":            {func(m float64) float64 { return 600 - 5*m }, true},
		"small":              {func(m float64) float64 { return 10 + m/5 }, true},
		"leak":               {func(m float64) float64 { return 300 + 2*m }, false},
		"leak under noise":   {func(m float64) float64 { return 300 + 3*m + 60*random.Float64() }, false},
		"leak under the saw": {func(m float64) float64 { return 200 + 3*m + 50*(m/7-float64(int(m/7))) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var series []Sample
			for minute := 0.0; minute < 60; minute += 0.5 {
				series = append(series, Sample{At: time.Duration(minute * float64(time.Minute)), Value: c.value(minute)})
			}
			trend, err := Fit(series)
			require.NoError(t, err)
			if err := allowed.Flat(trend); c.flat {
				require.NoError(t, err)
			} else {
				require.Error(t, err)
			}
		})
	}
}

func TestFitRefusesTooFewSamples(t *testing.T) {
	_, err := Fit(make([]Sample, 18))
	require.Error(t, err)
}
