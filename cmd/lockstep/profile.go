package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lockstep/server/admin"
)

func newProfile() *cobra.Command {
	var t target
	span := 10 * time.Second
	cmd := &cobra.Command{
		Use:   "profile " + strings.Join(admin.Profiles, "|") + " FILE",
		Short: "Have a node profile itself, for go tool pprof",
		Long: `Have a running node profile itself, and write the profile to a file that only you can
read: where its CPU time goes (cpu, which takes --time), what its memory is used for
(heap, allocs), what its goroutines do (goroutine). FILE is - for standard output.

A profile has names of functions and no data. A node makes one at a time; it needs the
account's credentials or a key of the role admin. The node is the first one that
answers of those that --url, the context or --data-dir name.`,
		Example: `  lockstep profile cpu cpu.pprof --time 2s --data-dir /var/lib/lockstep
  lockstep profile heap heap.pprof --url http://10.0.0.1:8080`,
		Args:      cobra.ExactArgs(2),
		ValidArgs: admin.Profiles,
		RunE: does(func(cmd *cobra.Command, args []string) error {
			name, file := args[0], args[1]
			if !slices.Contains(admin.Profiles, name) {
				return usage{fmt.Errorf("there is no profile %q: %s", name, strings.Join(admin.Profiles, ", "))}
			}
			if span <= 0 || span > admin.MaxProfileTime {
				return usage{fmt.Errorf("--time must be above 0 and at most %v", admin.MaxProfileTime)}
			}
			if file == aPipe && isTerminal(cmd.OutOrStdout()) {
				return usage{errors.New("a profile is nothing to look at: send standard output to a file or a pipe")}
			}
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			content, err := client.Profile(cmd.Context(), name, span)
			if err != nil {
				return err
			}
			if file == aPipe {
				_, err = cmd.OutOrStdout().Write(content)
				return err
			}
			if err := os.WriteFile(file, content, 0o600); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d bytes written to %s; look at it with: go tool pprof -top %s\n", len(content), file, file)
			return nil
		}),
	}
	t.flags(cmd)
	cmd.Flags().DurationVar(&span, "time", span, "for how long a CPU profile is made, at most "+admin.MaxProfileTime.String())
	return cmd
}
