package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"lockstep/server/admin"
)

func newStatus() *cobra.Command {
	var t target
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes of a cluster",
		Long:  "Show the nodes of a cluster.\n\n" + targetHelp,
		Example: `  lockstep status
  lockstep status --data-dir data/dev
  lockstep status --json --url http://10.0.0.1:8080`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			s, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			table := newTable(cmd.OutOrStdout(), "ID", "HTTP", "RAFT", "ROLE", "APPLIED", "DIGEST", "VERSION")
			for _, n := range s.Nodes {
				role := table.paint(n.Role, roleColour(n.Role))
				table.add(n.ID, n.HTTP, n.Raft, role, strconv.FormatUint(n.AppliedIndex, 10), digestColumn(n), n.Version)
			}
			if err := table.print(); err != nil {
				return err
			}
			for _, n := range s.Nodes {
				if n.Problem != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "%s does not serve: %s\n", n.ID, n.Problem)
				}
			}
			return nil
		}),
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: nodes[] with id, http, raft, role, applied_index, digest_index, digest, version, problem")
	return cmd
}

// digestColumn shows the digest of a node's state with the index that it is of.
func digestColumn(n admin.NodeStatus) string {
	if n.Digest == "" {
		return "-"
	}
	return fmt.Sprintf("%d:%s", n.DigestIndex, n.Digest)
}
