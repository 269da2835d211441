package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"lockstep/server/auth"
	"lockstep/server/enrol"
)

func newInit() *cobra.Command {
	var dataDir, nodeID, file string
	cmd := &cobra.Command{
		Use:   "init --data-dir DIR",
		Short: "Make a new cluster, once",
		Long: `Make a new cluster in an empty data directory. It begins with the node that
"lockstep serve" runs there from then on; the other nodes join that one.

It is a command of its own, to be given once, so that nothing that is started again
and again can make a second cluster: a node whose disk was lost, and that is told to
serve, waits to be told which cluster to join.

The account is taken from LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN. They may be
left out: an account is made up then, and told as --account-file says.`,
		Example: "  lockstep init --data-dir /var/lib/lockstep && lockstep serve --data-dir /var/lib/lockstep",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if dataDir == "" {
				return usage{errors.New("say where: --data-dir DIR")}
			}
			given := accountFromEnvironment()
			account, id, err := enrol.Init(dataDir, nodeID, given)
			if err != nil {
				return err
			}
			if given == (auth.Account{}) {
				if err := tellAccount(cmd.OutOrStdout(), dataDir, file, account); err != nil {
					return err
				}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "made cluster %s; start its first node with lockstep serve --data-dir %s\n", id, dataDir)
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&dataDir, "data-dir", "", "directory of the node's data, empty or not there yet")
	f.StringVar(&nodeID, "node-id", "", "name of the node, unique and for good (default: made up and kept)")
	f.StringVar(&file, "account-file", "", accountFileHelp)
	bindAll(f)
	return cmd
}
