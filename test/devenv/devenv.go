// Package devenv reads dev.env, the file by which `lockstep dev` tells how to
// reach its cluster, as those do who use one: lines of NAME=VALUE.
package devenv

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Env is how to reach a cluster, and with which credentials.
type Env struct {
	URLs       []string
	AccountSID string
	AuthToken  string
	APIKey     string
	APISecret  string
	ServiceSID string
}

// Read reads the dev.env in a cluster's directory.
func Read(dir string) (Env, error) {
	f, err := os.Open(filepath.Join(dir, "dev.env"))
	if err != nil {
		return Env{}, fmt.Errorf("open the cluster's environment: %w", err)
	}
	defer f.Close()
	values := make(map[string]string)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		values[name] = value
	}
	return Env{
		URLs:       strings.Split(values["LOCKSTEP_URLS"], ","),
		AccountSID: values["LOCKSTEP_ACCOUNT_SID"], AuthToken: values["LOCKSTEP_AUTH_TOKEN"],
		APIKey: values["LOCKSTEP_API_KEY"], APISecret: values["LOCKSTEP_API_SECRET"], ServiceSID: values["LOCKSTEP_SERVICE_SID"],
	}, lines.Err()
}
