package panics_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/server/panics"
)

func TestCatchLogsTheStackAndCounts(t *testing.T) {
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	c := panics.New(slog.New(slog.NewTextHandler(&log, nil)), registry)
	var told error
	func() {
		defer c.Catch("test", func(err error) { told = err })
		panic("boom")
	}()
	require.ErrorContains(t, told, "boom")
	require.Contains(t, log.String(), "boom")
	require.Contains(t, log.String(), "TestCatchLogsTheStackAndCounts")
	families, err := registry.Gather()
	require.NoError(t, err)
	counted := map[string]float64{}
	for _, m := range families[0].Metric {
		counted[m.Label[0].GetValue()] = m.Counter.GetValue()
	}
	require.Equal(t, 1.0, counted["test"])
	require.Zero(t, counted["session"])
}

func TestNothingIsCaughtWhereNothingPanics(t *testing.T) {
	c := panics.New(slog.New(slog.DiscardHandler), nil)
	func() { defer c.Catch("test", func(error) { t.Error("nothing happened") }) }()
}

func TestNilCatcherCatches(t *testing.T) {
	var c *panics.Catcher
	defer c.Catch("test", nil)
	panic("boom")
}
