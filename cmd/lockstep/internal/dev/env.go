package dev

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lockstep/cluster/durable"
	"lockstep/server/nodedir"
)

// EnvFile is the file in the cluster's directory that says how to reach it, as
// NAME=VALUE lines which a shell can read.
const EnvFile = "dev.env"

// Env is the content of dev.env.
type Env struct {
	URLs       []string // of the nodes
	AccountSID string
	AuthToken  string
	APIKey     string // SID of a key of the account; empty before the first start is done
	APISecret  string
	ServiceSID string // of the default service
	CA         string // file with the authority of the nodes' certificates; empty: they have none
}

// ReadEnv reads dev.env in a cluster's directory; fs.ErrNotExist if there is none.
func ReadEnv(dir string) (Env, error) {
	f, err := os.Open(filepath.Join(dir, EnvFile))
	if err != nil {
		return Env{}, fmt.Errorf("read %s: %w", EnvFile, err)
	}
	defer f.Close()
	var e Env
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch name {
		case "LOCKSTEP_URLS":
			e.URLs = strings.Split(value, ",")
		case "LOCKSTEP_ACCOUNT_SID":
			e.AccountSID = value
		case "LOCKSTEP_AUTH_TOKEN":
			e.AuthToken = value
		case "LOCKSTEP_API_KEY":
			e.APIKey = value
		case "LOCKSTEP_API_SECRET":
			e.APISecret = value
		case "LOCKSTEP_SERVICE_SID":
			e.ServiceSID = value
		case "LOCKSTEP_CA":
			e.CA = unquote(value)
		}
	}
	if err := lines.Err(); err != nil {
		return Env{}, fmt.Errorf("read %s: %w", EnvFile, err)
	}
	if token := latestToken(dir); token != "" {
		e.AuthToken = token
	}
	return e, nil
}

// latestToken returns the account's auth token as the node that wrote its record
// last knows it: it may have been changed since dev.env was written.
func latestToken(dir string) (token string) {
	var latest time.Time
	for i := range MaxNodes {
		n := filepath.Join(dir, nodeName(i))
		info, err := os.Stat(filepath.Join(n, nodedir.RecordFile))
		if err != nil || info.ModTime().Before(latest) {
			continue
		}
		if r, err := nodedir.Load(n); err == nil && r.Member() {
			token, latest = r.AuthToken, info.ModTime()
		}
	}
	return token
}

func readEnvIfAny(dir string) (Env, error) {
	e, err := ReadEnv(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Env{}, nil
	}
	return e, err
}

func (e Env) write(dir string) error {
	text := fmt.Sprintf(`LOCKSTEP_URLS=%s
LOCKSTEP_ACCOUNT_SID=%s
LOCKSTEP_AUTH_TOKEN=%s
LOCKSTEP_API_KEY=%s
LOCKSTEP_API_SECRET=%s
LOCKSTEP_SERVICE_SID=%s
`, strings.Join(e.URLs, ","), e.AccountSID, e.AuthToken, e.APIKey, e.APISecret, e.ServiceSID)
	if e.CA != "" {
		text += "LOCKSTEP_CA=" + quote(e.CA) + "\n"
	}
	if err := durable.WriteFile(filepath.Join(dir, EnvFile), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", EnvFile, err)
	}
	return nil
}
