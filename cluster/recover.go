package cluster

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"lockstep/cluster/durable"
	"lockstep/cluster/internal/journal"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/membership"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// A cluster whose quorum is lost for good goes on from what one survivor has,
// as another cluster. All that the survivor's log holds counts then, whether or
// not a majority had it, and what it does not hold is lost. The new cluster
// begins with the survivor alone, as another incarnation, under an id and a key
// that nobody else has: what is left of the old one can neither vote in it nor
// be taken for a member.
//
// The new state is made beside the old one, which nothing here writes to, and
// takes its place when it is whole (FinishRecovery).

const recoveredDirectory = "raft.recovered"

// ErrNoState: there is nothing in the data directory that a cluster could go on
// from.
var ErrNoState = errors.New("cluster: the data directory holds no cluster's state")

// Remains are what a node that does not run has of its cluster on its disk.
type Remains struct {
	ClusterID string    // as the state has it
	Members   []Remnant // by the newest configuration in its log
	LastIndex uint64    // of its log, or the snapshot before it
	LastTerm  uint64    // of that entry
	Time      time.Time // the stamp of the last write; zero before the first

	// NodeKey is the node's own key, with which members of the new cluster tell
	// those of the old one what became of it (Config.Past).
	NodeKey ed25519.PrivateKey

	dataDir string
	logger  *slog.Logger
	self    string
	term    uint64 // that the node has taken part in
	stores  *stores
	fsm     *fsm.FSM
}

// Remnant is a member by what is left on a disk.
type Remnant struct {
	ID           string
	InternalAddr string
	Votes        bool
	Self         bool // the node whose disk it is
}

// OpenRemains reads, and verifies, what a node has on its disk, and changes none
// of it. The node must not run. Of the configuration it takes ID, Incarnation,
// DataDir and Logger.
func OpenRemains(config Config) (_ *Remains, err error) {
	config = config.withDefaults()
	r := &Remains{dataDir: config.DataDir, logger: config.Logger, fsm: fsm.New(fsm.Config{})}
	if r.stores, err = openStoresToRead(config); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	var incarnation string
	if r.NodeKey, incarnation, err = readIncarnation(r.stores.stable, config.Incarnation); err != nil {
		return nil, err
	}
	r.self = string(member.ServerOf(config.ID, incarnation))
	r.term, _ = r.stores.stable.GetUint64(currentTermKey) // no term is an error to raft
	if err := r.stores.verify(); err != nil {
		return nil, err
	}
	configuration, err := r.replay()
	if err != nil {
		return nil, err
	}
	if len(configuration.Servers) == 0 {
		return nil, fmt.Errorf("%w: this node was never added to one", ErrNoState)
	}
	for _, s := range configuration.Servers {
		r.Members = append(r.Members, Remnant{
			ID: member.NodeOf(s.ID), InternalAddr: string(s.Address), Votes: s.Suffrage == raft.Voter, Self: string(s.ID) == r.self,
		})
	}
	view := r.fsm.View()
	r.ClusterID = view.ClusterID()
	if view.Time() > 0 {
		r.Time = time.UnixMilli(view.Time())
	}
	return r, nil
}

// Close releases the data directory.
func (r *Remains) Close() error { return r.stores.close() }

// openStoresToRead opens what openStores opens, without writing to it.
func openStoresToRead(c Config) (*stores, error) {
	if err := refuseLeft(c.DataDir); err != nil {
		return nil, err
	}
	dir := filepath.Join(c.DataDir, raftDirectory)
	log := filepath.Join(dir, logFile)
	if _, err := os.Stat(log); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing", ErrNoState, log)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: log, BoltOptions: &bbolt.Options{Timeout: lockTimeout, ReadOnly: true}})
	if err != nil {
		return nil, fmt.Errorf("open log %s (is another process using it?): %w", dir, err)
	}
	logs, err := journal.Read(dir, bolt)
	if err != nil {
		return nil, errors.Join(journalError(err), bolt.Close())
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, newRaftLogger(c.Logger))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots: %w", err), bolt.Close())
	}
	checked := &checkedLog{LogStore: logs}
	return &stores{logs: checked, checked: checked, stable: &checkedStable{StableStore: bolt}, snapshots: snapshots, close: bolt.Close}, nil
}

// replayed is how many entries are applied at a time.
const replayed = 256

// replay applies the newest snapshot and the whole log, and returns the newest
// configuration in them.
func (r *Remains) replay() (raft.Configuration, error) {
	var configuration raft.Configuration
	taken, err := r.stores.snapshots.List()
	if err != nil {
		return configuration, fmt.Errorf("%w: %w", ErrSnapshots, err)
	}
	good, err := r.stores.newestGood(taken)
	if good != nil {
		_, content, err := r.stores.snapshots.Open(good.ID)
		if err != nil {
			return configuration, fmt.Errorf("%w: %w", ErrSnapshots, err)
		}
		if err := r.fsm.Restore(content); err != nil {
			return configuration, fmt.Errorf("%w: %w", ErrSnapshots, err)
		}
		configuration, r.LastIndex, r.LastTerm = good.Configuration, good.Index, good.Term
	} else if err != nil {
		return configuration, fmt.Errorf("%w: %w", ErrSnapshots, err)
	}
	last, err := r.stores.logs.LastIndex()
	if err != nil {
		return configuration, fmt.Errorf("%w: last log entry: %w", ErrDamaged, err)
	}
	for r.LastIndex < last {
		batch := make([]*raft.Log, min(replayed, last-r.LastIndex))
		for i := range batch {
			batch[i] = new(raft.Log)
			if err := r.stores.logs.GetLog(r.LastIndex+1+uint64(i), batch[i]); err != nil {
				return configuration, err
			}
			if batch[i].Type == raft.LogConfiguration {
				configuration = raft.DecodeConfiguration(batch[i].Data)
			}
		}
		r.fsm.ApplyBatch(batch)
		newest := batch[len(batch)-1]
		r.LastIndex, r.LastTerm = newest.Index, newest.Term
	}
	return configuration, nil
}

