package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"lockstep/server/enrol"
)

func newRecover() *cobra.Command {
	var dataDir string
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover --data-dir DIR",
		Short: "Go on from one node's disk when the quorum is lost for good",
		Long: `Make a new cluster of one node that is left, when a majority of the nodes is lost
with their disks and will not come back. Stop the node first. While a majority can be
started again, start it: nothing is lost then.

Without --yes it only looks, and changes nothing. It prints what the node has: run it
on every node that is left, and recover the one whose log ends with the highest term,
and of these the one with the highest entry. What was acknowledged and is not on that
disk is lost.

With --yes the node goes on with all that it has, as the only member of a new cluster:
start it, then the others with --join and an empty data directory (or with --join and
--replace and the old one). A member of the old cluster that comes back is told so, and
stops with exit code 3. Clients are told to open anew what they hold; no revision,
index or event id that the old cluster gave is given again. The account and API keys
stay.

It is refused (exit code 1) while another member answers that sees a leader, and while
the node runs; exit code 3 says that this node has nothing to go on from. It may be
repeated: one that was cut off is finished, by this command or by the node's start.`,
		Example: `  lockstep recover --data-dir /var/lib/lockstep
  lockstep recover --data-dir /var/lib/lockstep --yes`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) (err error) {
			if dataDir == "" {
				return usage{errors.New("say which node: --data-dir DIR")}
			}
			r, err := enrol.OpenRecovery(dataDir, newLogger(slog.LevelWarn, logText))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, r.Close()) }()
			out := cmd.OutOrStdout()
			if r.Cut {
				fmt.Fprintf(out, "A recovery of %s was decided and cut off.\n", r.NodeID)
			} else {
				peers := r.AskPeers(cmd.Context())
				if err := printRemains(out, r, peers); err != nil {
					return err
				}
				for _, p := range peers {
					if p.Leader {
						return fmt.Errorf("the cluster lives: %s %s; this node needs no recovery, start it", p.URL, p.Says)
					}
				}
			}
			if !yes {
				fmt.Fprintf(out, "\nNothing was changed. To go on: lockstep recover --data-dir %s --yes\n", dataDir)
				return nil
			}
			if !r.Cut {
				if err := r.Decide(); err != nil {
					return err
				}
			}
			id, err := r.Finish()
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "\nRecovered: %s is the only member of the new cluster %s.\n"+
				"The state as it was is kept in %s/raft.aside. Start this node, then the others\nwith --join and empty data directories.\n", r.NodeID, id, dataDir)
			return nil
		}),
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "data directory of the node that is left")
	bind(cmd.Flags(), "data-dir", "LOCKSTEP_DATA_DIR")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func printRemains(out io.Writer, r *enrol.Recovery, peers []enrol.Peer) error {
	remains, written := r.Remains, "never"
	if !remains.Time.IsZero() {
		written = remains.Time.UTC().Format(time.RFC3339)
	}
	table := newTable(out)
	table.named("node", r.NodeID)
	table.named("cluster", r.ClusterID)
	table.named("log ends with", fmt.Sprintf("term %d, entry %d", remains.LastTerm, remains.LastIndex))
	table.named("last write", written)
	for _, m := range remains.Members {
		vote, self := "votes", ""
		if !m.Votes {
			vote = "does not vote"
		}
		if m.Self {
			self = ", this node"
		}
		table.named("member", fmt.Sprintf("%s at %s, %s%s", m.ID, m.InternalAddr, vote, self))
	}
	for _, p := range peers {
		table.named("peer", p.URL+" "+p.Says)
	}
	if err := table.print(); err != nil {
		return err
	}
	if r.RecoveredAs != "" {
		fmt.Fprintf(out, "\nAnother node's recovery has made cluster %s of this one already: go on here only if\nthat one is lost, too.\n", r.RecoveredAs)
	}
	fmt.Fprint(out, `
Writes that were acknowledged and are not on this disk are lost for good by a
recovery. Compare with the other nodes that are left, and recover the one with the
highest term, and of these the one with the highest entry.
`)
	return nil
}
