package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/contexts"
	"lockstep/cmd/lockstep/internal/live"
	"lockstep/server/auth"
)

func newToken() *cobra.Command {
	return group("token", "Make access tokens for realtime clients, and find out why one is refused", newTokenCreate(), newTokenCheck())
}

func newTokenCheck() *cobra.Command {
	var t target
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what an access token claims, and why a node refuses it",
		Long: `Say what an access token claims, and why a node refuses it. It is read from FILE, or
from standard input: it is a secret.

The account, and the secret of the key that signed it, are taken from where a command
finds its cluster (lockstep help clusters), or from LOCKSTEP_ACCOUNT_SID, LOCKSTEP_API_KEY
and LOCKSTEP_API_SECRET; what is not known is not checked. Where there is a cluster, one of
its nodes is asked, too: it knows all keys, which are revoked, and the services.

It fails (1) if there is something wrong with the token.`,
		Example: `  lockstep token create --identity alice --data-dir data/dev | lockstep token check
  lockstep token check token.txt --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			file := aPipe
			if len(args) > 0 {
				file = args[0]
			}
			token, err := readSecret(cmd.InOrStdin(), file)
			if err != nil {
				return err
			}
			a, err := t.access(cmd.Flags())
			switch {
			case errors.Is(err, errNoTarget): // what is in the environment has to do
				a.fromEnvironment()
			case err != nil:
				return err
			}
			found := auth.Examine(token, auth.TokenSpec{AccountSID: a.AccountSID, KeySID: a.APIKey, Secret: a.APISecret}, time.Now())
			if len(a.URLs) > 0 {
				found = append(found, askNode(cmd.Context(), a, token))
			}
			if err := printClaims(cmd.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			if err := auth.Problem(found); err != nil {
				return fmt.Errorf("the token is refused: %w", err)
			}
			return nil
		}),
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: [] with claim, value, and problem or unchecked")
	return cmd
}

// askNode has a node say what it thinks of a token.
func askNode(ctx context.Context, a access, token string) auth.Claim {
	const name = "node"
	var answer error
	for _, u := range a.URLs {
		answer = live.Try(ctx, u, a.tls(), token)
		if answer == nil {
			return auth.Claim{Name: name, Value: "accepts it"}
		}
		if _, refused := errors.AsType[*live.Refusal](answer); refused {
			return auth.Claim{Name: name, Value: u, Problem: answer.Error()}
		}
	}
	return auth.Claim{Name: name, Unknown: "no node answers: " + oneLine(answer)}
}

func printClaims(out io.Writer, found []auth.Claim, asJSON bool) error {
	if asJSON {
		return printJSON(out, found)
	}
	table := newTable(out, "CLAIM", "VALUE", "CHECK")
	for _, c := range found {
		check := table.paint("ok", text.FgGreen)
		switch {
		case c.Problem != "":
			check = table.paint("wrong: "+c.Problem, text.FgRed)
		case c.Unknown != "":
			check = "not checked: " + c.Unknown
		}
		table.add(c.Name, c.Value, check)
	}
	return table.print()
}

func newTokenCreate() *cobra.Command {
	var t target
	var secretFile string
	var spec auth.TokenSpec
	cmd := &cobra.Command{
		Use:   "create --identity NAME",
		Short: "Make an access token, as an application's server does",
		Long: `Make an access token, signed with an API key, and print it. No node is asked.

The key comes from LOCKSTEP_API_KEY and LOCKSTEP_API_SECRET (or --secret-file), and the
account from LOCKSTEP_ACCOUNT_SID; what these leave out, from where a command finds its
cluster (lockstep help clusters): a context, or the directory of lockstep dev, which come
first where the command line names them. The secret cannot be an argument: all users of
the machine would see it.`,
		Example: `  lockstep token create --identity alice
  lockstep token create --identity alice --ttl 10m --data-dir data/dev`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			secret := os.Getenv("LOCKSTEP_API_SECRET")
			if secretFile != "" {
				var err error
				if secret, err = readSecret(cmd.InOrStdin(), secretFile); err != nil {
					return err
				}
			}
			given := access{name: "the environment", Context: contexts.Context{AccountSID: spec.AccountSID, APIKey: spec.KeySID, APISecret: secret}}
			a, err := t.signer(cmd.Flags(), given)
			if err != nil {
				return err
			}
			signed, err := a.tokens(spec.Identity, spec.ServiceSID)
			if err != nil {
				return err
			}
			signed.EndpointID, signed.Lifetime = spec.EndpointID, spec.Lifetime
			token, err := auth.Mint(signed, time.Now())
			if err != nil {
				return usage{err}
			}
			fmt.Fprintln(cmd.OutOrStdout(), token)
			return nil
		}),
	}
	t.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&spec.Identity, "identity", "", "who the client is")
	f.StringVar(&spec.ServiceSID, "service", "default", "SID of the service it may use, or default")
	f.StringVar(&spec.EndpointID, "endpoint", "", "id of the client's endpoint")
	f.DurationVar(&spec.Lifetime, "ttl", auth.DefaultLifetime, "how long it is valid, at most 24h")
	f.StringVar(&spec.AccountSID, "account", "", "SID of the account")
	f.StringVar(&spec.KeySID, "key", "", "SID of the API key")
	f.StringVar(&secretFile, "secret-file", "", "file with the secret of the API key in the place of LOCKSTEP_API_SECRET; - reads standard input")
	bind(f, "account", "LOCKSTEP_ACCOUNT_SID")
	bind(f, "key", "LOCKSTEP_API_KEY")
	bind(f, "secret-file", "LOCKSTEP_API_SECRET_FILE")
	return cmd
}

// signer returns the credentials that access tokens are signed with: those that are
// given, and what they leave out of the cluster's, which come first where the command
// line names it.
func (t *target) signer(f *pflag.FlagSet, given access) (access, error) {
	named := f.Changed("data-dir") || f.Changed("context")
	if !named && given.AccountSID != "" && given.hasKey() {
		return given, nil
	}
	found, err := t.access(f)
	switch {
	case errors.Is(err, errNoTarget):
		found = access{name: given.name}
	case err != nil || named:
		return found, err
	}
	found.AccountSID = cmp.Or(given.AccountSID, found.AccountSID)
	switch given.APIKey {
	case "", found.APIKey:
		return found, nil
	}
	found.APIKey, found.APISecret = given.APIKey, given.APISecret
	if found.APISecret == "" {
		return found, usage{fmt.Errorf("the secret of %s is missing: put it into LOCKSTEP_API_SECRET, or into --secret-file", found.APIKey)}
	}
	return found, nil
}
