// Lockstep is a self-hosted replacement for Twilio Sync: one program that is a
// node of a cluster, and the command line to it.
//
// This package is flags and wiring. What a node does is package server; three
// nodes on one machine are package internal/dev.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/settings"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

func main() {
	keepFilesPrivate()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	asked, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(os.Stderr, "lockstep:", oneLine(err))
	if next := nextStep(err, asked); next != "" {
		fmt.Fprintln(os.Stderr, "lockstep: next:", next)
	}
	return exitCode(err)
}

// failure is an error of a command that was called as it should be. All other
// errors are about the call.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// usage is an error about the call that only the command itself could find.
type usage struct{ error }

func (u usage) Unwrap() error { return u.error }

// does makes a command's function of one that fails only for reasons other than
// usage, unless it says so.
func does(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd, args)
		if _, misused := errors.AsType[usage](err); misused || err == nil {
			return err
		}
		return failure{err}
	}
}

// oneLine returns joined errors, and what cobra suggests, which stand on lines of their
// own, as one.
func oneLine(err error) string {
	text, likely, suggested := strings.Cut(strings.TrimSpace(err.Error()), "\n\nDid you mean this?\n\t")
	text = strings.ReplaceAll(text, "\n", "; ")
	if suggested {
		text += didYouMean(strings.Split(likely, "\n\t"))
	}
	return text
}

// didYouMean ends an error about a name that is not there.
func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(names, " or ") + "?"
}

// unknownFlag adds to an error about a flag the one that is most likely meant.
func unknownFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || len(unknown.GetSpecifiedName()) < 2 {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	likely := settings.Nearest(unknown.GetSpecifiedName(), names)
	if likely == "" {
		return err
	}
	return fmt.Errorf("%w%s", err, didYouMean([]string{"--" + likely}))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "lockstep",
		Short: "A self-hosted, replicated replacement for Twilio Sync",
		Long: `Lockstep is a self-hosted replacement for Twilio Sync: documents, lists, maps and
streams, kept by three or more nodes, with the REST API and the realtime protocol
that Twilio's own client libraries speak.

Every flag can be set by the environment variable that its description names; the
flag on the command line comes first.`,
		Example: `  lockstep dev                                    # three nodes on this machine
  lockstep map set scores alice '{"points": 3}'   # in another terminal
  lockstep watch map/scores`,
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: prepare,
	}
	root.SetFlagErrorFunc(unknownFlag)
	root.SetVersionTemplate("lockstep {{.Version}}\n")
	inGroup(root, "Nodes and clusters", newDev(), newInit(), newServe(), newJoin(), newLeave(), newStatus(), newHealth(), newVerify(), newSnapshot(), newBackup(), newRestore(), newExport(), newImport(), newMirror(), newRecover(), newConfig(), newBench(), newProfile())
	inGroup(root, "Services and objects", newService(), newObjects(documents), newObjects(lists), newObjects(maps), newObjects(streams), newPermissions(), newWatch())
	inGroup(root, "Credentials", newKeys(), newToken(), newContext())
	root.AddCommand(newExplain(), newMan(), newVersion(), newExitCodes(), newClusters())
	return root
}

// prepare comes before every command but those that load their settings themselves:
// their flags may come from the environment, and SIGHUP ends them.
func prepare(cmd *cobra.Command, _ []string) error {
	if cmd.Annotations["settings"] != "" {
		return nil
	}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup wants it
		ctx, _ := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
		cmd.SetContext(ctx)
	}
	return fromEnvironment(cmd.Flags())
}

// inGroup adds commands that stand together in the help.
func inGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	g := &cobra.Group{ID: title, Title: title + ":"}
	root.AddGroup(g)
	for _, c := range commands {
		c.GroupID = g.ID
		root.AddCommand(c)
	}
}

// newClusters is a topic of the help.
func newClusters() *cobra.Command {
	return &cobra.Command{Use: "clusters", Short: "Which cluster a command is about, and with which credentials", Long: targetHelp}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  lockstep version",
		Args:    cobra.NoArgs,
		Run:     func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "lockstep", version) },
	}
}

// group makes a command that only holds others: by itself it is a wrong call.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				cmd.SuggestionsMinimumDistance = 2
				return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), didYouMean(cmd.SuggestionsFor(args[0])))
			}
			return fmt.Errorf("%s needs one of its commands; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		},
	}
	c.AddCommand(commands...)
	return c
}
