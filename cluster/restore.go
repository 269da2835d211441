package cluster

import (
	"os"
	"path/filepath"

	"lockstep/fsm"
)

// Restore makes a state, a backup's, that of a new cluster of one node alone, and
// returns the node's incarnation in it. As with Remains.Recover, it is made beside
// what the data directory has, until FinishRecovery puts it in place, and goes on
// with other numbers than the old cluster can have come to. Of the configuration it
// takes ID, DataDir and Logger. The state is spent.
func Restore(config Config, state *fsm.FSM, clusterID string, key [32]byte) (incarnation string, err error) {
	config = config.withDefaults()
	v := state.View()
	r := &Remains{
		LastIndex: v.Index(), LastTerm: v.Term(), Members: []Remnant{{ID: config.ID, Votes: true, Self: true}},
		dataDir: config.DataDir, logger: config.Logger, fsm: state,
	}
	return r.Recover(clusterID, key)
}

// HasState reports whether there is anything of a node in a data directory.
func HasState(dataDir string) bool {
	_, err := os.Lstat(filepath.Join(dataDir, raftDirectory))
	return err == nil
}
