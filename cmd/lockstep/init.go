package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"lockstep/server/auth"
	"lockstep/server/enrol"
)

func newInit() *cobra.Command {
	s := newNodeSettings()
	var file string
	cmd := &cobra.Command{
		Use:   "init --data-dir DIR",
		Short: "Make a new cluster, once",
		Long: `Make a new cluster in an empty data directory. It begins with the node that
"lockstep serve" runs there from then on; the other nodes join that one.

It is a command of its own, to be given once, so that nothing that is started again
and again can make a second cluster: a node whose disk was lost, and that is told to
serve, waits to be told which cluster to join.

Settings come from the file of "lockstep serve", too: --config, ` + defaultConfig + `
if there is one. Of what it says, init needs the data directory, the node's name and the
account; a fault in anything else is told as well, before there is a cluster.

The account is that of LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN, or of account-sid
and auth-token in the file. They may be left out: an account is made up then, and told
as --account-file says.`,
		Example: `  lockstep init --data-dir /var/lib/lockstep && lockstep serve --data-dir /var/lib/lockstep
  lockstep init --config /etc/lockstep/lockstep.yaml`,
		Args:        cobra.NoArgs,
		Annotations: loadsItself,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if _, err := s.load(file); err != nil {
				return usage{err}
			}
			if s.DataDir == "" {
				return usage{errors.New("say where: --data-dir DIR, or data-dir in the file of --config")}
			}
			account, id, err := enrol.Init(s.DataDir, s.NodeID, s.Account)
			if err != nil {
				return err
			}
			if s.Account == (auth.Account{}) {
				if err := tellAccount(cmd.OutOrStdout(), s.DataDir, s.accountFile, account); err != nil {
					return err
				}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "made cluster %s; start its first node with lockstep serve --data-dir %s\n", id, s.DataDir)
			return nil
		}),
	}
	f := cmd.Flags()
	for _, name := range []string{"data-dir", "node-id", "account-file"} {
		f.AddFlag(s.flags.Lookup(name))
	}
	configFlag(f, &file)
	return cmd
}
