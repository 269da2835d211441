package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"lockstep/cluster/durable"
)

// ErrExists: there is such a file, and nobody said that it may be replaced.
var ErrExists = errors.New("the file exists already")

// mode of backups: they hold secrets, and everybody's data.
const mode fs.FileMode = 0o600

// unfinished returns how the names of files begin that are to become the one with
// a name: what a crash leaves of them counts as nothing.
func unfinished(name string) string { return ".unfinished-" + name[:min(len(name), 200)] }

// Create makes a file of what write writes, whole and on disk, or not at all.
func Create(path string, replace bool, write func(io.Writer) error) (err error) {
	if err := MayCreate(path, replace); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinished(filepath.Base(path))+"-*")
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, discard(f))
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	if err := write(buffered); err != nil {
		return err
	}
	if err := errors.Join(buffered.Flush(), f.Sync()); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := MayCreate(path, replace); err != nil { // it took a while
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return durable.SyncDir(dir)
}

func discard(f *os.File) error {
	closed := f.Close()
	if errors.Is(closed, os.ErrClosed) {
		closed = nil
	}
	removed := os.Remove(f.Name())
	if errors.Is(removed, fs.ErrNotExist) {
		removed = nil
	}
	return errors.Join(closed, removed)
}

// MayCreate returns ErrExists if there is a file that may not be replaced.
func MayCreate(path string, replace bool) error {
	switch _, err := os.Lstat(path); {
	case err == nil && !replace:
		return fmt.Errorf("%w: %s", ErrExists, path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// Spool returns a file without a name, in a directory, that holds what write
// writes and is read from its beginning. It is gone when it is closed.
func Spool(dir string, write func(io.Writer) error) (_ *os.File, size int64, err error) {
	f, err := os.CreateTemp(dir, unfinished("backup")+"-*")
	if err != nil {
		return nil, 0, fmt.Errorf("write backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, fmt.Errorf("write backup: %w", err)
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	if err := write(buffered); err != nil {
		return nil, 0, err
	}
	if err := buffered.Flush(); err != nil {
		return nil, 0, fmt.Errorf("write backup: %w", err)
	}
	if size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return nil, 0, fmt.Errorf("write backup: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, 0, fmt.Errorf("write backup: %w", err)
	}
	return f, size, nil
}
