package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"lockstep/cluster/durable"
)

const (
	// compactFrom is the size in bytes from which the log's file is worth compacting.
	compactFrom = 64 << 20
	// compactRoom is how many bytes of the disk a compaction must leave free.
	compactRoom = 64 << 20
	// compactBatch is the number of bytes copied in one transaction.
	compactBatch = 4 << 20
	// compactedSuffix marks a compacted copy that has not yet replaced the file.
	compactedSuffix = ".compacted"
)

// openLog opens the file of the log and the stable store. Bolt never gives room
// back to the disk: a file that was large once stays so. A file of which three quarters
// are free is replaced by a compacted copy first, if there is room for it on the disk.
// Half of it often is, just behind a snapshot, and will be used again before the next
// one: to copy the rest would only make the start longer.
func openLog(dir string, room func(dir string) (int64, error), log *slog.Logger) (*raftboltdb.BoltStore, error) {
	path := filepath.Join(dir, logFile)
	if err := os.Remove(path + compactedSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove unfinished copy of the log: %w", err)
	}
	bolt, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	size, live, err := usage(bolt, path)
	if err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	if size < compactFrom || live > size/4 {
		return bolt, nil
	}
	if free, err := room(dir); err != nil || free < live+compactRoom {
		log.Warn("the log's file is mostly free, and there is no room on the disk to compact it", "bytes", size, "live", live, "error", err)
		return bolt, nil
	}
	if err := bolt.Close(); err != nil {
		return nil, fmt.Errorf("close log before it is compacted: %w", err)
	}
	if err := compact(path); err != nil {
		// The file is as it was, or the whole copy.
		log.Warn("the log's file was not compacted for good", "error", err)
	} else {
		log.Info("the log's file was compacted", "bytes", size, "live", live)
	}
	return openBolt(path)
}

func openBolt(path string) (*raftboltdb.BoltStore, error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions()})
	if err != nil {
		return nil, fmt.Errorf("open log %s (is another process using it?): %w", filepath.Dir(path), err)
	}
	return bolt, nil
}

// usage returns the size of the log's file, and at most how many bytes of it are
// in use.
func usage(bolt *raftboltdb.BoltStore, path string) (size, live int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, fmt.Errorf("size of the log: %w", err)
	}
	return info.Size(), info.Size() - int64(bolt.Stats().FreeAlloc), nil
}

// compact replaces a file by a copy without free pages. Whenever it is cut off,
// the file is either the old one or the whole new one.
func compact(path string) (err error) {
	from, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("open log to be compacted: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	options := boltOptions()
	options.NoSync = true // it is synced once, as a whole
	to, err := bbolt.Open(path+compactedSuffix, 0o600, options)
	if err != nil {
		return fmt.Errorf("make compacted log: %w", err)
	}
	if err := errors.Join(bbolt.Compact(to, from, compactBatch), to.Sync(), to.Close()); err != nil {
		return fmt.Errorf("compact log: %w", errors.Join(err, os.Remove(path+compactedSuffix)))
	}
	if err := os.Rename(path+compactedSuffix, path); err != nil {
		return fmt.Errorf("replace log by its compacted copy: %w", errors.Join(err, os.Remove(path+compactedSuffix)))
	}
	return durable.SyncDir(filepath.Dir(path))
}
