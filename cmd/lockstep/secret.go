package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"

	"lockstep/cluster/durable"
	"lockstep/server/auth"
)

// No secret is an argument of a command: all users of a machine see these. And
// none is written where nobody asked for it: what a service prints is kept in
// the journal.

// aPipe names standard input or output in the place of a file.
const aPipe = "-"

// accountFile is where the account of a new cluster is written by default, in
// its first node's directory.
const accountFile = "account.env"

const accountFileHelp = "file for the credentials of an account that is made up; - prints them (default: printed on a terminal, account.env in the data directory otherwise)"

// tellAccount tells the credentials of an account that was made up: to a person
// at a terminal, to a file otherwise, or where the flag says.
func tellAccount(out io.Writer, dataDir, file string, a auth.Account) error {
	text := fmt.Sprintf("LOCKSTEP_ACCOUNT_SID=%s\nLOCKSTEP_AUTH_TOKEN=%s\n", a.SID, a.AuthToken)
	if file == aPipe || file == "" && isTerminal(out) {
		_, err := io.WriteString(out, text)
		return err
	}
	if file == "" {
		file = filepath.Join(dataDir, accountFile)
	}
	if err := durable.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the account's credentials: %w", err)
	}
	_, err := fmt.Fprintf(out, "the account's credentials are in %s\n", file)
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// readSecret returns the secret in a file, or on standard input.
func readSecret(in io.Reader, file string) (string, error) {
	if file != aPipe {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read the secret: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxSecret))
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// maxSecret is more than a secret has.
const maxSecret = 4 << 10
