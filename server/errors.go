package server

import (
	"errors"
	"fmt"

	"lockstep/fsm"
	"lockstep/server/enrol"
)

// DiskError is that a write to the node's disk failed. Started again, the node goes
// on from what the disk has, if it takes writes again.
type DiskError struct{ Reason error }

// Error implements error.
func (e DiskError) Error() string { return e.Reason.Error() }

// Unwrap returns the reason.
func (e DiskError) Unwrap() error { return e.Reason }

// diskError says what mends a failed write. others reports whether there are other
// nodes that have what this one acknowledged.
func diskError(dataDir string, others bool, err error) error {
	whose := "What was acknowledged is on that disk alone"
	if others {
		whose = "What was acknowledged is with the other nodes, too"
	}
	return DiskError{Reason: fmt.Errorf("%w. %s. See to the disk of %s, then start this node again", err, whose, dataDir)}
}

// stateError adds the mending command to a loss that the node does not mend
// itself.
func stateError(dataDir string, err error) error {
	switch {
	case errors.Is(err, fsm.ErrNewer):
		return enrol.StateError{Reason: fmt.Errorf("%w. Start the node with the release that it ran before, or a later one", err)}
	case !enrol.Lost(err):
		return enrol.StateError{Reason: err}
	}
	return enrol.StateError{Reason: fmt.Errorf("%w. To have the node come back in its own place, with the data of the others: %s", err, comeBack(dataDir))}
}

// comeBack is the command by which a node begins anew in its own place.
func comeBack(dataDir string) string {
	return "lockstep serve --data-dir " + dataDir + " --join URL_OF_ANOTHER_NODE --replace"
}
