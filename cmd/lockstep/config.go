package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/settings"
	"lockstep/server"
)

func newConfig() *cobra.Command {
	return group("config", "Check and show the settings of a node, and what there is to set", newConfigCheck(), newConfigShow(), newConfigDocs())
}

// ofSettings makes a command of the settings that serve would have when it is
// called in the same way.
func ofSettings(cmd *cobra.Command, f func(s *nodeSettings, path string, loaded error) error) *cobra.Command {
	s := newNodeSettings()
	var file string
	cmd.Args, cmd.Annotations = cobra.NoArgs, loadsItself
	cmd.Flags().AddFlagSet(s.flags)
	for _, setting := range s.All() {
		setting.Hidden = true // all of serve's
	}
	configFlag(cmd.Flags(), &file)
	cmd.RunE = does(func(*cobra.Command, []string) error {
		path, err := s.load(file)
		return f(s, path, err)
	})
	return cmd
}

func newConfigCheck() *cobra.Command {
	var cmd *cobra.Command
	cmd = ofSettings(&cobra.Command{
		Use:   "check",
		Short: "Check the settings that serve would have, without starting it",
		Long: `Check the settings that "lockstep serve" would have with the same flags, in this
environment: every key of the file, every value, and what must go together. All faults
are told, each with its file and line where it has one (exit code 2). Variables that begin
with LOCKSTEP_ and that no command knows are named, too; they are no fault.`,
		Example: "  lockstep config check --config /etc/lockstep/lockstep.yaml",
	}, func(s *nodeSettings, path string, err error) error {
		if err == nil {
			_, err = server.New(s.config(s.level))
		}
		if err != nil {
			return usage{err}
		}
		if path == "" {
			path = "no file"
		}
		for _, note := range unknownVariables(cmd.Root(), os.Environ()) {
			fmt.Fprintln(cmd.ErrOrStderr(), "lockstep: note:", note)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "the settings are good (%s)\n", path)
		return err
	})
	return cmd
}

// unknownVariables says which variables of ours in an environment no command knows.
func unknownVariables(root *cobra.Command, environ []string) (notes []string) {
	known := []string{"LOCKSTEP_API_SECRET"} // secrets are no flags
	note := func(f *pflag.Flag) { known = append(known, f.Annotations[settings.Environment]...) }
	for _, setting := range newNodeSettings().All() {
		note(setting)
	}
	for commands := []*cobra.Command{root}; len(commands) > 0; commands = commands[1:] {
		commands = append(commands, commands[0].Commands()...)
		commands[0].Flags().VisitAll(note)
	}
	asFlag := func(variable string) string {
		return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, variablePrefix), "_", "-"))
	}
	flags := make([]string, len(known))
	for i, variable := range known {
		flags[i] = asFlag(variable)
	}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if value == "" || !strings.HasPrefix(name, variablePrefix) || slices.Contains(known, name) {
			continue
		}
		text := name + " is no setting"
		if likely := settings.Nearest(asFlag(name), flags); likely != "" {
			text += didYouMean([]string{known[slices.Index(flags, likely)]})
		}
		notes = append(notes, text)
	}
	slices.Sort(notes)
	return notes
}

func newConfigShow() *cobra.Command {
	var cmd *cobra.Command
	cmd = ofSettings(&cobra.Command{
		Use:   "show",
		Short: "Show the settings that serve would have, and where each comes from",
		Long: `Show the settings that "lockstep serve" would have with the same flags, in this
environment, in the form of its file: the defaults, too. Behind each value stands where
it comes from. The auth token is not shown.`,
		Example: "  lockstep config show --config /etc/lockstep/lockstep.yaml",
	}, func(s *nodeSettings, _ string, err error) error {
		return errors.Join(s.Show(cmd.OutOrStdout()), asUsage(err))
	})
	return cmd
}

func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return usage{err}
}

func newConfigDocs() *cobra.Command {
	return &cobra.Command{
		Use:     "docs",
		Short:   "Print the reference of all settings, in Markdown",
		Example: "  lockstep config docs > configuration.md",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if _, err := io.WriteString(cmd.OutOrStdout(), configReference); err != nil {
				return err
			}
			return newNodeSettings().Reference(cmd.OutOrStdout())
		}),
	}
}

const configReference = `# Configuration

All settings of a node, as ` + "`lockstep config docs`" + ` prints them.

A setting has one name: the key in the file, the flag of ` + "`lockstep serve`" + ` (` + "`--http-port`" + ` is
` + "`http-port`" + `), and the variable of the environment. The command line comes first, then the
environment, then the file, then the default.

The file is ` + "`" + defaultConfig + "`" + ` if there is one, or what ` + "`--config`" + ` (` + "`LOCKSTEP_CONFIG`" + `)
names; ` + "`none`" + ` is no file. It is YAML, a value for each key:

` + "```yaml" + `
data-dir: /var/lib/lockstep
http-addr: 0.0.0.0
internal-addr: 0.0.0.0:7000
gossip-addr: 0.0.0.0:7001
advertise: 10.0.0.1
trusted-proxies: [10.0.0.0/24]
max-sessions: 20000
` + "```" + `

A key that there is not is an error, and so is one that stands twice. A file with the
` + "`auth-token`" + ` must not be readable by everybody.

` + "```sh" + `
lockstep config check    # all that is wrong, with file and line
lockstep config show     # what is set, and by what
` + "```" + `

What is marked with ↻ changes while the node runs: change the file and send the process
SIGHUP (` + "`systemctl reload lockstep`" + `). The log says what has changed, and names what takes a
restart. A file with a fault changes nothing. A node whose standard error is a terminal
ends on SIGHUP, which is sent when the terminal is closed.
`
