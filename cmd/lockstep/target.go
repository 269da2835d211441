package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/cmd/lockstep/internal/contexts"
	"lockstep/cmd/lockstep/internal/dev"
	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/nodedir"
	"lockstep/server/origin"
)

// target says which node or cluster a command is about, and how to be let in.
type target struct {
	dataDir string
	urls    []string
	context string
	ca      string
}

// targetHelp says in which order a cluster is looked for.
const targetHelp = `Which cluster: --url, --data-dir or --context on the command line; else LOCKSTEP_DATA_DIR,
LOCKSTEP_URLS or LOCKSTEP_CONTEXT in the environment; else the context that "lockstep
context use" chose; else the cluster of "lockstep dev" in data/dev, here or in a
directory above; else the node of this machine in /var/lib/lockstep. Credentials come
from the same place; with --url and LOCKSTEP_URLS from LOCKSTEP_ACCOUNT_SID and
LOCKSTEP_AUTH_TOKEN, or LOCKSTEP_API_KEY and LOCKSTEP_API_SECRET.`

func (t *target) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.dataDir, "data-dir", "", "data directory of a node, or of lockstep dev: says where it is and how to be let in")
	f.StringSliceVar(&t.urls, "url", nil, "URL of a node, or several; with LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN")
	f.StringVar(&t.context, "context", "", "name of a context; see lockstep help clusters")
	caFlag(f, &t.ca)
	bind(f, "data-dir", "LOCKSTEP_DATA_DIR")
	bind(f, "url", "LOCKSTEP_URLS")
	bind(f, "context", "LOCKSTEP_CONTEXT")
	cmd.MarkFlagsMutuallyExclusive("data-dir", "url", "context")
	if err := cmd.RegisterFlagCompletionFunc("context", completeContexts); err != nil {
		panic(err) // there is no such flag
	}
}

// access is how to reach a cluster.
type access struct {
	contexts.Context

	name    string       // of what was found, for a person
	trusted *http.Client // what believes the nodes' certificates; nil: the machine's authorities do
}

var errNoTarget = usage{errors.New("say which cluster: --data-dir DIR, --url URL (LOCKSTEP_URLS) or --context NAME; lockstep context add keeps one")}

// access finds the cluster: what the command line says, else the environment, else
// the current context, else one on this machine.
func (t *target) access(f *pflag.FlagSet) (access, error) {
	switch {
	case f.Changed("url"):
		return t.byURL()
	case f.Changed("context"):
		return t.byContext(f, t.context)
	case t.dataDir != "":
		return byDirectory(t.dataDir)
	case len(t.urls) > 0:
		return t.byURL()
	case t.context != "":
		return t.byContext(f, t.context)
	}
	file, err := contexts.Load()
	if err != nil {
		return access{}, err
	}
	if file.Current != "" {
		return t.byContext(f, file.Current)
	}
	if dir := nearDirectory(); dir != "" {
		return byDirectory(dir)
	}
	return access{}, errNoTarget
}

func (t *target) byURL() (access, error) {
	a := access{name: strings.Join(t.urls, ", ")}
	for _, u := range t.urls {
		a.URLs = append(a.URLs, origin.Complete(u))
	}
	a.fromEnvironment()
	if !a.hasAccount() && !a.hasKey() {
		return a, usage{errors.New("--url needs LOCKSTEP_ACCOUNT_SID and LOCKSTEP_AUTH_TOKEN in the environment, or LOCKSTEP_API_KEY and LOCKSTEP_API_SECRET")}
	}
	var err error
	a.trusted, err = trusting(t.ca)
	return a, err
}

// fromEnvironment takes the credentials of the environment.
func (a *access) fromEnvironment() {
	account := accountFromEnvironment()
	a.AccountSID, a.AuthToken = account.SID, account.AuthToken
	a.APIKey, a.APISecret = os.Getenv("LOCKSTEP_API_KEY"), os.Getenv("LOCKSTEP_API_SECRET")
}

func (a *access) hasAccount() bool { return a.AccountSID != "" && a.AuthToken != "" }
func (a *access) hasKey() bool     { return a.APIKey != "" && a.APISecret != "" }

// byContext reads what is kept of a cluster. Its authorities come before those of the
// environment, which are another cluster's, perhaps.
func (t *target) byContext(f *pflag.FlagSet, name string) (access, error) {
	file, err := contexts.Load()
	if err != nil {
		return access{}, err
	}
	a := access{name: "context " + name}
	if a.Context, err = file.Get(name); err != nil {
		return a, err
	}
	if a.DataDir != "" {
		service := a.Service
		a, err = byDirectory(a.DataDir)
		a.Service = service
		return a, err
	}
	ca := cmp.Or(a.CA, t.ca)
	if f.Changed("ca") {
		ca = t.ca
	}
	a.trusted, err = trusting(ca)
	return a, err
}

