package report

import (
	"fmt"
	"io"
)

// Target is what the product is to reach, against a peer in the same run, or
// by itself.
type Target struct {
	Work     string
	Scenario string
	Row      string
	N        int // zero: whatever was measured, the largest
	Metric   string

	Against    string // what it is compared to, for people
	Base       string // the row; empty: nothing, and Goal is the figure itself
	BaseMetric string // if it is not Metric
	Goal       float64
	Most       bool // the goal is the most that it may be, not the least
}

// Targets writes what of the targets was reached, as Markdown.
func (r *Report) Targets(w io.Writer, targets []Target) error {
	if _, err := io.WriteString(w, "| work | against | measured | base | ratio | goal |\n|---|---|---:|---:|---:|---:|\n"); err != nil {
		return err
	}
	for _, t := range targets {
		if _, err := io.WriteString(w, r.target(t)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) target(t Target) string {
	n := t.N
	if n == 0 {
		for _, l := range r.Lines(t.Scenario) {
			if l.Row == t.Row {
				n = l.N
			}
		}
	}
	measured := r.Spread(t.Scenario, t.Row, n, t.Metric)
	sign := "≥"
	if t.Most {
		sign = "≤"
	}
	base, is := "–", "–"
	figure := measured.Median
	if t.Base != "" {
		metric := t.Metric
		if t.BaseMetric != "" {
			metric = t.BaseMetric
		}
		b := r.Spread(t.Scenario, t.Base, n, metric)
		if b.Count > 0 && b.Median != 0 {
			base, figure = b.String(), measured.Median/b.Median
			if measured.Count > 0 {
				is = fmt.Sprintf("%.2f", figure)
			}
		} else {
			figure, measured.Count = 0, 0
		}
	}
	goal := fmt.Sprintf("%s %g", sign, t.Goal)
	if measured.Count > 0 {
		if (figure <= t.Goal) == t.Most || figure == t.Goal {
			goal += " ✓"
		} else {
			goal += " ✗"
		}
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", t.Work, t.Against, r.Spread(t.Scenario, t.Row, n, t.Metric), base, is, goal)
}
