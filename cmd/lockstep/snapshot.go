package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newSnapshot() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:     "snapshot",
		Short:   "Make a node write a snapshot and shorten its log",
		Example: "  lockstep snapshot --data-dir /var/lib/lockstep",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			if err := client.Snapshot(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "snapshot written")
			return nil
		}),
	}
	t.flags(cmd)
	return cmd
}