// byDirectory reads the directory of a node or of lockstep dev.
func byDirectory(dir string) (access, error) {
	r, err := nodedir.Load(dir)
	if err == nil {
		a := access{name: dir, Context: contexts.Context{
			URLs: []string{r.HTTPURL}, OperatorURLs: []string{r.OperatorURL()}, AccountSID: r.AccountSID, AuthToken: r.AuthToken,
			APIKey: os.Getenv("LOCKSTEP_API_KEY"), APISecret: os.Getenv("LOCKSTEP_API_SECRET"),
		}}
		a.trusted, err = knowing(dir)
		return a, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return access{}, err
	}
	e, err := dev.ReadEnv(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return access{}, fmt.Errorf("%s is the data directory neither of a node nor of lockstep dev: lockstep init makes one, and lockstep help clusters says where else a cluster is looked for", strings.TrimRight(dir, "/"))
	}
	if err != nil {
		return access{}, err
	}
	a := access{name: dir, Context: contexts.Context{
		URLs: e.URLs, AccountSID: e.AccountSID, AuthToken: e.AuthToken, APIKey: e.APIKey, APISecret: e.APISecret,
	}}
	a.trusted, err = trusting(e.CA)
	return a, err
}

// devDirectory is where lockstep dev has its cluster by default, and
// nodeDirectory where a package has its node.
const (
	devDirectory  = "data/dev"
	nodeDirectory = "/var/lib/lockstep"
)

// nearDirectory returns the directory of a cluster on this machine; "" for none.
func nearDirectory() string {
	if at, err := os.Getwd(); err == nil {
		for {
			dir := filepath.Join(at, devDirectory)
			if exists(filepath.Join(dir, dev.EnvFile)) {
				return dir
			}
			above := filepath.Dir(at)
			if above == at {
				break
			}
			at = above
		}
	}
	if exists(filepath.Join(nodeDirectory, nodedir.RecordFile)) {
		return nodeDirectory
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// client returns the operator's API of the target.
func (t *target) client(f *pflag.FlagSet) (*admin.Client, error) {
	a, err := t.access(f)
	if err != nil {
		return nil, err
	}
	return a.operator(), nil
}

// operator returns the operator's API: by the account's credentials, or else by an
// API key, which has a role for it or is refused.
func (a *access) operator() *admin.Client {
	c := &admin.Client{URLs: a.URLs, AccountSID: a.AccountSID, AuthToken: a.AuthToken, HTTP: a.trusted}
	if !a.hasAccount() && a.hasKey() {
		c.AccountSID, c.AuthToken = a.APIKey, a.APISecret
	}
	if len(a.OperatorURLs) > 0 {
		c.URLs = a.OperatorURLs
	}
	return c
}

// rest returns the REST API of the target: by the account's credentials, or else
// by those of an API key.
func (a *access) rest() *client.Client {
	c := &client.Client{URLs: a.URLs, User: a.AccountSID, Password: a.AuthToken, HTTP: a.trusted}
	if !a.hasAccount() {
		c.User, c.Password = a.APIKey, a.APISecret
	}
	return c
}

// tls returns the settings by which the nodes' certificates are believed; nil: the
// usual ones.
func (a *access) tls() *tls.Config {
	if a.trusted == nil {
		return nil
	}
	if t, ok := a.trusted.Transport.(*http.Transport); ok {
		return t.TLSClientConfig
	}
	return nil
}

// tokens returns what mints access tokens for an identity and a service.
func (a *access) tokens(identity, service string) (auth.TokenSpec, error) {
	switch {
	case !a.hasKey():
		return auth.TokenSpec{}, usage{fmt.Errorf("this needs an access token, which an API key signs, and %s has none: lockstep keys create makes one; give it by LOCKSTEP_API_KEY and LOCKSTEP_API_SECRET, or keep it with lockstep context add", a.name)}
	case a.AccountSID == "":
		return auth.TokenSpec{}, usage{fmt.Errorf("this needs an access token, which names the account, and %s does not: give its SID by LOCKSTEP_ACCOUNT_SID or lockstep context add --account", a.name)}
	}
	return auth.TokenSpec{AccountSID: a.AccountSID, KeySID: a.APIKey, Secret: a.APISecret, Identity: identity, ServiceSID: cmp.Or(service, "default")}, nil
}
