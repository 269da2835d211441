package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"lockstep/server/admin"
	"lockstep/server/nodedir"
)

func caFlag(f *pflag.FlagSet, file *string) {
	f.StringVar(file, "ca", "", "file with authorities, in PEM, that are believed besides the machine's")
	bind(f, "ca", "LOCKSTEP_CA")
}

// trusting returns a client for nodes that believes a file's authorities, too; nil,
// which is the usual one, without a file.
func trusting(file string) (*http.Client, error) {
	if file == "" {
		return nil, nil
	}
	client, err := admin.Trusting(file, "")
	if err != nil {
		return nil, usage{fmt.Errorf("--ca: %w", err)}
	}
	return client, nil
}

// knowing returns a client for the node in a directory, which knows it by the
// certificate that it shows; nil, which is the usual one, if it shows none.
func knowing(dir string) (*http.Client, error) {
	text, err := os.ReadFile(filepath.Join(dir, nodedir.CertificateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s in %s has no certificate", nodedir.CertificateFile, dir)
	}
	return admin.Knowing(block.Bytes), nil
}
