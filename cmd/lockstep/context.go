package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"lockstep/cmd/lockstep/internal/contexts"
	"lockstep/server/origin"
)

func newContext() *cobra.Command {
	c := group("context", "Contexts: clusters by name, with their credentials", newContextAdd(), newContextList(), newContextUse(), newContextRemove())
	c.Aliases = []string{"contexts"}
	return c
}

func newContextAdd() *cobra.Command {
	var c contexts.Context
	var dataDir, secretFile string
	var replace bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Keep a cluster's address and credentials under a name",
		Long: `Keep a cluster's address and credentials under a name, in a file that only its owner
can read. The first context is used from then on; lockstep context use chooses another.

Of a cluster whose certificate no authority of this machine has vouched for, --ca names
the file with those that do, or with the certificate itself. Its path is kept, and the
file is read each time, so that it may be renewed.

Give --account, --key or both: the account's SID, whose auth token opens everything, or
the SID of an API key, whose secret opens what the key may. watch and token create need a
key, and the account's SID. The secrets are no arguments, which all users of the machine
see: they come from LOCKSTEP_AUTH_TOKEN and LOCKSTEP_API_SECRET, else from --secret-file,
else they are asked for. --data-dir keeps none of it: the directory of a node or of
lockstep dev is read again each time.

` + targetHelp,
		Example: `  lockstep context add prod --url https://sync.example.com --account AC00000000000000000000000000000001
  lockstep context add staging --url http://10.0.0.1:8080 --key SK00000000000000000000000000000002 --secret-file -
  lockstep context add office --url https://10.0.0.1:8080 --ca cert.pem --account AC00000000000000000000000000000001
  lockstep context add local --data-dir data/dev`,
		Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			name := args[0]
			file, err := contexts.Load()
			if err != nil {
				return err
			}
			if _, taken := file.Contexts[name]; taken && !replace {
				return usage{fmt.Errorf("there is a context %s already: --replace puts this one in its place", name)}
			}
			if dataDir != "" {
				if _, err := byDirectory(dataDir); err != nil {
					return err
				}
				c.CA = "" // of the environment; the directory says it
				if c.DataDir, err = filepath.Abs(dataDir); err != nil {
					return fmt.Errorf("find the directory: %w", err)
				}
			} else if err := complete(cmd, &c, secretFile); err != nil {
				return err
			}
			file.Contexts[name] = c
			if file.Current == "" {
				file.Current = name
			}
			if err := file.Save(); err != nil {
				return err
			}
			used := ""
			if file.Current == name {
				used = ", and is used from now on"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "context %s is kept%s\n", name, used)
			return nil
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.URLs, "url", nil, "URL of a node, or several, where clients connect")
	f.StringSliceVar(&c.OperatorURLs, "operator-url", nil, "their --admin-addr, if they have one")
	f.StringVar(&c.AccountSID, "account", "", "SID of the account")
	f.StringVar(&c.APIKey, "key", "", "SID of an API key")
	f.StringVar(&c.Service, "service", "", "the service of commands that name none")
	f.StringVar(&secretFile, "secret-file", "", "file with the one secret that is not in the environment; - reads standard input")
	caFlag(f, &c.CA)
	f.StringVar(&dataDir, "data-dir", "", "take addresses and credentials from the directory of a node, or of lockstep dev")
	f.BoolVar(&replace, "replace", false, "put it in the place of a context of this name")
	for _, name := range []string{"url", "account", "key", "ca"} {
		cmd.MarkFlagsMutuallyExclusive("data-dir", name)
	}
	return cmd
}

