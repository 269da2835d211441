package enrol

import (
	"errors"

	"lockstep/cluster"
	"lockstep/server/nodedir"
)

// StateError is why a node cannot go on with the data that it has, and what
// mends that.
type StateError struct{ Reason error }

// Error implements error.
func (e StateError) Error() string { return e.Reason.Error() }

// Unwrap returns the reason.
func (e StateError) Unwrap() error { return e.Reason }

// Lost reports whether what a node had on its disk is gone, cannot be trusted, led to
// another state than the others', or is of the past, so that it has to begin anew.
func Lost(err error) bool {
	_, recovered := errors.AsType[*cluster.RecoveredError](err)
	return recovered || errors.Is(err, cluster.ErrStateLost) || errors.Is(err, cluster.ErrDamaged) || errors.Is(err, cluster.ErrSnapshots) || errors.Is(err, cluster.ErrDiffers) || errors.Is(err, cluster.ErrOutdated)
}

// Outdated returns an error if the node was told that its cluster was recovered
// without it.
func Outdated(r *nodedir.Record) error {
	if r.RecoveredAs == "" {
		return nil
	}
	return &cluster.RecoveredError{Cluster: r.ClusterID, As: r.RecoveredAs}
}
