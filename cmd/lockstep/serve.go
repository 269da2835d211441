package main

import (
	"cmp"
	"log/slog"

	"github.com/spf13/cobra"

	"lockstep/server"
	"lockstep/server/auth"
	"lockstep/server/memory"
)

func newServe() *cobra.Command {
	s := newNodeSettings()
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one node",
		Long: `Run one node of a cluster.

A new cluster is made by "lockstep init", once, for its first node; the others are
started with --join and the URL of any member. With nothing, a node on an empty data
directory waits for "lockstep join". A node that belongs to a cluster needs no flag:
what it was told at its first start is kept in node.json in its data directory.

Every flag may stand in a file, too: --config, ` + defaultConfig + ` if there is
one. The environment comes before the file, and the command line before both;
"lockstep config docs" prints all settings. SIGHUP has the node read its file again:
what can change while it runs does, and the log says what takes a restart.

--bootstrap does what init does, and does nothing on a data directory that has a
cluster. So that it makes no second cluster where the directory was lost, it tries the
gossip addresses of --seed first, and listens at --internal-addr for two seconds, unless
its port is 0: when a node answers there, or a member of a cluster looks for this node
here, it refuses and says what to do (exit code 3).

The account of a new cluster, or of the one to join, is taken from
LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN. With --bootstrap they may be left out:
an account is made up then, and told once: on a terminal, or else in the file
account.env in the data directory; --account-file says where.`,
		Example: `  lockstep serve --data-dir /var/lib/lockstep --bootstrap
  lockstep serve --data-dir /var/lib/lockstep --join https://sync1.example.com --http-addr 0.0.0.0 \
    --internal-addr 0.0.0.0:7000 --gossip-addr 0.0.0.0:7001 --advertise 10.0.0.2`,
		Args:        cobra.NoArgs,
		Annotations: loadsItself,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			path, err := s.load(file)
			if err != nil {
				return usage{err}
			}
			level := new(slog.LevelVar)
			level.Set(s.level)
			c := s.config(level)
			c.Welcome = func(a auth.Account) {
				if err := tellAccount(cmd.OutOrStdout(), c.DataDir, s.accountFile, a); err != nil {
					c.Logger.Error("the account's credentials, which are in node.json, were not told", "error", err)
				}
			}
			node, err := server.New(c)
			if err != nil {
				return usage{err}
			}
			memory.LimitRuntime(c.Logger)
			defer memory.GiveBack(c.Logger)()
			ctx, stop := hangups(cmd.Context(), newReloader(s, cmp.Or(path, file), level, node, c.Logger))
			defer stop()
			return node.Run(ctx)
		}),
	}
	cmd.Flags().AddFlagSet(s.flags)
	configFlag(cmd.Flags(), &file)
	return cmd
}
