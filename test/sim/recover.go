package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"lockstep/cluster"
	"lockstep/server/backup"
)

// stableKeys are all that a node keeps in its stable store.
var stableKeys = []string{"NodeKey", "CurrentTerm", "LastVoteTerm", "LastVoteCand"}

// Recover has the cluster go on from one node, which is down, as lockstep recover
// does it: as another cluster of that node alone. All other disks are gone. The
// node's disk is written to a real directory for that, and read from it again.
func (c *Cluster) Recover(id, clusterID string, key [32]byte) error {
	dir, err := os.MkdirTemp("", "lockstep-sim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := c.disk(id)
	if err := d.save(dir); err != nil {
		return err
	}
	r, err := cluster.OpenRemains(cluster.Config{ID: id, Incarnation: d.incarnation, DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	incarnation, err := r.Recover(clusterID, key)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if err := cluster.FinishRecovery(dir); err != nil {
		return err
	}
	return c.begin(id, clusterID, incarnation, dir)
}

// Restore has another cluster, of one node alone, begin with a backup, as lockstep
// restore does it. All disks of the one that there was are gone.
func (c *Cluster) Restore(id, clusterID string, key [32]byte, content []byte) error {
	dir, err := os.MkdirTemp("", "lockstep-sim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := backup.Load(bytes.NewReader(content))
	if err != nil {
		return err
	}
	incarnation, err := cluster.Restore(cluster.Config{ID: id, DataDir: dir, Logger: slog.New(slog.DiscardHandler)}, b.State, clusterID, key)
	if err != nil {
		return err
	}
	if err := cluster.FinishRecovery(dir); err != nil {
		return err
	}
	return c.begin(id, clusterID, incarnation, dir)
}

// begin begins another cluster with one node, on a disk that has what a directory
// has.
func (c *Cluster) begin(id, clusterID, incarnation, dir string) error {
	d := newDisk(c.options.Rand, c.options.DiskLatency)
	d.incarnation = incarnation
	d.settled.Store(true)
	if err := d.load(dir); err != nil {
		return err
	}
	c.mu.Lock()
	c.disks = map[string]*Disk{id: d}
	c.clusterID = clusterID
	c.mu.Unlock()
	n, err := c.open(id, false)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-n.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sim: the first node is not ready: %s", c.describe())
	}
}

// nowhere is a transport that names peers in a form which nobody reads.
func nowhere() raft.Transport {
	_, t := raft.NewInmemTransport("")
	return t
}

// save writes a disk into a data directory, in the form in which a node keeps it.
func (d *Disk) save(dataDir string) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir := filepath.Join(dataDir, "raft")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "log.db"), NoSync: true, BoltOptions: &bbolt.Options{}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bolt.Close()) }()
	var entries []*raft.Log
	for _, e := range d.logs {
		entries = append(entries, &e)
	}
	if err := bolt.StoreLogs(entries); err != nil {
		return err
	}
	for key, value := range d.values {
		if err := bolt.Set([]byte(key), value); err != nil {
			return err
		}
	}
	files, err := raft.NewFileSnapshotStore(dir, retained, io.Discard)
	if err != nil {
		return err
	}
	for i := len(d.snapshots) - 1; i >= 0; i-- { // the newest last
		s := d.snapshots[i]
		sink, err := files.Create(s.meta.Version, s.meta.Index, s.meta.Term, s.meta.Configuration, s.meta.ConfigurationIndex, nowhere())
		if err != nil {
			return err
		}
		if _, err := sink.Write(s.content); err != nil {
			return err
		}
		if err := sink.Close(); err != nil {
			return err
		}
	}
	return nil
}

// load reads a data directory.
func (d *Disk) load(dataDir string) (err error) {
	dir := filepath.Join(dataDir, "raft")
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "log.db"), BoltOptions: &bbolt.Options{ReadOnly: true}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bolt.Close()) }()
	first, err := bolt.FirstIndex()
	if err != nil {
		return err
	}
	last, err := bolt.LastIndex()
	if err != nil {
		return err
	}
	for index := first; index > 0 && index <= last; index++ {
		var e raft.Log
		if err := bolt.GetLog(index, &e); err != nil {
			return err
		}
		d.put(e)
	}
	for _, key := range stableKeys {
		if value, err := bolt.Get([]byte(key)); err == nil { // else it is not there
			d.values[key] = value
		}
	}
	files, err := raft.NewFileSnapshotStore(dir, retained, io.Discard)
	if err != nil {
		return err
	}
	all, err := files.List()
	if err != nil {
		return err
	}
	for _, meta := range all {
		_, content, err := files.Open(meta.ID)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(content)
		if err := errors.Join(err, content.Close()); err != nil {
			return err
		}
		d.snapshots = append(d.snapshots, &snapshot{meta: *meta, content: b})
	}
	return nil
}
