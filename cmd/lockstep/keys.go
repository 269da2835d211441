package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lockstep/server/admin"
	"lockstep/server/retry"
)

func newKeys() *cobra.Command {
	return group("keys", "Create, list and revoke API keys; change the account's token and the cluster's key", newKeysCreate(), newKeysList(), newKeysRevoke(), newKeysRotateAccount(), newKeysRotateCluster())
}

func newKeysCreate() *cobra.Command {
	var t target
	var key admin.NewKey
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create an API key; its secret is shown only now",
		Long: `Create an API key; its secret is shown only now.

Without restrictions a key opens the whole REST API and signs access tokens. With
--sign-only it signs tokens and does not open REST (401): the key for an
application's server. With --read-only it reads by REST (all else is answered 403)
and signs no tokens, since these let clients write. With --service it is good for
that service only, and cannot remove it; its tokens must name it.

A key with a --role is an operator's, and opens no data at all: a viewer's shows the
cluster's status; an admin's also compares states, writes snapshots, takes nodes out,
changes the cluster's key and lists keys. Backups, credentials and what lets nodes join
stay the account's.`,
		Example: `  lockstep keys create --name "the shop's server" --sign-only
  lockstep keys create --name reports --read-only --service default --json
  lockstep keys create --name dashboard --role viewer`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			k, err := client.CreateKey(cmd.Context(), key)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), k)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "LOCKSTEP_API_KEY=%s\nLOCKSTEP_API_SECRET=%s\n", k.SID, k.Secret)
			return nil
		}),
	}
	t.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&key.FriendlyName, "name", "", "a name for people")
	f.BoolVar(&key.SignOnly, "sign-only", false, "it signs access tokens and does not open the REST API")
	f.BoolVar(&key.ReadOnly, "read-only", false, "it reads by REST, and signs no access tokens")
	f.StringVar(&key.Service, "service", "", "SID or unique name of the one service that it is good for")
	f.BoolVar(&asJSON, "json", false, "print JSON: sid, secret, friendly_name, date_created and the restrictions")
	f.StringVar(&key.Role, "role", "data", "what it is for: data, viewer or admin")
	cmd.MarkFlagsMutuallyExclusive("sign-only", "read-only")
	return cmd
}

func newKeysList() *cobra.Command {
	var t target
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the API keys, without their secrets",
		Example: "  lockstep keys list\n  lockstep keys list --json",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			keys, err := client.Keys(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), keys)
			}
			table := newTable(cmd.OutOrStdout(), "SID", "CREATED", "MAY", "NAME")
			for _, k := range keys {
				table.add(k.SID, k.DateCreated, k.May(), k.FriendlyName)
			}
			return table.print()
		}),
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: [] with sid, friendly_name, date_created and the restrictions")
	return cmd
}

func newKeysRevoke() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:     "revoke KEY_SID",
		Aliases: []string{"delete"},
		Example: "  lockstep keys revoke SK00000000000000000000000000000002",
		Short:   "Revoke an API key, and with it the tokens it signed",
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			if err := client.RevokeKey(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s was revoked\n", args[0])
			return nil
		}),
	}
	t.flags(cmd)
	return cmd
}

func newKeysRotateAccount() *cobra.Command {
	var t target
	var promote, drop bool
	cmd := &cobra.Command{
		Use:   "rotate-account",
		Short: "Change the account's auth token, in two steps",
		Long: `Change the account's auth token without a moment in which nobody's is right:

  1. lockstep keys rotate-account            prints a second auth token. Both open
     the REST API and the operator's API from now on. Webhooks are signed with the
     first one still.
  2. Give the second one to all applications, and let the receivers of webhooks
     accept signatures by either.
  3. lockstep keys rotate-account --promote  makes the second one the only one. The
     old one is refused, and webhooks are signed with the new one, from this moment.

--drop takes the second one away in place of step 3. API keys, and the access tokens
that they signed, are not touched. Nodes keep the new token in node.json by themselves.`,
		Example: `  lockstep keys rotate-account
  lockstep keys rotate-account --promote`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			switch {
			case promote:
				if err := client.PromoteAuthToken(cmd.Context()); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the second auth token is the only one now")
			case drop:
				if err := client.DropAuthToken(cmd.Context()); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the second auth token was dropped")
			default:
				token, err := client.AddAuthToken(cmd.Context())
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "LOCKSTEP_AUTH_TOKEN=%s\n", token)
			}
			return nil
		}),
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&promote, "promote", false, "make the second token the only one")
	cmd.Flags().BoolVar(&drop, "drop", false, "take the second token away")
	cmd.MarkFlagsMutuallyExclusive("promote", "drop")
	return cmd
}

func newKeysRotateCluster() *cobra.Command {
	var t target
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "rotate-cluster-key",
		Short: "Change the secret that the nodes share",
		Long: `Change the secret that the nodes share, while they serve. Every member fetches the
new one and accepts both, then uses the new one, then forgets the old one; each step
waits for all members, and the command says for whom. A member that is away holds the
change up until it is back, or removed (lockstep leave ID). Called again, the command
goes on where the change is.

A machine that was removed can do nothing with the secret that it has; after a change it
cannot even connect.`,
		Example: "  lockstep keys rotate-cluster-key",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			if err := client.RotateKey(ctx); err != nil {
				return err
			}
			return followRotation(ctx, cmd.OutOrStdout(), client)
		}),
	}
	t.flags(cmd)
	cmd.Flags().DurationVar(&wait, "timeout", 5*time.Minute, "how long to wait for the members; the change goes on without the command")
	return cmd
}

// followRotation says how far the change of the cluster's key has come, until it
// is done.
func followRotation(ctx context.Context, out io.Writer, client *admin.Client) error {
	told := ""
	return retry.Until(ctx, func() error {
		r, err := client.KeyRotation(ctx)
		if err != nil {
			return fmt.Errorf("the change goes on, and how far it is cannot be told: %w", err)
		}
		if r.Stage == admin.KeyStageNone {
			fmt.Fprintln(out, "the cluster's key was changed; the old one is worth nothing")
			return nil
		}
		waiting := strings.Join(r.Waiting, ", ")
		if line := fmt.Sprintf("the new key %s; waiting for %s", r.Stage, waiting); waiting != "" && line != told {
			told = line
			fmt.Fprintln(out, line)
		}
		return fmt.Errorf("the change goes on, and waits for %s", waiting)
	})
}