// Recover makes the state of a new cluster, of this node alone, of what the
// remains hold, and returns the node's incarnation in it. The old state stands
// until FinishRecovery puts the new one in its place. The remains are spent.
func (r *Remains) Recover(clusterID string, key [32]byte) (incarnation string, err error) {
	at := slices.IndexFunc(r.Members, func(m Remnant) bool { return m.Self })
	if at < 0 {
		return "", fmt.Errorf("%w: by its own log this node is no member", ErrNoState)
	}
	index, term := r.LastIndex+1, max(r.term, r.LastTerm)+1
	if err := r.begin(index, term, clusterID, key); err != nil {
		return "", err
	}
	dir := filepath.Join(r.dataDir, recoveredDirectory)
	defer func() {
		if err != nil { // the disk may be full
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := os.RemoveAll(dir); err != nil { // of one that came to nothing
		return "", fmt.Errorf("clear %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make recovered state: %w", err)
	}
	node := r.Members[at]
	if incarnation, err = r.writeStable(dir, term); err != nil {
		return "", fmt.Errorf("write recovered state: %w", err)
	}
	alone := raft.Server{ID: member.ServerOf(node.ID, incarnation), Address: raft.ServerAddress(node.InternalAddr)}
	if alone.Address == "" { // it is announced by the node's start
		alone.Address = membership.Nowhere(alone.ID)
	}
	if err := r.writeSnapshot(dir, index, term, raft.Configuration{Servers: []raft.Server{alone}}); err != nil {
		return "", fmt.Errorf("write recovered state: %w", err)
	}
	if err := errors.Join(durable.SyncDir(dir), durable.SyncDir(r.dataDir)); err != nil {
		return "", fmt.Errorf("write recovered state: %w", err)
	}
	return incarnation, nil
}

// begin applies the first entry of the new cluster. It carries the time of the last
// entry of the old one. How long ago that was is found out by the first leader.
func (r *Remains) begin(index, term uint64, clusterID string, key [32]byte) error {
	last := r.fsm.View().Time()
	gap := fsm.GapAfter(0)
	if last > 0 { // there is something that can have been told
		gap = fsm.GapAfter(time.Now().UnixMilli() - last)
	}
	c := &fsm.Command{ID: commandid.New(), Op: &fsm.Recover{ClusterID: clusterID, Key: fsm.KeyIDOf(key), Gap: gap}}
	body, err := c.Encode()
	if err != nil {
		return fmt.Errorf("begin the new cluster: %w", err)
	}
	entry := &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: fsm.EncodeBatch(last, [][]byte{body})}
	for _, result := range r.fsm.Apply(entry).([]*fsm.Result) {
		if result.Err != nil {
			return fmt.Errorf("begin the new cluster: %w", result.Err)
		}
	}
	return nil
}

// writeStable makes a log without entries, with a key of the node's own and a
// term that nobody has voted in.
func (r *Remains) writeStable(dir string, term uint64) (incarnation string, err error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, logFile), BoltOptions: boltOptions()})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, bolt.Close()) }()
	stable := &checkedStable{StableStore: bolt}
	if err := stable.SetUint64(currentTermKey, term); err != nil {
		return "", err
	}
	_, incarnation, err = incarnate(stable, "")
	return incarnation, err
}

func (r *Remains) writeSnapshot(dir string, index, term uint64, configuration raft.Configuration) error {
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, newRaftLogger(r.logger))
	if err != nil {
		return err
	}
	state, err := r.fsm.Snapshot()
	if err != nil {
		return err
	}
	defer state.Release()
	_, nowhere := raft.NewInmemTransport("") // names peers in a form that nobody reads
	sink, err := snapshots.Create(raft.SnapshotVersionMax, index, term, configuration, index, nowhere)
	if err != nil {
		return err
	}
	return state.Persist(sink)
}

// FinishRecovery puts the state that Recover made in the place of the old one,
// which is kept beside (see PutAside). It may be repeated, and does nothing when
// it has been done.
func FinishRecovery(dataDir string) error {
	from, to := filepath.Join(dataDir, recoveredDirectory), filepath.Join(dataDir, raftDirectory)
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(to); err == nil { // else it was put aside, and must not be lost
		if err := PutAside(dataDir); err != nil {
			return err
		}
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("put recovered state in place: %w", err)
	}
	return durable.SyncDir(dataDir)
}
