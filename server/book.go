package server

import (
	"slices"
	"sync"

	"lockstep/server/nodedir"
)

// book is the node's record while the node runs: its own goroutines and
// operators' requests change it.
type book struct {
	dir string

	mu     sync.Mutex // held across the write of the file: writes follow one another
	record nodedir.Record
}

func (b *book) copy() nodedir.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.record
	r.Seeds, r.Peers = slices.Clone(r.Seeds), slices.Clone(r.Peers)
	return r
}

func (b *book) change(f func(*nodedir.Record)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.record)
	return b.record.Save(b.dir)
}

// maxSeeds is how many gossip addresses are kept, the newest.
const maxSeeds = 16

// addSeed remembers where another member gossips, so that this node finds the
// others again when it starts.
func (b *book) addSeed(addr string) error {
	if addr == "" {
		return nil
	}
	return b.change(func(r *nodedir.Record) {
		r.Seeds = slices.DeleteFunc(r.Seeds, func(s string) bool { return s == addr })
		r.Seeds = append(r.Seeds, addr)
		r.Seeds = r.Seeds[max(0, len(r.Seeds)-maxSeeds):]
	})
}