// complete checks what the command line says of a context and gets its secrets.
func complete(cmd *cobra.Command, c *contexts.Context, secretFile string) error {
	switch {
	case len(c.URLs) == 0:
		return usage{errors.New("say where the cluster is: --url URL, or --data-dir DIR")}
	case c.AccountSID == "" && c.APIKey == "":
		return usage{errors.New("say how to be let in: --account SID, --key SID, or both")}
	}
	for _, urls := range [][]string{c.URLs, c.OperatorURLs} {
		for i, u := range urls {
			urls[i] = origin.Complete(u)
			if err := origin.Validate(urls[i]); err != nil {
				return usage{err}
			}
		}
	}
	if c.CA != "" {
		if _, err := trusting(c.CA); err != nil {
			return err
		}
		var err error
		if c.CA, err = filepath.Abs(c.CA); err != nil {
			return fmt.Errorf("find the authorities: %w", err)
		}
	}
	c.AuthToken, c.APISecret = os.Getenv("LOCKSTEP_AUTH_TOKEN"), os.Getenv("LOCKSTEP_API_SECRET")
	ask := &secretSource{cmd: cmd, file: secretFile}
	if c.APIKey == "" {
		c.APISecret = ""
	} else if err := ask.unless(&c.APISecret, "secret of "+c.APIKey); err != nil {
		return err
	}
	if c.AccountSID == "" {
		c.AuthToken = ""
	} else if c.APISecret == "" || c.AuthToken != "" { // beside a key the account's SID is enough
		return ask.unless(&c.AuthToken, "auth token of "+c.AccountSID)
	}
	return nil
}

// secretSource gives secrets that the environment does not have: one from a file,
// or as many as are asked for at a terminal.
type secretSource struct {
	cmd  *cobra.Command
	file string
}

// unless fills in a secret that is not known.
func (s *secretSource) unless(secret *string, what string) (err error) {
	if *secret != "" {
		return nil
	}
	in, terminal := s.cmd.InOrStdin().(*os.File)
	switch {
	case s.file != "":
		*secret, err = readSecret(s.cmd.InOrStdin(), s.file)
	case terminal && term.IsTerminal(int(in.Fd())):
		*secret, err = prompt(in, s.cmd.ErrOrStderr(), what)
	}
	if err == nil && *secret == "" {
		err = usage{fmt.Errorf("the %s is missing: put it into LOCKSTEP_AUTH_TOKEN or LOCKSTEP_API_SECRET, or into --secret-file", what)}
	}
	return err
}

// prompt asks for a secret, which is not shown.
func prompt(in *os.File, out io.Writer, what string) (string, error) {
	fmt.Fprintf(out, "%s: ", what)
	b, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(out)
	if err != nil {
		return "", fmt.Errorf("read the %s: %w", what, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func newContextList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the contexts, without their secrets",
		Example: "  lockstep context list",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			file, err := contexts.Load()
			if err != nil {
				return err
			}
			type shown struct {
				Name    string   `json:"name"`
				Current bool     `json:"current"`
				URLs    []string `json:"urls,omitempty"`
				Account string   `json:"account_sid,omitempty"`
				Key     string   `json:"api_key,omitempty"`
				Service string   `json:"service,omitempty"`
				DataDir string   `json:"data_dir,omitempty"`
				CA      string   `json:"ca,omitempty"`
			}
			all := []shown{}
			table := newTable(cmd.OutOrStdout(), "", "NAME", "URL", "AS", "SERVICE")
			for _, name := range file.Names() {
				c := file.Contexts[name]
				s := shown{name, name == file.Current, c.URLs, c.AccountSID, c.APIKey, c.Service, c.DataDir, c.CA}
				all = append(all, s)
				mark, as := " ", c.AccountSID
				if s.Current {
					mark = "*"
				}
				if c.AuthToken == "" {
					as = c.APIKey
				}
				table.add(mark, name, cmp.Or(strings.Join(c.URLs, " "), c.DataDir), as, c.Service)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			return table.print()
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: [] with name, current, urls or data_dir, account_sid, api_key, service, ca")
	return cmd
}

func newContextUse() *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Choose the context of commands that name no cluster",
		Example:           "  lockstep context use prod",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeContexts,
		RunE: does(func(cmd *cobra.Command, args []string) error {
			file, err := contexts.Load()
			if err != nil {
				return err
			}
			if _, err := file.Get(args[0]); err != nil {
				return err
			}
			file.Current = args[0]
			if err := file.Save(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "context %s is used from now on\n", args[0])
			return nil
		}),
	}
}

func newContextRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Aliases:           []string{"rm", "delete"},
		Short:             "Forget a context with its secrets",
		Example:           "  lockstep context remove staging",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeContexts,
		RunE: does(func(cmd *cobra.Command, args []string) error {
			file, err := contexts.Load()
			if err != nil {
				return err
			}
			if _, err := file.Get(args[0]); err != nil {
				return err
			}
			delete(file.Contexts, args[0])
			if file.Current == args[0] {
				file.Current = ""
			}
			if err := file.Save(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "context %s is forgotten\n", args[0])
			return nil
		}),
	}
}
