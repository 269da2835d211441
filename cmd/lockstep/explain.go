package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/explain"
)

func newExplain() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "explain [CODE]",
		Short:   "Say what an error code means, and what to do about it",
		Long:    "Say what an error code means, and what to do about it. Without CODE it lists all.",
		Example: "  lockstep explain 54301\n  lockstep explain --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			entries := explain.All()
			if len(args) > 0 {
				code, err := strconv.Atoi(args[0])
				if err != nil {
					return usage{fmt.Errorf("%q is no error code: it is a number, such as 54301", args[0])}
				}
				if entries = explain.Code(code); len(entries) == 0 {
					return errors.New("there is no error " + args[0] + "; lockstep explain lists all")
				}
			}
			out := cmd.OutOrStdout()
			switch {
			case asJSON:
				return printJSON(out, entries)
			case len(args) == 0:
				table := newTable(out, "CODE", "STATUS", "MEANING")
				for _, e := range entries {
					table.add(strconv.Itoa(e.Code), strconv.Itoa(e.Status), e.Message)
				}
				return table.print()
			}
			for i, e := range entries {
				if i > 0 {
					fmt.Fprintln(out)
				}
				fmt.Fprintf(out, "%d, HTTP status %d\n%s.\n\nWhat to do: %s\n", e.Code, e.Status, e.Message, e.Do)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: [] with code, status, message, what_to_do")
	return cmd
}
