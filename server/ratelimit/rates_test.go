package ratelimit_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/ratelimit"
)

func TestParse(t *testing.T) {
	with := func(change func(*ratelimit.Rates)) ratelimit.Rates {
		r := ratelimit.Default()
		change(&r)
		return r
	}
	for text, want := range map[string]ratelimit.Rates{
		"default":   ratelimit.Default(),
		" default ": ratelimit.Default(),
		"off":       ratelimit.Off(),
		"writes=20,reads=20,messages=30,permissions=80,creations=20,queries=20,requests=500,burst=10s": ratelimit.Default(),
		"writes=1,reads=2,messages=3,permissions=4,creations=5,queries=6.5,requests=7,burst=1m30s": {
			Writes: 1, Reads: 2, Messages: 3, Permissions: 4, Creations: 5, Queries: 6.5, Requests: 7, Burst: 90 * time.Second,
		},
		"writes=0":            with(func(r *ratelimit.Rates) { r.Writes = 0 }),
		"reads=0.5, burst=1s": with(func(r *ratelimit.Rates) { r.Reads, r.Burst = 0.5, time.Second }),
	} {
		got, err := ratelimit.Parse(text)
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
		"burst=10":           "missing unit",
		"burst=0s":           "above 0",
		"burst=-1s":          "above 0",
		"burst=2h":           "at most",
		"default,writes=100": "is none of",
	} {
		_, err := ratelimit.Parse(text)
		require.ErrorContains(t, err, reason, text)
		require.ErrorContains(t, err, "rate limits: ", text)
	}
}

func TestValidate(t *testing.T) {
	require.NoError(t, ratelimit.Default().Validate())
	require.NoError(t, ratelimit.Off().Validate())
	require.Error(t, ratelimit.Rates{Creations: math.NaN()}.Validate())
	require.Error(t, ratelimit.Rates{Messages: math.Inf(1)}.Validate())
	require.Error(t, ratelimit.Rates{Burst: -1}.Validate())
}

func TestNewHasTheDefaultBurst(t *testing.T) {
	require.Equal(t, 10*time.Second, ratelimit.New(ratelimit.Off()).Rates().Burst)
	require.Equal(t, ratelimit.Default(), ratelimit.New(ratelimit.Default()).Rates())
}
