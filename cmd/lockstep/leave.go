package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lockstep/cluster"
	"lockstep/server/nodedir"
	"lockstep/server/retry"
)

func newLeave() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "leave [NODE_ID]",
		Short: "Take a node out of its cluster and stop it",
		Long: `Take a node out of its cluster and stop it.

Without NODE_ID, the node that --data-dir or --url names leaves: it turns its clients
away, hands leadership over, is removed, and stops. With NODE_ID, any member removes
that node, which may be dead; a live one notices, and stops.

The data directory of a node that left cannot be used again; wipe it to join anew.

Exit code 0 says that the node is out. After 1 it may be in or out, if the leader died
meanwhile: call it again with --data-dir, which is done at once if the node is out.
"not found" says that no member has NODE_ID, perhaps any more.`,
		Example: `  lockstep leave --data-dir data/dev/node4
  lockstep leave node4 --url http://10.0.0.1:8080`,
		Args: cobra.MaximumNArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && t.dataDir != "" && cluster.HasLeft(t.dataDir) {
				if err := untilStopped(cmd.Context(), t.dataDir); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "has left the cluster already")
				return nil
			}
			if len(args) == 0 && t.dataDir == "" && t.context == "" && len(t.urls) == 0 {
				return usage{errors.New("say which node leaves: its NODE_ID, its own --data-dir, or one --url")}
			}
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if err := client.RemoveMember(cmd.Context(), args[0]); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s was removed\n", args[0])
				return nil
			}
			if len(client.URLs) != 1 {
				return usage{errors.New("say which node leaves: its NODE_ID, its own --data-dir, or one --url")}
			}
			if err := client.Leave(cmd.Context()); err != nil {
				return err
			}
			if t.dataDir != "" {
				if err := untilStopped(cmd.Context(), t.dataDir); err != nil {
					return err
				}
			}
			fmt.Fprintln(cmd.OutOrStdout(), "left the cluster and stopped")
			return nil
		}),
	}
	t.flags(cmd)
	return cmd
}

// untilStopped waits for the process that runs the node in a directory.
func untilStopped(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return retry.Until(ctx, func() error {
		if pid, running := nodedir.Running(dir); running {
			return fmt.Errorf("left the cluster, but process %d does not stop", pid)
		}
		return nil
	})
}
