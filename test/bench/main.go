// Bench measures Lockstep and its peers on one machine in one run: it starts their
// servers on the loopback, drives each in turn, and writes tables, a JSON file and
// charts. docs/performance.md says how to read them.
//
//	bench run --lockstep ../../bin/lockstep --scenario writes,reads
//	bench table out/report.json
//	bench chart out/report.json --out DIR
//
// `make bench-peers` builds everything and runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/bench/internal/chart"
	"lockstep/cmd/lockstep/bench/internal/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "bench", Short: "Measure Lockstep beside its peers", SilenceUsage: true}
	root.AddCommand(newRun(), newTable(), newChart())
	if root.ExecuteContext(ctx) != nil {
		os.Exit(1)
	}
}

func newTable() *cobra.Command {
	var against bool
	cmd := &cobra.Command{
		Use:   "table REPORT…",
		Short: "Print the tables of saved runs, as Markdown",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := report.Load(args...)
			if err != nil {
				return err
			}
			if against {
				return r.Targets(cmd.OutOrStdout(), targets)
			}
			return r.Tables(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&against, "targets", false, "print what of the targets was reached")
	return cmd
}

func newChart() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "chart REPORT…",
		Short: "Draw the charts of saved runs, as SVG",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := report.Load(args...)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			files, err := chart.Draw(r, out)
			for _, f := range files {
				fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", ".", "folder for them")
	return cmd
}
