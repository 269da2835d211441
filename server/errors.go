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

func diskError(dataDir string, err error) error {
	return DiskError{Reason: fmt.Errorf("%w. What was acknowledged is with the other nodes. See to the disk of %s, then start this node again", err, dataDir)}
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
