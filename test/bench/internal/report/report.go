// Package report holds what was measured: samples in a JSON file, and the tables
// that sum them up.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

// Report is one run, or several of the same machine put together.
type Report struct {
	Started string   `json:"started"`
	CPUs    int      `json:"cpus"`
	System  string   `json:"system"`
	Go      string   `json:"go"`
	Seconds float64  `json:"seconds"` // that each sample was measured for
	Samples []Sample `json:"samples"`
}

// Sample is one row measured once.
type Sample struct {
	Scenario string  `json:"scenario"`
	Peer     string  `json:"peer"`
	Row      string  `json:"row"`
	N        int     `json:"n"` // clients, subscribers, objects: what the scenario says
	Repeat   int     `json:"repeat"`
	Metrics  Metrics `json:"metrics,omitempty"`
	Error    string  `json:"error,omitempty"`
}

// Metrics are figures by name.
type Metrics map[string]float64

// The names of metrics that scenarios share.
const (
	PerSecond = "per_s"
	P50       = "p50_ms"
	P99       = "p99_ms"
	CPU       = "cpu_us"  // of all servers, for each operation
	Errors    = "errors"  // operations that failed, deliveries that did not come
	RSS       = "rss_mib" // of a server
	Each      = "rss_kib" // of a server, for each connection
	Millis    = "ms"
	Worst     = "worst_ms"
)

// New returns a report of a run that begins now.
func New(measure time.Duration) *Report {
	return &Report{
		Started: time.Now().UTC().Format(time.RFC3339), CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		Seconds: measure.Seconds(),
	}
}

// Load reads reports, and puts their samples together.
func Load(paths ...string) (*Report, error) {
	var all *Report
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read report: %w", err)
		}
		var r Report
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("read report %s: %w", path, err)
		}
		if all == nil {
			all = &r
			continue
		}
		all.Samples = append(all.Samples, r.Samples...)
	}
	return all, nil
}

// Save writes the report.
func (r *Report) Save(path string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// Spread is what repeats of one figure gave.
type Spread struct {
	Median, Min, Max float64
	Count            int // of repeats
}

// Sum sums up figures.
func Sum(figures []float64) Spread {
	if len(figures) == 0 {
		return Spread{}
	}
	s := slices.Sorted(slices.Values(figures))
	n := len(s)
	return Spread{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1], Count: n}
}

// Spread sums up a metric of a row at n; its count is zero if it was not measured.
func (r *Report) Spread(scenario, row string, n int, metric string) Spread {
	var figures []float64
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Row == row && s.N == n && s.Error == "" {
			if figure, ok := s.Metrics[metric]; ok {
				figures = append(figures, figure)
			}
		}
	}
	return Sum(figures)
}

// Line is a row at one n.
type Line struct {
	Row string
	N   int
}

// Lines returns what was measured of a scenario, by n and then in the order of
// measuring.
func (r *Report) Lines(scenario string) []Line {
	var lines []Line
	for _, s := range r.Samples {
		if l := (Line{s.Row, s.N}); s.Scenario == scenario && !slices.Contains(lines, l) {
			lines = append(lines, l)
		}
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return a.N - b.N })
	return lines
}

// Failure returns why a line has no figures, or "".
func (r *Report) Failure(scenario string, l Line) (why string) {
	for _, s := range r.Samples {
		if s.Scenario != scenario || s.Row != l.Row || s.N != l.N {
			continue
		}
		if s.Error == "" {
			return ""
		}
		why = s.Error
	}
	return why
}
