// Cells prints what a deployment of many clusters would take, by simulation.
//
//	go run ./cmd/cells [--subscribers 1000000] [--services 10000] …
package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/bench/internal/cells"
)

func main() {
	var (
		load  cells.Load
		shape cells.Shape
		costs cells.Costs
		seed  uint64
		micro = struct{ delivery, write, routed, kib, gib float64 }{}
	)
	cmd := &cobra.Command{Use: "cells", Short: "Simulate services in many clusters", Args: cobra.NoArgs, SilenceUsage: true}
	f := cmd.Flags()
	f.IntVar(&load.Subscribers, "subscribers", 1_000_000, "connected clients, each subscribed to something")
	f.IntVar(&load.Services, "services", 10_000, "services they are divided into")
	f.Float64Var(&load.Deliveries, "deliveries", 1, "events that a subscriber hears a second")
	f.Float64Var(&load.Writes, "writes", 0.05, "writes that a subscriber makes a second")
	f.Float64Var(&load.Burst, "burst", 0.5, "how uneven a service is from minute to minute: the standard deviation of its logarithm")
	f.IntVar(&shape.Voters, "voters", 3, "of a cell")
	f.Float64Var(&shape.Cores, "cores", 8, "of a node")
	f.Float64Var(&micro.gib, "memory", 16, "of a node for subscribers, in GiB")
	f.Float64Var(&shape.Full, "full", 0.5, "share of a cell that is used on average before another one is added")
	f.Float64Var(&micro.delivery, "delivery", 10, "CPU µs of an acknowledged delivery")
	f.Float64Var(&micro.write, "write", 105, "CPU µs of a write on all voters")
	f.Float64Var(&micro.routed, "routed", 8, "CPU µs that a router adds to a delivery")
	f.Float64Var(&micro.kib, "idle", 25, "KiB of a subscriber")
	f.Float64Var(&costs.Group, "group", 10_000, "durable writes a second that one cell's log takes")
	f.Uint64Var(&seed, "seed", 1, "what decides sizes and bursts")
	cmd.RunE = func(*cobra.Command, []string) error {
		costs.Delivery, costs.Write, costs.Routed, costs.Subscriber = micro.delivery/1e6, micro.write/1e6, micro.routed/1e6, micro.kib*1024
		shape.Memory = micro.gib * (1 << 30)
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "skew\tnonvoters a cell\tcells\tnodes\tlargest service\tbusiest cell\tp99 of minutes\toverloaded\tmoved\trouter cores\t")
		for _, load.Skew = range []float64{0.5, 1} {
			for _, shape.Nonvoters = range []int{0, 2} {
				r := cells.Run(seed, load, shape, costs)
				fmt.Fprintf(out, "%.1f\t%d\t%d\t%d\t%.0f%%\t%.0f%%\t%.0f%%\t%.2f%%\t%.0f%%\t%.1f\t\n", load.Skew, shape.Nonvoters,
					r.Cells, r.Nodes, 100*r.Largest, 100*r.Busiest, 100*r.Peak, 100*r.Overloaded, 100*r.Moved, r.RouterCores)
			}
		}
		return out.Flush()
	}
	if cmd.Execute() != nil {
		os.Exit(1)
	}
}
