package enrol

import (
	"encoding/hex"
	"errors"
	"slices"
	"sync"

	"lockstep/server/nodedir"
)

// Record is the node's record while the node runs: its own goroutines and
// operators' requests change it. What was changed is on disk.
type Record struct {
	dir string

	mu      sync.Mutex // held across the write of the file: writes follow one another
	content *nodedir.Record
}

// NewRecord returns one without content yet (see Set) of the data directory dir.
func NewRecord(dir string) *Record { return &Record{dir: dir} }

// Set gives it its first content.
func (r *Record) Set(content nodedir.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := content.Save(r.dir); err != nil {
		return err
	}
	r.content = &content
	return nil
}

// Copy returns the content as it is now.
func (r *Record) Copy() nodedir.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := *r.content
	c.Seeds, c.Peers = slices.Clone(c.Seeds), slices.Clone(c.Peers)
	return c
}

var errEarly = errors.New("the node's record is not complete yet")

// Change changes the content. It fails before Set.
func (r *Record) Change(f func(*nodedir.Record)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.content == nil {
		return errEarly
	}
	f(r.content)
	return r.content.Save(r.dir)
}

// MaxSeeds is how many gossip addresses are kept, the newest.
const MaxSeeds = 16

// AddSeed remembers where another member gossips, so that this node finds the
// others again when it starts.
func (r *Record) AddSeed(addr string) error {
	if addr == "" {
		return nil
	}
	return r.Change(func(r *nodedir.Record) {
		r.Seeds = slices.DeleteFunc(r.Seeds, func(s string) bool { return s == addr })
		r.Seeds = append(r.Seeds, addr)
		r.Seeds = r.Seeds[max(0, len(r.Seeds)-MaxSeeds):]
	})
}

// KeepKeys implements cluster.Config.KeepKeys. Before Set it fails, and is tried
// again.
func (r *Record) KeepKeys(key [32]byte, others [][32]byte) error {
	return r.Change(func(r *nodedir.Record) {
		r.ClusterKey, r.OtherKeys = hex.EncodeToString(key[:]), nil
		for _, k := range others {
			r.OtherKeys = append(r.OtherKeys, hex.EncodeToString(k[:]))
		}
	})
}
