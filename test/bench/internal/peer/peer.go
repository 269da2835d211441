// Package peer is what a system that is measured looks like to those who measure
// it, and what their adaptors share.
package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lockstep/cmd/lockstep/bench/internal/proc"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

// Peer is a system under measurement.
type Peer interface {
	Name() string

	// Rows returns how the peer is measured in a scenario; none: not at all.
	Rows(scenario string) []Row

	// Start brings up what the rows of a scenario share, if there is something, and
	// Stop ends it, whatever Start came to.
	Start(ctx context.Context, scenario, dir string) error
	Stop() error
}

// Row is a line of a table: a peer measured in one way, with each of some numbers of
// clients, or whatever the scenario counts.
type Row struct {
	Name string
	N    []int
	Run  func(ctx context.Context, n int, o Options) (report.Metrics, error)
}

// Options are those of one measurement.
type Options struct {
	Dir           string // for those that start servers of their own
	Warm, Measure time.Duration
	Kills         int // of failover
}

// Objects is how many keys or documents are written and read.
const Objects = 4096

// Shared reports whether the rows of a scenario are measured on servers that Start
// brought up.
func Shared(scenario string) bool {
	switch scenario {
	case "writes", "reads", "growth-objects", "growth-items":
		return true
	}
	return false
}

// usage measures the processor time of servers between two moments.
type usage struct {
	pids  []int
	spent time.Duration
	err   error
}

func (u *usage) began() { u.add(-1) }
func (u *usage) ended() { u.add(1) }

func (u *usage) add(sign time.Duration) {
	cpu, err := proc.CPU(u.pids)
	u.spent += sign * cpu
	u.err = errors.Join(u.err, err)
}

// Loop runs a closed loop, with what it costs the servers.
func Loop(ctx context.Context, l load.Loop, o Options, pids []int) (report.Metrics, error) {
	u := usage{pids: pids}
	l.Warm, l.Measure, l.Began, l.Ended = o.Warm, o.Measure, u.began, u.ended
	r, err := l.Run(ctx)
	if err := errors.Join(err, u.err); err != nil {
		return nil, err
	}
	return u.metrics(r)
}

func (u *usage) metrics(r load.Result) (report.Metrics, error) {
	if r.Operations == 0 {
		return nil, fmt.Errorf("nothing succeeded; %d failed, first: %s", r.Failed, r.FirstError)
	}
	return report.Metrics{
		report.PerSecond: r.PerSecond(), report.P50: millis(r.Latency.P50), report.P99: millis(r.Latency.P99),
		report.CPU: float64(u.spent.Microseconds()) / float64(r.Operations), report.Errors: float64(r.Failed + r.Limited),
	}, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Millis returns milliseconds.
func Millis(d time.Duration) float64 { return millis(d) }

// paced is how many deliveries a second there are at most while delay is measured.
const paced = 20_000

// Deliveries publishes as fast as eight unfinished publications allow.
func Deliveries(ctx context.Context, f load.Fanout, o Options, pids []int) (report.Metrics, error) {
	u := usage{pids: pids}
	f.Warm, f.Measure, f.Window, f.Began, f.Ended = o.Warm, o.Measure, 8, u.began, u.ended
	full, err := f.Run(ctx)
	if err := errors.Join(err, u.err); err != nil {
		return nil, err
	}
	return u.metrics(full)
}

// Fanout does that, and then publishes at a steady rate, which says how late
// publications are heard.
func Fanout(ctx context.Context, f load.Fanout, o Options, pids []int) (report.Metrics, error) {
	m, err := Deliveries(ctx, f, o, pids)
	if err != nil {
		return nil, err
	}
	f.Warm, f.Measure, f.Window, f.Began, f.Ended = 0, o.Measure, 0, nil, nil
	f.Rate = max(1, paced/float64(f.Each))
	steady, err := f.Run(ctx)
	if err != nil {
		return nil, err
	}
	m["paced_p50_ms"], m["paced_p99_ms"] = millis(steady.Latency.P50), millis(steady.Latency.P99)
	m[report.Errors] += float64(steady.Failed)
	return m, nil
}

// settle is how long servers are left alone before their memory is read.
const settle = 3 * time.Second

// Growth measures by how much the memory of servers grows while connect brings so
// many connections to them, in KiB each.
func Growth(ctx context.Context, pids []int, n int, connect func() error) (float64, error) {
	if err := Wait(ctx, settle); err != nil {
		return 0, err
	}
	before, err := proc.RSS(pids)
	if err != nil {
		return 0, err
	}
	if err := connect(); err != nil {
		return 0, err
	}
	if err := Wait(ctx, settle); err != nil {
		return 0, err
	}
	after, err := proc.RSS(pids)
	return float64(after-before) / 1024 / float64(n), err
}

// Memory returns the mean resident memory of servers, in MiB, after they were left
// alone for a while.
func Memory(ctx context.Context, pids []int) (float64, error) {
	if err := Wait(ctx, settle); err != nil {
		return 0, err
	}
	rss, err := proc.RSS(pids)
	return float64(rss) / (1 << 20) / float64(len(pids)), err
}

// Wait waits for d, or until ctx ends.
func Wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
