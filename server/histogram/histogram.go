// Package histogram has the one form of the node's histograms: native ones, for a
// Prometheus that takes them, which are exact to a tenth at any size, and with a few
// fixed buckets for all others.
package histogram

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The bounds of the fixed buckets. The limits on native buckets keep a series small:
// when there are too many the resolution is lowered, and once an hour it begins anew.
var (
	seconds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	counts  = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
	sizes   = []float64{1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22}
)

func opts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

// Seconds returns the options of a histogram of durations, from a tenth of a
// millisecond to ten seconds.
func Seconds(name, help string) prometheus.HistogramOpts { return opts(name, help, seconds) }

// Counts returns those of a histogram of numbers from 1 on.
func Counts(name, help string) prometheus.HistogramOpts { return opts(name, help, counts) }

// Bytes returns those of a histogram of sizes, from 256 bytes to 4 MiB.
func Bytes(name, help string) prometheus.HistogramOpts { return opts(name, help, sizes) }
