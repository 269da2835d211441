package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newHealth() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Tell whether a node serves clients",
		Long: `Tell whether a node serves clients: what /readyz answers, as an exit code for the
health check of a container or a script. It fails (1) with the reason if the node is
starting, waits to join, catches up, or hears of no leader.

` + targetHelp,
		Example: `  lockstep health
  lockstep health --data-dir data/dev`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			if err := client.Ready(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "this node serves clients")
			return nil
		}),
	}
	t.flags(cmd)
	return cmd
}
