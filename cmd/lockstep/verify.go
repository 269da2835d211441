package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newVerify() *cobra.Command {
	var t target
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare the states of all nodes",
		Long: `Compare the states of all nodes.

Every node reads its whole state and says its digest at one log index. The command
fails (1) if they are not equal or a node does not answer. A node that differs from
the majority serves nothing from then on.`,
		Example: `  lockstep verify --data-dir data/dev
  lockstep verify --json --url http://10.0.0.1:8080`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			v, err := client.Verify(cmd.Context())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, v)
			} else {
				table := newTable(out, "ID", fmt.Sprintf("DIGEST AT %d", v.Index), "STATE")
				for _, n := range v.Nodes {
					table.add(n.ID, cmp.Or(n.Digest, "-"), cmp.Or(n.Problem, "equal"))
				}
				err = table.print()
			}
			if err == nil && !v.Equal {
				err = errors.New("the nodes' states are not equal, or not all could be compared")
			}
			return err
		}),
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: index, equal, nodes[] with id, digest, problem")
	return cmd
}
