package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sumsFile lists all other files of a release.
const sumsFile = "SHA256SUMS"

// replaceable fails if a directory holds anything but an earlier release: all that is
// there is removed when the new one is whole.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ours := map[string]bool{sumsFile: true}
	for line := range strings.Lines(string(sums)) {
		_, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		ours[name] = true
	}
	for _, e := range entries {
		if !ours[e.Name()] || !e.Type().IsRegular() {
			return fmt.Errorf("%s is no file of a release: %s is not replaced; remove it, or say -out DIR", filepath.Join(dir, e.Name()), dir)
		}
	}
	return nil
}

// stage makes a directory beside the one that it is going to be.
func stage(dir string) (string, error) {
	above := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(above, 0o755); err != nil {
		return "", err
	}
	staged, err := os.MkdirTemp(above, ".release-")
	if err != nil {
		return "", err
	}
	return staged, os.Chmod(staged, 0o755)
}

// replace puts what was made in the place of what was there.
func (r *release) replace(dir string) error {
	if err := replaceable(dir); err != nil { // others may have come to it meanwhile
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(r.out, dir)
}
