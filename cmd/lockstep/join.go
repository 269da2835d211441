package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"lockstep/server"
	"lockstep/server/admin"
)

func newJoin() *cobra.Command {
	var dataDir, nodeURL string
	var wait time.Duration
	var replace bool
	cmd := &cobra.Command{
		Use:   "join MEMBER_URL",
		Short: "Make a waiting node join a cluster",
		Long: `Make a node that was started without --bootstrap and --join, and waits, join the
cluster of MEMBER_URL. The cluster's account (LOCKSTEP_ACCOUNT_SID and
LOCKSTEP_AUTH_TOKEN) authorises it. Say which node by its data directory, or by its
URL if it was started with the same account in its environment.

Prints each stage and returns when the node votes.`,
		Example: "  lockstep join http://10.0.0.1:8080 --data-dir /var/lib/lockstep",
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			account := accountFromEnvironment()
			if account == (server.Account{}) {
				return usage{errors.New("joining needs LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN in the environment")}
			}
			node := &admin.Client{URLs: []string{server.Origin(nodeURL)}, AccountSID: account.SID, AuthToken: account.AuthToken}
			switch {
			case (dataDir == "") == (nodeURL == ""):
				return usage{errors.New("say which node joins: --data-dir DIR or --url NODE_URL")}
			case dataDir != "":
				var err error
				if node, err = clientOf(dataDir); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			member := &admin.Client{URLs: []string{server.Origin(args[0])}, AccountSID: account.SID, AuthToken: account.AuthToken}
			return join(ctx, cmd.OutOrStdout(), node, member, replace)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&dataDir, "data-dir", "", "data directory of the node that joins, on this machine")
	f.StringVar(&nodeURL, "url", "", "URL of the node that joins")
	f.BoolVar(&replace, "replace", false, "take the place of a member with the node's id")
	f.DurationVar(&wait, "timeout", 5*time.Minute, "how long to wait for the node's vote")
	return cmd
}

// join tells the node and follows its way by what the member says of it.
func join(ctx context.Context, out io.Writer, node, member *admin.Client, replace bool) error {
	id, err := node.Join(ctx, admin.Join{Member: member.URLs[0], AccountSID: member.AccountSID, AuthToken: member.AuthToken, Replace: replace})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s has enrolled through %s\n", id, member.URLs[0])
	for stage := ""; ; {
		s, err := member.Status(ctx)
		if n, found := s.Find(id); err == nil && found {
			switch {
			case n.Votes():
				fmt.Fprintf(out, "%s votes\n", id)
				return nil
			case n.Role != stage:
				stage = n.Role
				fmt.Fprintf(out, "%s is %s, catching up\n", id, stage)
			}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s does not vote yet: %w", id, ctx.Err())
		}
	}
}
