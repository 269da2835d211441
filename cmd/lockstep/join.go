package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/enrol"
	"lockstep/server/origin"
	"lockstep/server/retry"
)

func newJoin() *cobra.Command {
	var dataDir, nodeURL, ca string
	var wait time.Duration
	var replace, insecure bool
	cmd := &cobra.Command{
		Use:   "join MEMBER_URL",
		Short: "Make a waiting node join a cluster",
		Long: `Make a node that was started without --bootstrap and --join, and waits, join the
cluster of MEMBER_URL. The cluster's account (LOCKSTEP_ACCOUNT_SID and
LOCKSTEP_AUTH_TOKEN) authorises it. Say which node by its data directory, or by its
URL if it was started with the same account in its environment.

MEMBER_URL, and --url, are those for operators, where a node has an --admin-addr.
Over plain http:// a node joins through this machine only, unless --insecure-join says
that the network may be trusted: the credentials and the cluster's key cross it.

Prints each stage, on a terminal with how far the node has caught up, and returns when
it votes, or, with --nonvoter, serves.`,
		Example: "  lockstep join https://sync1.example.com --data-dir /var/lib/lockstep",
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			account := accountFromEnvironment()
			if account == (auth.Account{}) {
				return usage{errors.New("joining needs LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN in the environment")}
			}
			trusted, err := trusting(ca)
			if err != nil {
				return err
			}
			node := &admin.Client{URLs: []string{origin.Complete(nodeURL)}, AccountSID: account.SID, AuthToken: account.AuthToken, HTTP: trusted}
			switch {
			case (dataDir == "") == (nodeURL == ""):
				return usage{errors.New("say which node joins: --data-dir DIR or --url NODE_URL")}
			case dataDir != "":
				a, err := byDirectory(dataDir)
				if err != nil {
					return err
				}
				node = a.operator()
			}
			if err := errors.Join(enrol.CheckPrivacy(origin.Complete(args[0]), insecure), enrol.CheckPrivacy(origin.Complete(nodeURL), insecure)); err != nil {
				return usage{err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			member := &admin.Client{URLs: []string{origin.Complete(args[0])}, AccountSID: account.SID, AuthToken: account.AuthToken, HTTP: trusted}
			return join(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), node, member, admin.Join{Replace: replace, Insecure: insecure})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&dataDir, "data-dir", "", "data directory of the node that joins, on this machine")
	f.StringVar(&nodeURL, "url", "", "URL of the node that joins")
	caFlag(f, &ca)
	f.BoolVar(&insecure, "insecure-join", false, "join over plain http:// beyond this machine")
	f.BoolVar(&replace, "replace", false, "take the place of a member with the node's id")
	f.DurationVar(&wait, "timeout", 5*time.Minute, "how long to wait for the node's vote")
	return cmd
}

// join tells the node and follows its way by what the member says of it.
func join(ctx context.Context, out, progress io.Writer, node, member *admin.Client, how admin.Join) error {
	var before admin.Status
	if how.Replace {
		var err error
		if before, err = member.Status(ctx); err != nil {
			return err
		}
	}
	how.Member, how.AccountSID, how.AuthToken = member.URLs[0], member.AccountSID, member.AuthToken
	id, err := node.Join(ctx, how)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s has enrolled through %s\n", id, member.URLs[0])
	old := before.Servers(id)
	told, shown := "", newCatchUp(progress)
	err = retry.Until(ctx, func() error {
		s, err := member.Status(ctx)
		if err != nil {
			return err
		}
		stage := stageOf(s, id, old)
		if stage != "" && stage != told {
			told = stage
			if err := shown.Clear(); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s %s\n", id, stage)
		}
		if stage == votes || stage == serves {
			return nil
		}
		if done, all := caughtUp(s, id, old); all > 0 {
			shown.ChangeMax64(all)
			if err := shown.Set64(done); err != nil {
				return err
			}
		}
		return errors.New("it " + cmp.Or(stage, "was not added"))
	})
	if ended := shown.Finish(); err == nil {
		return ended
	}
	return fmt.Errorf("%s does not vote yet: %w", id, err)
}

// caughtUp says up to which log index a node has come, and up to which the leader has; 0
// where there is nothing to be told of either.
func caughtUp(s admin.Status, id string, old []string) (done, all int64) {
	for _, n := range s.Nodes {
		switch {
		case n.Role == admin.RoleLeader:
			all = int64(n.AppliedIndex)
		case n.ID == id && !slices.Contains(old, n.Server):
			done = int64(n.AppliedIndex)
		}
	}
	return min(done, all), all
}

// The last stage of a node that joins, with a vote or, by its own wish, without.
const (
	votes  = "votes"
	serves = "serves, and has no vote, as it wants"
)

// stageOf says how far a node is on its way in: "" before it was added, votes or
// serves when it does, and no earlier incarnation of it is a member any more.
func stageOf(s admin.Status, id string, old []string) string {
	stage, replaced := "", true
	for _, n := range s.Nodes {
		switch {
		case n.ID != id:
		case slices.Contains(old, n.Server):
			replaced = false
		case n.Votes():
			stage = votes
		case n.Nonvoter && n.Problem == "":
			stage = serves
		default:
			stage = "is " + n.Role + ", catching up"
		}
	}
	if (stage == votes || stage == serves) && !replaced {
		return stage + ", and takes the place of its earlier self"
	}
	return stage
}
