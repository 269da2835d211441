package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/dev"
	"lockstep/cmd/lockstep/internal/settings"
	"lockstep/server/auth"
)

// passedOn returns the settings that dev passes on: all of serve, except those that
// are of one node. These it decides, or leaves them to the node's run script.
func passedOn(s *nodeSettings) []dev.Setting {
	var passed []dev.Setting
	for _, f := range s.All() {
		if _, own := f.Annotations[ofOneNode]; own {
			continue
		}
		setting := dev.Setting{Variable: f.Annotations[settings.Environment][0]}
		if setting.Set = s.Source(f.Name) != ""; setting.Set {
			setting.Value = s.Text(f)
		}
		passed = append(passed, setting)
	}
	return passed
}

// forDev are the settings of serve for dev's nodes. A file is read only where one is
// named, and has none of what dev decides.
func forDev(file string) (*nodeSettings, error) {
	s := newNodeSettings()
	path, err := s.load(cmp.Or(file, os.Getenv("LOCKSTEP_CONFIG"), noFile))
	if err != nil {
		return nil, err
	}
	for _, f := range s.All() {
		_, own := f.Annotations[ofOneNode]
		if source := s.Source(f.Name); own && path != "" && strings.HasPrefix(source, path+":") {
			return nil, fmt.Errorf("%s: %s is of one node; dev decides it for each of its nodes", source, f.Name)
		}
	}
	return s, nil
}

func newDev() *cobra.Command {
	var c dev.Config
	var file string
	var inMemory bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run three nodes on this machine, or one in memory for tests",
		Long: `Run a cluster of three nodes on this machine, for development: three processes on
--http-port and the next two ports. --nodes says another number of them.

It writes DATA_DIR/dev.env (URLs, account, API key) and, for each node,
DATA_DIR/nodeN/pid, DATA_DIR/nodeN/log and DATA_DIR/nodeN/run, a script that starts
that one node again in the foreground. It prints a line with "ready" once a write was
acknowledged through every node, restarts nothing by itself, and stops all on
Ctrl-C. A second start on the same directory goes on with the same data.

LOCKSTEP_RATE_LIMITS and the other settings of "lockstep serve" are passed on, from the
environment and the file that --config names, except those of one node alone (its
directory, name and addresses, and how it enters a cluster). Webhooks may reach this
machine unless LOCKSTEP_WEBHOOK_ALLOW is set. The account of a new cluster may be given
by LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN.

--memory is an emulator for the tests of applications: one node in this process, which
starts in a fraction of a second, does all that a node does, and keeps nothing on disk.
Its credentials are the same at each start, and no secrets: LOCKSTEP_ACCOUNT_SID,
LOCKSTEP_AUTH_TOKEN, LOCKSTEP_API_KEY and LOCKSTEP_API_SECRET, which it prints, and which
the environment may set. POST /dev/reset, with the account's credentials, empties it.
Only this machine reaches it.

With --tls the nodes serve https:// and wss:// with a certificate of an authority that
is made for them, DATA_DIR/tls/ca.pem: node believes it with NODE_EXTRA_CA_CERTS, curl
with --cacert.`,
		Example: "  lockstep dev\n  lockstep dev --data-dir /tmp/sync --http-port 9080\n  lockstep dev --nodes 1 --memory",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if inMemory {
				return emulate(cmd, &c, file)
			}
			if c.Nodes < 1 || c.Nodes > dev.MaxNodes {
				return usage{fmt.Errorf("--nodes must be 1 to %d", dev.MaxNodes)}
			}
			account := accountFromEnvironment()
			if account == (auth.Account{}) {
				account = auth.NewAccount()
			}
			if err := account.Validate(); err != nil {
				return usage{err}
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			s, err := forDev(file)
			if err != nil {
				return usage{err}
			}
			c.Settings, c.CA = passedOn(s), s.CA
			c.Binary, c.AccountSID, c.AuthToken = binary, account.SID, account.AuthToken
			c.Out, c.Logger = cmd.OutOrStdout(), newLogger(slog.LevelInfo, logText)
			return dev.Run(cmd.Context(), c)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&c.DataDir, "data-dir", "data/dev", "directory of the cluster")
	f.IntVar(&c.HTTPPort, "http-port", 8080, "port of the first node; the others have the next ones")
	f.IntVar(&c.Nodes, "nodes", 3, "how many nodes; of a directory that has some already, as many or more")
	f.BoolVar(&inMemory, "memory", false, "one node that keeps nothing on disk, for the tests of applications")
	f.StringVar(&file, "config", "", "file with settings of lockstep serve for all nodes (default: none)")
	f.BoolVar(&c.TLS, "tls", false, "serve https:// with a certificate of an authority made for this cluster (DATA_DIR/tls/ca.pem)")
	bindAll(f)
	return cmd
}
