package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// archive writes NAME.tar.gz: the program and what goes with it, in a directory NAME.
func (r *release) archive(name, program string) (err error) {
	f, err := os.Create(filepath.Join(r.out, name+".tar.gz"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression) // its header has no time
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	add := func(path, as string, mode int64) error {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		err = w.WriteHeader(&tar.Header{Name: name + "/" + as, Mode: mode, Size: int64(len(content)), ModTime: r.epoch, Format: tar.FormatPAX})
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}
	if err := add(program, "lockstep", 0o755); err != nil {
		return err
	}
	for _, file := range []string{"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"} {
		if err := add(file, file, 0o644); err != nil {
			return err
		}
	}
	for _, dir := range []string{"man", "completions"} {
		entries, err := os.ReadDir(filepath.Join(r.work, dir)) // sorted
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := add(filepath.Join(r.work, dir, e.Name()), dir+"/"+e.Name(), 0o644); err != nil {
				return err
			}
		}
	}
	for _, file := range []string{"scripts/package/lockstep.service", "scripts/package/lockstep.yaml"} {
		if err := add(file, filepath.Base(file), 0o644); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
