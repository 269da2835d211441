package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newKeys() *cobra.Command {
	return group("keys", "Create, list and revoke API keys", newKeysCreate(), newKeysList(), newKeysRevoke())
}

func newKeysCreate() *cobra.Command {
	var t target
	var name string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create an API key; its secret is shown only now",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			k, err := client.CreateKey(cmd.Context(), name)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "LOCKSTEP_API_KEY=%s\nLOCKSTEP_API_SECRET=%s\n", k.SID, k.Secret)
			return nil
		}),
	}
	t.flags(cmd.Flags())
	cmd.Flags().StringVar(&name, "name", "", "a name for people")
	return cmd
}

func newKeysList() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the API keys, without their secrets",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			keys, err := client.Keys(cmd.Context())
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "SID\tCREATED\tNAME")
			for _, k := range keys {
				fmt.Fprintf(table, "%s\t%s\t%s\n", k.SID, k.DateCreated, k.FriendlyName)
			}
			return table.Flush()
		}),
	}
	t.flags(cmd.Flags())
	return cmd
}

func newKeysRevoke() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "revoke KEY_SID",
		Short: "Revoke an API key, and with it the tokens it signed",
		Args:  cobra.ExactArgs(1),
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
	t.flags(cmd.Flags())
	return cmd
}
