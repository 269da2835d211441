package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/bench/internal/centrifuge"
	"lockstep/cmd/lockstep/bench/internal/chart"
	"lockstep/cmd/lockstep/bench/internal/etcd"
	"lockstep/cmd/lockstep/bench/internal/floor"
	"lockstep/cmd/lockstep/bench/internal/lockstep"
	"lockstep/cmd/lockstep/bench/internal/nats"
	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/bench/internal/skeleton"
)

// settings are the flags of a run.
type settings struct {
	peers, scenarios []string
	program          string
	out, dir         string
	n                []int
	only             string
	repeats, kills   int
	warm, measure    time.Duration
	limit            time.Duration
}

func newRun() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Measure, and print the tables",
		Long: `Measure, and print the tables.

Rows are measured one after another, each several times, in another order each time;
a table has their medians with least and most. Servers and load share the machine:
compare rows of one run only, and processor time before operations a second.

Every sample is in report.json in the folder of --out as soon as it is measured,
charts are drawn at the end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	var scenarios []string
	for _, s := range report.Scenarios {
		scenarios = append(scenarios, s.Name)
	}
	f := cmd.Flags()
	f.StringSliceVar(&s.peers, "peers", []string{"etcd", "centrifuge", "lockstep"}, "of etcd, centrifuge, nats, skeleton, floor, lockstep")
	f.StringSliceVar(&s.scenarios, "scenario", []string{"writes", "reads", "fanout", "idle", "watch", "failover"}, "of "+strings.Join(scenarios, ", "))
	f.StringVar(&s.program, "lockstep", "lockstep", "the lockstep program")
	f.StringVar(&s.out, "out", "out", "folder for report.json and charts")
	f.StringVar(&s.dir, "dir", "", "folder for the servers' data, on the disk that is to be measured (default: a temporary one)")
	f.IntSliceVar(&s.n, "n", nil, "numbers of clients, subscribers or objects in the place of each row's own")
	f.StringVar(&s.only, "only", "", "only rows whose name holds this")
	f.IntVar(&s.repeats, "repeats", 0, "how often each row is measured (default: 3, or 1 for what is long or repeats by itself)")
	f.IntVar(&s.kills, "kills", 10, "kills of failover")
	f.DurationVar(&s.warm, "warm", time.Second, "time before each measurement")
	f.DurationVar(&s.measure, "measure", 3*time.Second, "time of each measurement")
	f.DurationVar(&s.limit, "limit", 0, "begin no measurement after so long (default: none is left out)")
	return cmd
}

// newPeers returns all peers there are.
func (s *settings) newPeers() []peer.Peer {
	return []peer.Peer{&etcd.Peer{}, centrifuge.New(), &nats.Peer{}, &skeleton.Peer{}, floor.New(), &lockstep.Peer{Program: s.program}}
}

func (s *settings) run(ctx context.Context) (err error) {
	all := s.newPeers()
	var peers []peer.Peer
	for _, name := range s.peers {
		i := slices.IndexFunc(all, func(p peer.Peer) bool { return p.Name() == name })
		if i < 0 {
			return fmt.Errorf("there is no peer %q", name)
		}
		peers = append(peers, all[i])
	}
	var scenarios []report.Scenario
	for _, name := range s.scenarios {
		scenario, ok := report.Find(name)
		if !ok {
			return fmt.Errorf("there is no scenario %q", name)
		}
		scenarios = append(scenarios, scenario)
	}
	if s.program, err = filepath.Abs(s.program); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(s.dir, "bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	r := &run{settings: s, report: report.New(s.measure), path: filepath.Join(s.out, "report.json"), begun: time.Now()}
	for _, scenario := range scenarios {
		if err := r.scenario(ctx, scenario, peers); err != nil {
			return err
		}
	}
	if _, err := chart.Draw(r.report, s.out); err != nil {
		return err
	}
	return r.report.Tables(os.Stdout)
}

// run is one run.
type run struct {
	*settings
	report *report.Report
	path   string
	begun  time.Time
	dirs   int
}

// cell is a row with one n.
type cell struct {
	peer peer.Peer
	row  peer.Row
	n    int
}

// scenario measures all rows of a scenario.
func (r *run) scenario(ctx context.Context, scenario report.Scenario, peers []peer.Peer) (err error) {
	var cells []cell
	var started []peer.Peer
	defer func() {
		for _, p := range started {
			err = errors.Join(err, p.Stop())
		}
	}()
	for _, p := range peers {
		of := r.cells(scenario.Name, p)
		if len(of) == 0 {
			continue
		}
		cells = append(cells, of...)
		if peer.Shared(scenario.Name) && !r.late() {
			started = append(started, p)
			if err := p.Start(ctx, scenario.Name, r.newDir(p.Name())); err != nil {
				return fmt.Errorf("start %s: %w", p.Name(), err)
			}
		}
	}
	if scenario.Grows {
		slices.SortStableFunc(cells, func(a, b cell) int { return a.n - b.n })
	}
	for repeat := range r.times(scenario) {
		for i := range cells {
			if r.late() {
				fmt.Fprintf(os.Stderr, "%s: the time is over, the rest is left out\n", scenario.Name)
				return nil
			}
			if !scenario.Grows {
				i = (i + repeat*5) % len(cells) // another order each time
			}
			if err := r.one(ctx, scenario, cells[i], repeat); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) late() bool { return r.limit > 0 && time.Since(r.begun) > r.limit }

func (r *run) times(scenario report.Scenario) int {
	switch {
	case r.repeats > 0:
		return r.repeats
	case scenario.Once:
		return 1
	}
	return 3
}

func (r *run) newDir(name string) string {
	r.dirs++
	return filepath.Join(r.dir, fmt.Sprintf("%s-%d", name, r.dirs))
}

func (r *run) cells(scenario string, p peer.Peer) (cells []cell) {
	for _, row := range p.Rows(scenario) {
		if !strings.Contains(row.Name, r.only) {
			continue
		}
		n := row.N
		if len(r.n) > 0 {
			n = r.n
		}
		for _, n := range n {
			cells = append(cells, cell{p, row, n})
		}
	}
	return cells
}

// one measures one row once, and saves the report. What goes wrong with a row
// is in the report; the error is one that ends the run.
func (r *run) one(ctx context.Context, scenario report.Scenario, c cell, repeat int) error {
	dir := r.newDir(c.peer.Name())
	s := report.Sample{Scenario: scenario.Name, Peer: c.peer.Name(), Row: c.row.Name, N: c.n, Repeat: repeat}
	m, err := c.row.Run(ctx, c.n, peer.Options{Dir: dir, Warm: r.warm, Measure: r.settings.measure, Kills: r.kills})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	line := fmt.Sprintf("%4.0fs %-18s %-52s %7d", time.Since(r.begun).Seconds(), scenario.Name, c.row.Name, c.n)
	if err != nil {
		s.Error = err.Error()
		line += "  failed: " + s.Error
	} else {
		s.Metrics = m
		for _, column := range scenario.Columns {
			if figure, ok := m[column.Metric]; ok {
				line += fmt.Sprintf("  %s %s", report.Number(figure), column.Title)
			}
		}
	}
	fmt.Fprintln(os.Stderr, line)
	r.report.Samples = append(r.report.Samples, s)
	return errors.Join(r.report.Save(r.path), os.RemoveAll(dir))
}
