// Package contexts keeps how to reach clusters, under names, in a file that only
// its owner can read: addresses and credentials, so that nobody types them.
package contexts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"lockstep/cluster/durable"
)

// Context is how to reach one cluster.
type Context struct {
	URLs         []string `json:"urls,omitempty"`          // where clients connect
	OperatorURLs []string `json:"operator_urls,omitempty"` // and operators, if elsewhere

	AccountSID string `json:"account_sid,omitempty"`
	AuthToken  string `json:"auth_token,omitempty"`
	APIKey     string `json:"api_key,omitempty"`
	APISecret  string `json:"api_secret,omitempty"`

	CA      string `json:"ca,omitempty"`      // file with authorities that are believed besides the machine's
	Service string `json:"service,omitempty"` // for commands that name none

	// DataDir is the directory of a node, or of lockstep dev, that says all of the
	// above but the service, as it is when a command needs it.
	DataDir string `json:"data_dir,omitempty"`
}

// File is all contexts of a user.
type File struct {
	Current  string             `json:"current,omitempty"`
	Contexts map[string]Context `json:"contexts"`
}

// Names returns the names of all contexts, in order.
func (f File) Names() []string { return slices.Sorted(maps.Keys(f.Contexts)) }

// Get returns a context by its name.
func (f File) Get(name string) (Context, error) {
	c, ok := f.Contexts[name]
	if !ok {
		return Context{}, fmt.Errorf("there is no context %q: lockstep context list shows those that are there", name)
	}
	return c, nil
}

// Path returns where the file is.
func Path() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the directory of contexts: %w", err)
	}
	return filepath.Join(dir, "lockstep", "contexts.json"), nil
}

// Load reads the file; without one there are no contexts. A file that others can
// read is refused, as it holds secrets.
func Load() (File, error) {
	f := File{Contexts: map[string]Context{}}
	path, err := Path()
	if err != nil { // a user without a home has no contexts
		return f, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return f, fmt.Errorf("read contexts: %w", err)
	case info.Mode().Perm()&0o077 != 0:
		return f, fmt.Errorf("%s can be read by others, and holds secrets: chmod 600 %s", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("read contexts: %w", err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("read contexts: %s: %w", path, err)
	}
	if f.Contexts == nil {
		f.Contexts = map[string]Context{}
	}
	return f, nil
}

// Save writes the file, readable by its owner only.
func (f File) Save() error {
	path, err := Path()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	if err := durable.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	return nil
}
