package journal

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"lockstep/cluster/durable"
)

// file is one of the journal's files.
type file interface {
	io.WriterAt
	Sync() error
	Close() error
}

// openFile opens a file, or makes one. It has its size from the beginning on, so that a
// sync writes what was appended and nothing of the file system's.
func openFile(path string, size int64) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lengthen(f, size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return onDisk{f}, nil
}

func lengthen(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	if _, err := f.WriteAt(make([]byte, size-info.Size()), info.Size()); err != nil {
		return err
	}
	return errors.Join(f.Sync(), durable.SyncDir(filepath.Dir(f.Name())))
}

// onDisk is a file of which no more is synced than it takes to read it.
type onDisk struct{ *os.File }

// Sync implements file.
func (f onDisk) Sync() error { return syncData(f.File) }
