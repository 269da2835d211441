package limits_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/limits"
)

func limit(rate, identity float64) limits.Limit { return limits.Limit{Rate: rate, Identity: identity} }

func TestParse(t *testing.T) {
	with := func(change func(*limits.Rates)) limits.Rates {
		r := limits.Default()
		change(&r)
		return r
	}
	for text, want := range map[string]limits.Rates{
		"default":    limits.Default(),
		" default ":  limits.Default(),
		"off":        limits.Off(),
		limits.Usage: limits.Default(),
		"writes=1,reads=2,messages=4,creations=4,queries=10,permissions=5,misses=6.5,requests=7,burst=1m30s": {
			Writes: limit(1, 0.75), Reads: limit(2, 1.5), Messages: limit(4, 3), Creations: limit(4, 3), Queries: limit(10, 1),
			Permissions: 5, Misses: 6.5, Requests: 7, Burst: 90 * time.Second,
		},
		"writes=0":            with(func(r *limits.Rates) { r.Writes = limits.Limit{} }),
		"writes=20/20":        with(func(r *limits.Rates) { r.Writes = limit(20, 20) }),
		"writes=20/0":         with(func(r *limits.Rates) { r.Writes = limit(20, 0) }),
		"writes=0/5":          with(func(r *limits.Rates) { r.Writes = limit(0, 5) }),
		"reads=0.5, burst=1s": with(func(r *limits.Rates) { r.Reads, r.Burst = limit(0.5, 0.375), time.Second }),
	} {
		got, err := limits.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, reason := range map[string]string{
		"":                   "is none of",
		"on":                 "is none of",
		"OFF":                "is none of",
		"write=20":           "is none of",
		"writes=1,":          "is none of",
		"writes":             "invalid syntax",
		"writes=":            "invalid syntax",
		"writes=many":        "invalid syntax",
		"writes=1,writes=2":  "twice",
		"writes=-1":          "0 or more",
		"queries=NaN":        "0 or more",
		"reads=inf":          "0 or more",
		"reads=20/25":        "more than",
		"reads=20/":          "invalid syntax",
		"reads=20/-1":        "0 or more",
		"reads=20/15/10":     "invalid syntax",
		"misses=100/50":      "invalid syntax",
		"burst=10":           "missing unit",
		"burst=0s":           "above 0",
		"burst=-1s":          "above 0",
		"burst=2h":           "at most",
		"default,writes=100": "is none of",
	} {
		_, err := limits.Parse(text)
		require.ErrorContains(t, err, reason, text)
		require.ErrorContains(t, err, "rate limits: ", text)
	}
}

func TestValidate(t *testing.T) {
	require.NoError(t, limits.Default().Validate())
	require.NoError(t, limits.Off().Validate())
	require.Error(t, limits.Rates{Creations: limits.Limit{Rate: math.NaN()}}.Validate())
	require.Error(t, limits.Rates{Messages: limits.Limit{Identity: math.Inf(1)}}.Validate())
	require.Error(t, limits.Rates{Burst: -1}.Validate())
}
