package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/dev"
	"lockstep/server/admin"
	"lockstep/server/nodedir"
	"lockstep/server/origin"
)

// target says which node or cluster a command is about, and how to be let in.
type target struct {
	dataDir string
	urls    []string
	ca      string
}

func (t *target) flags(f *pflag.FlagSet) {
	f.StringVar(&t.dataDir, "data-dir", "", "data directory of a node, or of lockstep dev: says where it is and how to be let in")
	f.StringSliceVar(&t.urls, "url", nil, "URL of a node, or several (their --admin-addr, if they have one); with LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN")
	caFlag(f, &t.ca)
	bind(f, "data-dir", "LOCKSTEP_DATA_DIR")
	bind(f, "url", "LOCKSTEP_URLS")
}

// client returns the operator's API of the target. A directory on the command
// line comes before the environment.
func (t *target) client(f *pflag.FlagSet) (*admin.Client, error) {
	account := accountFromEnvironment()
	c := &admin.Client{AccountSID: account.SID, AuthToken: account.AuthToken}
	if t.dataDir != "" && !f.Changed("url") {
		return clientOf(t.dataDir)
	}
	for _, u := range t.urls {
		c.URLs = append(c.URLs, origin.Complete(u))
	}
	switch {
	case len(c.URLs) == 0:
		return nil, usage{errors.New("say which cluster: --data-dir DIR, or --url URL (LOCKSTEP_URLS)")}
	case c.AccountSID == "" || c.AuthToken == "":
		return nil, usage{errors.New("--url needs LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN in the environment")}
	}
	var err error
	c.HTTP, err = trusting(t.ca)
	return c, err
}

// clientOf reads the directory of a node or of `lockstep dev`.
func clientOf(dir string) (*admin.Client, error) {
	r, err := nodedir.Load(dir)
	if err == nil {
		c := &admin.Client{URLs: []string{r.OperatorURL()}, AccountSID: r.AccountSID, AuthToken: r.AuthToken}
		c.HTTP, err = knowing(dir)
		return c, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	e, err := dev.ReadEnv(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is the data directory neither of a node nor of lockstep dev", strings.TrimRight(dir, "/"))
	}
	if err != nil {
		return nil, err
	}
	c := &admin.Client{URLs: e.URLs, AccountSID: e.AccountSID, AuthToken: e.AuthToken}
	c.HTTP, err = trusting(e.CA)
	return c, err
}
