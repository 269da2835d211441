package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/dev"
	"lockstep/server"
	"lockstep/server/auth"
	"lockstep/server/memory"
)

// The credentials of an emulator, where the environment has no others. Everybody knows
// them; only this machine reaches it, and what it keeps is a test's.
const (
	emulatorAccount = "AC00000000000000000000000000000001"
	emulatorToken   = "emulatorAuthTokenIsNoSecret00001"
	emulatorKey     = "SK00000000000000000000000000000001"
	emulatorSecret  = "emulatorApiSecretIsNoSecret00001"
)

// What stays in the log of a node that nobody has to catch up with, in entries.
const (
	emulatorTrailing = 1024
	emulatorSnapshot = 8192
)

// emulate runs one node in this process, without a directory.
func emulate(cmd *cobra.Command, c *dev.Config, file string) error {
	for flag, why := range map[string]string{"data-dir": "nothing is kept", "tls": "its certificate would be kept in a directory"} {
		if cmd.Flags().Changed(flag) {
			return usage{fmt.Errorf("--%s does not go with --memory: %s", flag, why)}
		}
	}
	if cmd.Flags().Changed("nodes") && c.Nodes != 1 {
		return usage{fmt.Errorf("--memory is one node: leave --nodes out, or say --nodes 1")}
	}
	s, err := forDev(file)
	if err != nil {
		return usage{err}
	}
	level := slog.LevelWarn
	if s.Source("log-level") != "" {
		level = s.level
	}
	config := s.config(level)
	config.Audit = config.Logger
	// What is of one node is decided here, whatever the environment has for serve.
	config.DataDir, config.NodeID, config.Join, config.Bootstrap, config.Replace, config.Seeds = "", "emulator", "", false, false, nil
	config.AdminAddr, config.MetricsAddr, config.InternalAddr, config.GossipAddr, config.Advertise, config.ACME = "", "", "", "", "", server.ACME{}
	config.HTTPAddr = net.JoinHostPort("127.0.0.1", strconv.Itoa(c.HTTPPort))
	config.Account = auth.Account{
		SID:       cmp.Or(os.Getenv("LOCKSTEP_ACCOUNT_SID"), emulatorAccount),
		AuthToken: cmp.Or(os.Getenv("LOCKSTEP_AUTH_TOKEN"), emulatorToken),
	}
	if s.Source("webhook-allow") == "" {
		config.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	if s.Source("trailing-logs") == "" {
		config.TrailingLogs = emulatorTrailing
	}
	if s.Source("snapshot-threshold") == "" {
		config.SnapshotThreshold = emulatorSnapshot
	}
	e := &server.Emulator{
		APIKey:    cmp.Or(os.Getenv("LOCKSTEP_API_KEY"), emulatorKey),
		APISecret: cmp.Or(os.Getenv("LOCKSTEP_API_SECRET"), emulatorSecret),
	}
	e.Serving = func(url string) { welcomeToEmulator(cmd.OutOrStdout(), url, config.Account, e) }
	config.Emulator = e
	node, err := server.New(config)
	if err != nil {
		return usage{err}
	}
	memory.LimitRuntime(config.Logger)
	defer memory.GiveBack(config.Logger)()
	return node.Run(cmd.Context())
}

// welcomeToEmulator says how to reach it, in the form of dev.env.
func welcomeToEmulator(out io.Writer, url string, account auth.Account, e *server.Emulator) {
	fmt.Fprintf(out, `# One node in memory. It keeps nothing when it stops; POST /dev/reset empties it.
LOCKSTEP_URLS=%s
LOCKSTEP_ACCOUNT_SID=%s
LOCKSTEP_AUTH_TOKEN=%s
LOCKSTEP_API_KEY=%s
LOCKSTEP_API_SECRET=%s
# ready: it has acknowledged a write. Ctrl-C stops it.
`, url, account.SID, account.AuthToken, e.APIKey, e.APISecret)
}
