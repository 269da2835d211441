package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"lockstep/server/enrol"
)

func newRestore() *cobra.Command {
	r := enrol.Restoration{Logger: newLogger(slog.LevelWarn, logText)}
	var yes bool
	var account string
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIR",
		Short: "Begin a new cluster with the state of a backup",
		Long: `Make a new cluster whose first node begins with the state of a backup, in an empty
data directory. The node is started with "lockstep serve" then, and the others join it
with empty data directories, as they join any cluster.

Without --yes it only looks: it reads the whole backup, prints what is in it, and says
what stands in the way. It needs as much memory as a node.

What was written after the backup is lost. The account's auth token, API keys and
permissions are as they were: keys that were revoked since are valid again, those that
were created since are gone. No revision, index or event id that the old cluster may have
given since is given again, and each client is told to open anew what it holds
(54008). Webhooks that
waited when the backup was made are sent, and what has expired since is removed.

The old cluster is not looked for: stop it first, or have clients stay away from it. Its
members can neither join the new one nor vote in it.

Exit codes: 0 done; 1 refused or failed; 2 the command was called in a wrong way; 3 the
file is damaged, no backup, or written by a newer release.`,
		Example: `  lockstep restore sync.backup --data-dir /var/lib/lockstep
  lockstep restore sync.backup --data-dir /var/lib/lockstep --yes`,
		Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if r.DataDir == "" {
				return usage{errors.New("say where: --data-dir DIR")}
			}
			file, out := args[0], cmd.OutOrStdout()
			b, err := loadBackup(file, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := printSummary(out, file, b.Summary, contentsOf(b), false); err != nil {
				return err
			}
			if err := r.Check(b.Summary); err != nil {
				return err
			}
			if !yes {
				replacing := ""
				if r.Replace {
					replacing = " --replace"
				}
				fmt.Fprintf(out, "\nNothing was changed. To go on: lockstep restore %s --data-dir %s%s --yes\n", file, r.DataDir, replacing)
				return nil
			}
			id, credentials, err := r.Do(b)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "\nRestored: %s holds the first node of the new cluster %s.\n"+
				"Start it with lockstep serve, then the others with --join and empty data directories.\n", r.DataDir, id)
			if account != "" {
				return tellAccount(out, r.DataDir, account, credentials)
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&r.DataDir, "data-dir", "", "directory of the first node's data, empty or not there yet")
	f.StringVar(&r.NodeID, "node-id", "", "name of the node, unique and for good (default: made up and kept)")
	f.BoolVar(&r.Replace, "replace", false, "put a state that the directory has aside, as raft.aside; the node keeps its name and addresses")
	f.StringVar(&account, "account-file", "", "file for the account's credentials, which are those of the backup; - prints them (default: they are in the directory's node.json only)")
	bindAll(f)
	f.BoolVar(&yes, "yes", false, "do it")
	return cmd
}
