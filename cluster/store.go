package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"lockstep/cluster/durable"
	"lockstep/cluster/internal/disk"
	"lockstep/cluster/internal/journal"
)

const (
	leftMarker       = "left"
	differsMarker    = "differs"  // beside raft's state, of which it says that it leads to another state than the others'
	outdatedMarker   = "outdated" // likewise, that it is a copy of before
	retainSnapshots  = 2
	logCacheEntries  = 512 // what replication and nudges read again at once
	lockTimeout      = time.Second
	raftDirectory    = "raft"
	asideDirectory   = "raft.aside"
	logFile          = "log.db"
	unfinishedSuffix = ".tmp"

	// initialMap is how many bytes of addresses the log's file is given at once.
	initialMap = 512 << 20
)

// stores are a node's durable state.
type stores struct {
	logs      raft.LogStore
	checked   *checkedLog // what logs reads from
	stable    *checkedStable
	snapshots raft.SnapshotStore
	markLeft  func() error // makes the data directory one that cannot be started again
	close     func() error
}

// openStores opens the data directory, or fails with ErrLeft, ErrDiffers or
// ErrOutdated. What is written there in the background is told to the disk.
func openStores(c Config, d *disk.Disk) (*stores, error) {
	if p := c.Parts; p != nil {
		nothing := func() error { return nil }
		checked := &checkedLog{LogStore: p.Logs}
		return &stores{logs: checked, checked: checked, stable: &checkedStable{StableStore: p.Stable}, snapshots: p.Snapshots, markLeft: nothing, close: nothing}, nil
	}
	if c.InMemory {
		return memoryStores(), nil
	}
	dir := filepath.Join(c.DataDir, raftDirectory)
	for _, d := range []string{c.DataDir, dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make data directory: %w", err)
		}
		// Snapshots are world-readable inside.
		if err := os.Chmod(d, 0o700); err != nil {
			return nil, fmt.Errorf("protect data directory: %w", err)
		}
	}
	if err := refuseLeft(c.DataDir); err != nil {
		return nil, err
	}
	switch _, err := os.Stat(filepath.Join(dir, differsMarker)); {
	case err == nil:
		return nil, ErrDiffers
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("look for marker of a state that differs: %w", err)
	}
	switch _, err := os.Stat(filepath.Join(dir, outdatedMarker)); {
	case err == nil:
		return nil, ErrOutdated
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("look for marker of a copy of before: %w", err)
	}
	if err := sweepSnapshots(filepath.Join(dir, "snapshots")); err != nil {
		return nil, err
	}
	bolt, err := openLog(dir, durable.FreeBytes, c.Logger)
	if err != nil {
		return nil, err
	}
	journaled, err := journal.Open(dir, d.Later(bolt))
	if err != nil {
		return nil, errors.Join(journalError(err), bolt.Close())
	}
	closeLog := func() error { return errors.Join(journaled.Close(), bolt.Close()) }
	checked := &checkedLog{LogStore: journaled}
	cache, err := raft.NewLogCache(logCacheEntries, checked)
	if err != nil {
		return nil, errors.Join(err, closeLog())
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, newRaftLogger(c.Logger))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots: %w", err), closeLog())
	}
	return &stores{
		logs: cache, checked: checked, stable: &checkedStable{StableStore: bolt}, snapshots: snapshots,
		markLeft: func() error { return markLeft(c.DataDir) }, close: closeLog,
	}, nil
}

// journalError returns an error of the journal as one of a node's state.
func journalError(err error) error {
	if errors.Is(err, journal.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// memoryStores are the state of a node that outlasts nothing.
func memoryStores() *stores {
	kept := raft.NewInmemStore()
	checked := &checkedLog{LogStore: kept}
	nothing := func() error { return nil }
	return &stores{
		logs: checked, checked: checked, stable: &checkedStable{StableStore: kept}, snapshots: raft.NewInmemSnapshotStore(),
		markLeft: nothing, close: nothing,
	}
}

func boltOptions() *bbolt.Options {
	return &bbolt.Options{
		Timeout:        lockTimeout, // a second process fails in place of waiting
		NoFreelistSync: true,        // one write less for each commit
		FreelistType:   bbolt.FreelistMapType,
		// Each time that the file outgrows what is mapped all readers wait.
		InitialMmapSize: initialMap,
	}
}

// refuseLeft fails with ErrLeft if a data directory is that of a node that left.
func refuseLeft(dataDir string) error {
	switch _, err := os.Stat(filepath.Join(dataDir, leftMarker)); {
	case err == nil:
		return ErrLeft
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("look for marker of leaving: %w", err)
	}
	return nil
}

// PutAside takes raft's state out of a data directory, so that the node can begin
// anew. It is kept beside, as the last one that was put there.
func PutAside(dataDir string) error {
	from, to := filepath.Join(dataDir, raftDirectory), filepath.Join(dataDir, asideDirectory)
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("put raft state aside: %w", err)
	}
	if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put raft state aside: %w", err)
	}
	return durable.SyncDir(dataDir)
}

// clearUnbegun makes stores new again in which the making of a cluster was cut
// off between raft's first term and its first entry: raft takes the term for a
// cluster's, but nobody has been promised anything in it.
func (s *stores) clearUnbegun() error {
	last, err := s.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	taken, err := s.snapshots.List()
	if err != nil {
		return fmt.Errorf("read snapshots: %w", err)
	}
	term, _ := s.stable.GetUint64(currentTermKey) // no term is an error to raft
	if voted, _ := s.stable.GetUint64(lastVoteTermKey); last > 0 || len(taken) > 0 || term != 1 || voted > 0 {
		return nil
	}
	if err := s.stable.SetUint64(currentTermKey, 0); err != nil {
		return fmt.Errorf("begin the cluster anew: %w", err)
	}
	return nil
}

// sweepSnapshots removes what a crash left of unfinished snapshots.
func sweepSnapshots(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for unfinished snapshots: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), unfinishedSuffix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove unfinished snapshot: %w", err)
		}
	}
	return nil
}

// markDiffers makes a node's next start fail with ErrDiffers, until its raft state
// is put aside.
func markDiffers(c Config) error {
	if c.Parts != nil || c.InMemory {
		return nil
	}
	return mark(filepath.Join(c.DataDir, raftDirectory), differsMarker)
}

// markOutdated does the same with ErrOutdated.
func markOutdated(c Config) error {
	if c.Parts != nil || c.InMemory {
		return nil
	}
	return mark(filepath.Join(c.DataDir, raftDirectory), outdatedMarker)
}

// markLeft makes the data directory one that cannot be started again.
func markLeft(dir string) error {
	if err := mark(dir, leftMarker); err != nil {
		return fmt.Errorf("mark data directory as left: %w", err)
	}
	return nil
}

// mark makes an empty file that outlasts a crash.
func mark(dir, name string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), durable.SyncDir(dir))
}

// HasLeft reports whether the node of a data directory has left its cluster.
func HasLeft(dataDir string) bool {
	_, err := os.Stat(filepath.Join(dataDir, leftMarker))
	return err == nil
}
