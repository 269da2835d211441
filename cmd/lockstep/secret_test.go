package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"lockstep/server/auth"
)

func TestAccountIsToldWhereItWasAskedFor(t *testing.T) {
	dir := t.TempDir()
	account := auth.Account{SID: "AC1", AuthToken: "secret"}
	const text = "LOCKSTEP_ACCOUNT_SID=AC1\nLOCKSTEP_AUTH_TOKEN=secret\n"
	elsewhere := filepath.Join(dir, "elsewhere")
	for file, written := range map[string]string{"": filepath.Join(dir, "account.env"), elsewhere: elsewhere} {
		var out bytes.Buffer
		require.NoError(t, tellAccount(&out, dir, file, account))
		require.Equal(t, "the account's credentials are in "+written+"\n", out.String())
		b, err := os.ReadFile(written)
		require.NoError(t, err)
		require.Equal(t, text, string(b))
		info, err := os.Stat(written)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	}
	var out bytes.Buffer
	require.NoError(t, tellAccount(&out, dir, "-", account))
	require.Equal(t, text, out.String())
	require.Error(t, tellAccount(&out, filepath.Join(dir, "nowhere"), "", account))
}

func TestSecretsAreReadFromFilesAndPipes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("of a file\n"), 0o600))
	secret, err := readSecret(nil, file)
	require.NoError(t, err)
	require.Equal(t, "of a file", secret)
	secret, err = readSecret(strings.NewReader("of a pipe\n"), "-")
	require.NoError(t, err)
	require.Equal(t, "of a pipe", secret)
	_, err = readSecret(nil, file+"x")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Whatever stands on a command line, all users of the machine see.
func TestNoSecretIsAFlag(t *testing.T) {
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			for _, word := range []string{"secret", "token", "password"} {
				require.False(t, strings.HasSuffix(f.Name, word), "%s --%s", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}
