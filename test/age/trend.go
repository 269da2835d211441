// Package age runs a cluster for a long time, and finds out whether anything grows
// that must not: with small settings at an even pace (make soak-age), and near
// what it can do (make soak-steady). It is no part of make test.
//
// What a node uses is measured again and again, and a line is fitted to the
// second half of the figures: the first one may still fill windows and caches.
package age

import (
	"fmt"
	"time"
)

// Sample is one figure, at a time since the start.
type Sample struct {
	At    time.Duration
	Value float64
}

// Trend is the line that fits the second half of a series best.
type Trend struct {
	Mean   float64 // of the second half
	Growth float64 // from the beginning of the second half to its end, along the line
}

// fewest is the number of samples of a second half that a line is fitted to.
const fewest = 10

// Fit returns the trend of a series, by least squares.
func Fit(series []Sample) (Trend, error) {
	half := series[len(series)/2:]
	if len(half) < fewest {
		return Trend{}, fmt.Errorf("age: %d samples are too few", len(series))
	}
	n := float64(len(half))
	var at, value float64
	for _, s := range half {
		at += s.At.Seconds() / n
		value += s.Value / n
	}
	var covariance, variance float64
	for _, s := range half {
		covariance += (s.At.Seconds() - at) * (s.Value - value)
		variance += (s.At.Seconds() - at) * (s.At.Seconds() - at)
	}
	span := (half[len(half)-1].At - half[0].At).Seconds()
	return Trend{Mean: value, Growth: covariance / variance * span}, nil
}

// Allowance is how much a figure may grow in the second half and still be flat.
type Allowance struct {
	Share float64 // of its mean
	Least float64 // and at least so much
}

// Most returns by how much a trend may grow.
func (a Allowance) Most(t Trend) float64 { return max(a.Share*t.Mean, a.Least) }

// Flat returns an error if a trend grows by more than is allowed.
func (a Allowance) Flat(t Trend) error {
	if most := a.Most(t); t.Growth > most {
		return fmt.Errorf("age: it grew by %.0f in the second half, where %.0f is allowed; mean %.0f", t.Growth, most, t.Mean)
	}
	return nil
}
