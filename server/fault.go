package server

import (
	"context"
	"errors"
	"fmt"

	"lockstep/cluster"
	"lockstep/server/nodedir"
)

// faultReason is what clients are told when this node's state may not be relied
// upon. The operator is told more.
const faultReason = "its state differs from that of other nodes"

// watchFault sends the connected clients to other nodes when this node's state may
// not be relied upon, and says what mends that.
func (n *node) watchFault(ctx context.Context) {
	for {
		changed, fault := n.cluster.Fault()
		if fault != nil {
			n.log.Error("clients are sent to other nodes", "reason", n.mending(fault))
			draining, cancel := context.WithTimeout(ctx, drainTime)
			n.durable.Drain()
			n.realtime.Drain(draining)
			cancel()
		} else {
			n.durable.Resume()
			n.realtime.Resume()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// failed is why the node must not go on. That its cluster was recovered without it
// is noted: it does not start again on what it has, whether or not anybody is
// there to tell it.
func (n *node) failed() error {
	err := n.cluster.Failure()
	if recovered, ok := errors.AsType[*cluster.RecoveredError](err); ok {
		err = errors.Join(err, n.record.Change(func(r *nodedir.Record) { r.RecoveredAs = recovered.As }))
	}
	if errors.Is(err, cluster.ErrDisk) {
		return diskError(n.config.DataDir, n.cluster.Replicated(), err)
	}
	return stateError(n.config.DataDir, err)
}

// mending adds to a fault of the state what mends it.
func (n *node) mending(fault error) error {
	switch {
	case errors.Is(fault, cluster.ErrDiffers):
		return fmt.Errorf("%w. To mend it, stop this node and have it come back with the data of the others: %s", fault, comeBack(n.config.DataDir))
	case errors.Is(fault, cluster.ErrUnsure):
		return fmt.Errorf("%w. It serves again by itself as soon as a majority says that it has the same. A node of a cluster of one looks after its start whether its disk leads there again; until then, wait", fault)
	case errors.Is(fault, cluster.ErrDisputed):
		return fmt.Errorf("%w. When the other nodes are back, a majority will. If there are none: lockstep verify shows who differs; lockstep leave ID takes out the node that is wrong", fault)
	}
	return fault
}
