package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/dev"
	"lockstep/server/auth"
)

func newToken() *cobra.Command {
	return group("token", "Make access tokens for realtime clients", newTokenCreate())
}

func newTokenCreate() *cobra.Command {
	var dataDir, secretFile string
	var spec auth.TokenSpec
	cmd := &cobra.Command{
		Use:   "create --identity NAME",
		Short: "Make an access token, as an application's server does",
		Long: `Make an access token, signed with an API key, and print it. No node is asked.

The key comes from LOCKSTEP_API_KEY and LOCKSTEP_API_SECRET (or --secret-file), the
account from LOCKSTEP_ACCOUNT_SID; or all three from the directory of lockstep dev.
The secret cannot be an argument: all users of the machine would see it.`,
		Example: "  lockstep token create --identity alice --data-dir data/dev",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			spec.Secret = os.Getenv("LOCKSTEP_API_SECRET")
			if secretFile != "" {
				var err error
				if spec.Secret, err = readSecret(cmd.InOrStdin(), secretFile); err != nil {
					return err
				}
			}
			if dataDir != "" {
				e, err := dev.ReadEnv(dataDir)
				if err != nil {
					return err
				}
				spec.AccountSID, spec.KeySID, spec.Secret = e.AccountSID, e.APIKey, e.APISecret
			}
			token, err := auth.Mint(spec, time.Now())
			if err != nil {
				return usage{err}
			}
			fmt.Fprintln(cmd.OutOrStdout(), token)
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&spec.Identity, "identity", "", "who the client is")
	f.StringVar(&spec.ServiceSID, "service", "default", "SID of the service it may use, or default")
	f.StringVar(&spec.EndpointID, "endpoint", "", "id of the client's endpoint")
	f.DurationVar(&spec.Lifetime, "ttl", auth.DefaultLifetime, "how long it is valid, at most 24h")
	f.StringVar(&dataDir, "data-dir", "", "directory of lockstep dev")
	f.StringVar(&spec.AccountSID, "account", "", "SID of the account")
	f.StringVar(&spec.KeySID, "key", "", "SID of the API key")
	f.StringVar(&secretFile, "secret-file", "", "file with the secret of the API key in the place of LOCKSTEP_API_SECRET; - reads standard input")
	bind(f, "account", "LOCKSTEP_ACCOUNT_SID")
	bind(f, "key", "LOCKSTEP_API_KEY")
	bind(f, "secret-file", "LOCKSTEP_API_SECRET_FILE")
	return cmd
}
