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

	"lockstep/server"
	"lockstep/server/enrol"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
	exitState   = 3
	exitDisk    = 4
)

func main() {
	keepFilesPrivate()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "lockstep:", oneLine(err))
	if _, lost := errors.AsType[enrol.StateError](err); lost {
		return exitState
	}
	if _, disk := errors.AsType[server.DiskError](err); disk {
		return exitDisk
	}
	if _, failed := errors.AsType[failure](err); failed {
		return exitFailure
	}
	return exitUsage
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

// oneLine returns joined errors, which stand on lines of their own, as one.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "lockstep",
		Short: "A self-hosted, replicated replacement for Twilio Sync",
		Long: `Lockstep is a self-hosted replacement for Twilio Sync: documents, lists, maps and
streams, kept by three or more nodes, with the REST API and the realtime protocol
that Twilio's own client libraries speak.

Every flag can be set by the environment variable that its description names; the
flag on the command line comes first. Exit codes: 0 done, 1 failed, 2 wrong call,
3 this node cannot go on with the data that it has: the line on standard error says
what mends that, and starting it again alone does not; 4 a write to this node's disk
failed, and nothing was written after it: when the disk is well, start the node again.`,
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: prepare,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("lockstep {{.Version}}\n")
	root.AddCommand(
		newDev(), newInit(), newServe(), newJoin(), newLeave(), newRecover(), newBackup(), newRestore(), newStatus(), newVerify(), newSnapshot(),
		newToken(), newKeys(), newConfig(), newVersion(),
	)
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

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "lockstep", version) },
	}
}

// group makes a command that only holds others: by itself it is a wrong call.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return fmt.Errorf("%s needs one of its commands; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		},
	}
	c.AddCommand(commands...)
	return c
}
